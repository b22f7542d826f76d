//! What a guest prints on its console, of which only the runner's part is shown.

use std::{
    fs::File,
    io::{self, Read, Write as _},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// The line before what the runner prints.
pub const BEGIN: &str = "=== lbx: the runner begins";
/// The line after it.
pub const END: &str = "=== lbx: the runner has ended";

/// How long a guest may take to switch itself off once its runner has ended.
const POWER_OFF: Duration = Duration::from_secs(30);

/// How long a guest may take.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Until its script begins.
    pub boot: Duration,
    /// Until it has ended.
    pub total: Duration,
}

/// The console of a guest: reads what is between [`BEGIN`] and [`END`] and keeps everything in a log.
pub struct Console {
    chunks: Receiver<Vec<u8>>,
    log: File,
    started: Instant,
    limits: Limits,
    part: Purpose,
    /// Of the line that is not complete yet.
    line: Vec<u8>,
    /// For the reader.
    ready: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Boot,
    Runner,
    End,
}

impl Console {
    /// A console that is read from `output`; everything goes to `log` too.
    pub fn new(mut output: impl Read + Send + 'static, log: File, limits: Limits) -> Self {
        let (sender, chunks) = mpsc::channel();
        // Apart, because a guest that hangs prints nothing and closes nothing.
        thread::spawn(move || {
            let mut chunk = [0; 8192];
            while let Ok(size @ 1..) = output.read(&mut chunk) {
                if sender.send(chunk[..size].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            chunks,
            log,
            started: Instant::now(),
            limits,
            part: Purpose::Boot,
            line: Vec::new(),
            ready: Vec::new(),
        }
    }

    /// Whether the script has begun.
    pub fn has_begun(&self) -> bool {
        self.part != Purpose::Boot
    }

    /// The next chunk; none when the guest has gone.
    fn chunk(&self) -> io::Result<Option<Vec<u8>>> {
        let (limit, what) = match self.part {
            Purpose::Boot => (self.limits.boot.min(self.limits.total), "boot"),
            Purpose::Runner => (self.limits.total, "end"),
            Purpose::End => return Ok(self.chunks.recv_timeout(POWER_OFF).ok()),
        };
        let left = limit.saturating_sub(self.started.elapsed());
        match self.chunks.recv_timeout(left) {
            Ok(chunk) => Ok(Some(chunk)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the guest did not {what} within {} s", limit.as_secs()),
            )),
        }
    }

    fn take(&mut self, byte: u8) {
        match byte {
            b'\r' => {}
            b'\n' => self.end_line(),
            _ => {
                self.line.push(byte);
                // Shown at once, unless it may become the last line.
                if self.part == Purpose::Runner && !END.as_bytes().starts_with(&self.line) {
                    self.ready.append(&mut self.line);
                }
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        match self.part {
            Purpose::Boot if line.ends_with(BEGIN.as_bytes()) => self.part = Purpose::Runner,
            Purpose::Runner if line == END.as_bytes() => self.part = Purpose::End,
            Purpose::Runner => {
                self.ready.extend(line);
                self.ready.push(b'\n');
            }
            Purpose::Boot | Purpose::End => {}
        }
    }
}

impl Read for Console {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() {
            let Some(chunk) = self.chunk()? else {
                return Ok(0);
            };
            self.log.write_all(&chunk)?;
            chunk.into_iter().for_each(|byte| self.take(byte));
        }
        let size = buffer.len().min(self.ready.len());
        buffer[..size].copy_from_slice(&self.ready[..size]);
        self.ready.drain(..size);
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(200);

    /// The console of a guest that prints this and then ends, or hangs.
    fn console(prints: &[&str], hangs: bool, boot: Duration) -> Console {
        let (output, mut guest) = io::pipe().unwrap();
        let prints = prints.concat().replace("BEGIN", BEGIN).replace("END", END);
        thread::spawn(move || {
            guest.write_all(prints.as_bytes()).unwrap();
            thread::sleep(if hangs { SHORT * 10 } else { Duration::ZERO });
        });
        let log = File::options().write(true).open("/dev/null").unwrap();
        let total = boot.saturating_mul(2);
        Console::new(output, log, Limits { boot, total })
    }

    #[test]
    fn only_what_the_runner_prints_is_shown() {
        let prints = ["booting\r\nBEGIN\r\n=== a test ... ", "ok\r\nEND\r\npower down\n"];
        let mut console = console(&prints, false, LONG);
        let mut shown = String::new();
        console.read_to_string(&mut shown).unwrap();
        assert_eq!(shown, "=== a test ... ok\n");
        assert!(console.has_begun());
    }

    #[test]
    fn a_guest_that_does_not_boot_is_an_error() {
        let mut silent = console(&["booting\n"], true, SHORT);
        let error = silent.read_to_string(&mut String::new()).unwrap_err();
        assert!(
            error.to_string().starts_with("the guest did not boot within"),
            "{error}"
        );
    }

    #[test]
    fn a_guest_that_hangs_is_an_error() {
        let mut silent = console(&["BEGIN\ntest"], true, SHORT);
        let error = silent.read_to_string(&mut String::new()).unwrap_err();
        assert!(error.to_string().starts_with("the guest did not end within"), "{error}");
    }

    #[test]
    fn a_guest_that_dies_shows_what_it_printed() {
        let mut dead = console(&["BEGIN\n", "test one"], false, LONG);
        let mut shown = String::new();
        dead.read_to_string(&mut shown).unwrap();
        assert_eq!(shown, "test one");
    }
}
