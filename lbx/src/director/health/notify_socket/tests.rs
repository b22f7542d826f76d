use std::{
    io::Read as _,
    os::unix::net::UnixListener,
    sync::atomic::{AtomicU32, Ordering},
};

use nix::{sys::stat::Mode, unistd::mkfifo};

use super::{super::notification::tests::server_down, *};

/// `PIPE_BUF`.
const MAX_LINE: usize = 4096;

/// A directory of a test's own; removed with it.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lbx-notify-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn fifo(&self) -> PathBuf {
        let path = self.file("fifo");
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

fn down() -> Notification {
    server_down("web \"1\"")
}

const DOWN: &str = "{\"event\":\"server_down\",\"name\":\"main\",\"service\":\"web \\\"1\\\"\",\"vip\":\"192.0.2.1\",\"port\":80,\
                    \"protocol\":\"tcp\",\"rip\":\"10.0.0.2\",\"weight\":3,\"reason\":\"connection refused\",\
                    \"time\":\"1970-01-02T00:00:00Z\"}\n";

fn reader(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap()
}

#[test]
fn a_line_has_what_a_command_has() {
    assert_eq!(String::from_utf8(line(&down(), "main")).unwrap(), DOWN);
    let start = line(&Notification::for_director("director_start"), "main");
    let start: serde_json::Value = serde_json::from_slice(&start).unwrap();
    let about = ["service", "vip", "port", "protocol", "rip", "weight", "reason"];
    assert!(about.iter().all(|field| start[field].is_null()), "{start}");
    let long = Notification {
        reason: Some("ü".repeat(100_000)),
        ..down()
    };
    assert!(line(&long, "main").len() <= MAX_LINE);
    let controls = Notification {
        reason: Some("\0".repeat(100_000)),
        ..down()
    };
    assert!(line(&controls, "main").len() <= MAX_LINE);
}

#[test]
fn a_datagram_socket_gets_a_line_each() {
    let directory = Directory::new();
    let path = directory.file("socket");
    let reader = UnixDatagram::bind(&path).unwrap();
    let mut notifier = SocketNotifier::new("main");
    for _ in 0..2 {
        notifier.send(&path, &down());
        let mut datagram = [0; MAX_LINE];
        let length = reader.recv(&mut datagram).unwrap();
        assert_eq!(&datagram[..length], DOWN.as_bytes());
    }
}

#[test]
fn a_fifo_gets_lines_and_its_reader_no_end() {
    let directory = Directory::new();
    let path = directory.fifo();
    let mut reader = reader(&path);
    let mut notifier = SocketNotifier::new("main");
    let mut lines = [0; MAX_LINE];
    for _ in 0..2 {
        notifier.send(&path, &down());
        notifier.send(&path, &down());
        let length = reader.read(&mut lines).unwrap();
        assert_eq!(&lines[..length], [DOWN, DOWN].concat().as_bytes());
        let end = reader.read(&mut lines).unwrap_err();
        assert_eq!(end.kind(), ErrorKind::WouldBlock, "the writer is still there");
    }
}

/// Readers that are not there, do not read, have gone or are something else: nothing blocks, and the next that reads gets what comes then.
#[test]
fn what_cannot_be_delivered_is_lost() {
    let directory = Directory::new();
    let mut notifier = SocketNotifier::new("main");
    let lost = |notifier: &mut SocketNotifier, path: &Path, times: u64| {
        let before = notifier.lost.get(path).copied().unwrap_or_default();
        for _ in 0..times {
            notifier.send(path, &down());
        }
        notifier.lost.get(path).copied().unwrap_or_default() - before
    };
    assert_eq!(lost(&mut notifier, &directory.file("none"), 2), 2);
    let plain = directory.file("plain");
    fs::write(&plain, "").unwrap();
    assert_eq!(lost(&mut notifier, &plain, 1), 1);
    assert_eq!(fs::read(&plain).unwrap(), b"", "a file is not written to");
    let stream = directory.file("stream");
    let _listener = UnixListener::bind(&stream).unwrap();
    assert_eq!(lost(&mut notifier, &stream, 1), 1);

    let socket = directory.file("socket");
    let slow = UnixDatagram::bind(&socket).unwrap();
    let full = lost(&mut notifier, &socket, 10_000);
    assert!((1..10_000).contains(&full), "{full} lost");
    drop(slow);
    assert_eq!(lost(&mut notifier, &socket, 1), 1, "nobody reads");
    fs::remove_file(&socket).unwrap();
    let _next = UnixDatagram::bind(&socket).unwrap();
    notifier.send(&socket, &down());
    assert!(!notifier.lost.contains_key(&socket));

    let fifo = directory.fifo();
    assert_eq!(lost(&mut notifier, &fifo, 1), 1, "nobody reads");
    let slow = reader(&fifo);
    notifier.send(&fifo, &down());
    assert!(!notifier.lost.contains_key(&fifo));
    let full = lost(&mut notifier, &fifo, 10_000);
    assert!((1..10_000).contains(&full), "{full} lost");
    drop(slow);
    assert_eq!(lost(&mut notifier, &fifo, 1), 1, "nobody reads");
    let _next = reader(&fifo);
    notifier.send(&fifo, &down());
    assert!(!notifier.lost.contains_key(&fifo));
}

#[test]
fn a_fifo_that_takes_the_place_of_another_is_opened() {
    let directory = Directory::new();
    let path = directory.fifo();
    let _old = reader(&path);
    let mut notifier = SocketNotifier::new("main");
    notifier.send(&path, &down());
    fs::remove_file(&path).unwrap();
    directory.fifo();
    let mut new = reader(&path);
    notifier.send(&path, &down());
    let mut lines = String::new();
    let _would_block = new.read_to_string(&mut lines);
    assert_eq!(lines, DOWN);
}

#[test]
fn causes_are_in_words() {
    let of = |number| cause(&io::Error::from_raw_os_error(number));
    assert_eq!(of(libc::ENOENT), "there is no such socket or FIFO: start its reader");
    assert_eq!(of(libc::EPIPE), "nobody reads: start the reader");
    assert_eq!(of(libc::EAGAIN), "full: its reader is too slow");
    assert_eq!(
        of(libc::EPROTOTYPE),
        "no datagram socket: give a Unix datagram socket or a FIFO"
    );
    assert!(of(libc::EACCES).contains("ermission"));
}
