//! A UDP flow that never pauses: a datagram every few milliseconds from one port, to whoever answers.

use std::{
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{host::Host, wait};

/// Between two datagrams.
const PAUSE: Duration = Duration::from_millis(20);

/// A flow to a [`UdpServer`](crate::servers::UdpServer), until it is dropped.
#[derive(Debug)]
pub struct DatagramStream {
    stop: Arc<AtomicBool>,
    /// The server that answered last, and when.
    last: Arc<Mutex<Option<(String, Instant)>>>,
    thread: Option<JoinHandle<()>>,
}

impl DatagramStream {
    /// Begins a flow from a host, and waits until a server answers.
    ///
    /// # Errors
    /// No server answers within five seconds.
    pub fn begin(client: &Host, target: SocketAddrV4) -> Result<Self> {
        let socket = client.enter(|| -> Result<UdpSocket> {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            // Connected: answers from another address than the VIP do not count.
            socket.connect(target)?;
            socket.set_read_timeout(Some(PAUSE))?;
            Ok(socket)
        })??;
        let (stop, last) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
        let thread = thread::spawn({
            let (stop, last) = (Arc::clone(&stop), Arc::clone(&last));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Some(server) = exchange(&socket) {
                        *last.lock().unwrap_or_else(PoisonError::into_inner) = Some((server, Instant::now()));
                    }
                }
            }
        });
        let stream = Self {
            stop,
            last,
            thread: Some(thread),
        };
        wait::until_true(Duration::from_secs(5), "a server answers", || {
            Ok(stream.last().is_some())
        })?;
        Ok(stream)
    }

    /// The server that answered last.
    ///
    /// # Errors
    /// No server has answered for a second.
    pub fn server(&self) -> Result<String> {
        let (server, at) = self.last().context("no server has answered")?;
        ensure!(
            at.elapsed() < crate::patience::scaled(Duration::from_secs(1)),
            "the last answer was {:?} ago, of {server}",
            at.elapsed()
        );
        Ok(server)
    }

    /// Waits until a server answers that is another one than this.
    ///
    /// # Errors
    /// None does in time.
    pub fn wait_other(&self, server: &str, limit: Duration) -> Result<()> {
        let what = format!("the flow leaves {server}");
        wait::until_true(limit, &what, || Ok(self.last().is_some_and(|(last, _)| last != server)))
    }

    fn last(&self) -> Option<(String, Instant)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Sends a datagram; the server that answers, if one does before the next is due.
fn exchange(socket: &UdpSocket) -> Option<String> {
    let due = Instant::now() + PAUSE;
    let mut buffer = [0; 64];
    // An ICMP error is no answer.
    let answer = socket
        .send(b"stream")
        .and_then(|_| socket.recv(&mut buffer))
        .ok()
        .and_then(|length| {
            Some(
                std::str::from_utf8(&buffer[..length])
                    .ok()?
                    .split_once(' ')?
                    .0
                    .to_owned(),
            )
        });
    thread::sleep(due.saturating_duration_since(Instant::now()));
    answer
}

impl Drop for DatagramStream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
