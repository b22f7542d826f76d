//! Notifications as lines of JSON, to a Unix datagram socket or a FIFO of another program. Nothing here waits: what cannot be
//! delivered at once is lost, and that is logged once until a notification is delivered again.

use std::{
    collections::HashMap,
    fs::{self, File, Metadata, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
        net::UnixDatagram,
    },
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::notification::Notification;

/// Bytes of a reason in a line; longer ones are cut. JSON may need six for one, and a line of up to 4,096 bytes is written to a
/// FIFO whole or not at all (`PIPE_BUF`, linux/limits.h).
const MAX_REASON: usize = 512;

/// A notification as a line of JSON. The fields are the variables of a command, in lower case; null if it is about nothing of this kind.
#[derive(Debug, Serialize)]
struct Line<'n> {
    event: &'static str,
    name: &'n str,
    service: Option<&'n str>,
    vip: Option<std::net::IpAddr>,
    port: Option<u16>,
    protocol: Option<crate::desired::Protocol>,
    rip: Option<std::net::IpAddr>,
    weight: Option<u16>,
    reason: Option<&'n str>,
    time: String,
}

/// The line of a notification, with its end.
fn line(notification: &Notification, director: &str) -> Vec<u8> {
    let (id, service) = notification.service.as_ref().map(|(id, name)| (id, name)).unzip();
    let line = Line {
        event: notification.event,
        name: director,
        service: service.map(String::as_str),
        vip: id.map(|id| id.vip),
        port: id.map(|id| id.port),
        protocol: id.map(|id| id.protocol),
        rip: notification.server,
        weight: notification.weight,
        reason: notification.reason.as_deref().map(shortened),
        time: notification.time(),
    };
    // Numbers and strings can always be written.
    let mut line = serde_json::to_vec(&line).unwrap_or_default();
    line.push(b'\n');
    line
}

fn shortened(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(MAX_REASON)]
}

/// Sends notifications to sockets and FIFOs.
#[derive(Debug)]
pub struct SocketNotifier {
    director: String,
    socket: Option<UnixDatagram>,
    /// FIFOs that were written to. They stay open: a reader sees the end of the file when its last writer closes it.
    fifos: HashMap<PathBuf, File>,
    /// Notifications lost since the last that was delivered, by path.
    lost: HashMap<PathBuf, u64>,
}

impl SocketNotifier {
    /// For the director of a name.
    #[must_use]
    pub fn new(director: &str) -> Self {
        Self {
            director: director.to_owned(),
            socket: None,
            fifos: HashMap::new(),
            lost: HashMap::new(),
        }
    }

    /// Delivers a notification to a path at once, or loses it.
    pub fn send(&mut self, path: &Path, notification: &Notification) {
        let line = line(notification, &self.director);
        let (socket, event) = (path.display(), notification.event);
        match self.deliver(path, &line) {
            Ok(()) => {
                if let Some(lost) = self.lost.remove(path) {
                    tracing::info!(%socket, event, "notify: delivered again, {lost} notifications were lost");
                }
            }
            Err(error) => {
                let lost = self.lost.entry(path.to_owned()).or_default();
                *lost += 1;
                if *lost == 1 {
                    let cause = cause(&error);
                    tracing::warn!(
                        %socket,
                        event,
                        "notify: notification lost ({cause}), and so are those that follow until the reader takes them"
                    );
                }
            }
        }
    }

    fn deliver(&mut self, path: &Path, line: &[u8]) -> io::Result<()> {
        let found = fs::metadata(path)?;
        if found.file_type().is_socket() {
            return self.socket()?.send_to(line, path).map(drop);
        }
        if !found.file_type().is_fifo() {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "neither a Unix socket nor a FIFO",
            ));
        }
        let written = self.fifo(path, &found)?.write_all(line);
        if written.is_err() {
            // Opened anew next time, if there is a reader.
            self.fifos.remove(path);
        }
        written
    }

    fn socket(&mut self) -> io::Result<&UnixDatagram> {
        if self.socket.is_none() {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            self.socket = Some(socket);
        }
        self.socket.as_ref().ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// The FIFO at a path: the one that is open, unless another has taken its place.
    fn fifo(&mut self, path: &Path, found: &Metadata) -> io::Result<&mut File> {
        let identity = |metadata: &Metadata| (metadata.dev(), metadata.ino());
        let is_open = self.fifos.get(path).is_some_and(|open| {
            open.metadata()
                .is_ok_and(|metadata| identity(&metadata) == identity(found))
        });
        if !is_open {
            let mut options = OpenOptions::new();
            let opened = options.write(true).custom_flags(libc::O_NONBLOCK).open(path)?;
            if !opened.metadata()?.file_type().is_fifo() {
                return Err(io::Error::new(ErrorKind::InvalidInput, "no longer a FIFO"));
            }
            self.fifos.insert(path.to_owned(), opened);
        }
        self.fifos.get_mut(path).ok_or_else(|| ErrorKind::NotFound.into())
    }
}

/// What an error means here.
fn cause(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT) => "there is no such socket or FIFO: start its reader".to_owned(),
        Some(libc::ECONNREFUSED | libc::ENXIO | libc::EPIPE) => "nobody reads: start the reader".to_owned(),
        Some(libc::EAGAIN | libc::ENOBUFS) => "full: its reader is too slow".to_owned(),
        Some(libc::EPROTOTYPE) => "no datagram socket: give a Unix datagram socket or a FIFO".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
