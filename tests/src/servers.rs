//! Small servers in Rust: who answers is told by what they say.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{host::Host, wait};

/// How often a waiting thread looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(100);

/// A TCP server that says the name of its host in a line, then sends back what it gets.
#[derive(Debug)]
pub struct TcpServer {
    listener: TcpListener,
    taken: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TcpServer {
    /// Listens on all addresses of the host, of both families.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(host: &Host, port: u16) -> Result<Self> {
        let name = host.name().to_owned();
        Self::launch(host, port, move |stream, stop| {
            let (name, stop) = (name.clone(), Arc::clone(stop));
            // It ends with the connection, or soon after the server.
            thread::spawn(move || serve(stream, &name, &stop));
        })
    }

    /// Listens likewise, but says nothing and closes every connection at once: cheap where there are thousands.
    ///
    /// # Errors
    /// The port is taken.
    pub fn open_door(host: &Host, port: u16) -> Result<Self> {
        Self::launch(host, port, |stream, _| drop(stream))
    }

    /// Connections it has taken so far.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    fn launch(host: &Host, port: u16, take: impl Fn(TcpStream, &Arc<AtomicBool>) + Send + 'static) -> Result<Self> {
        let listener = host
            .enter(|| listen(port))?
            .with_context(|| format!("cannot listen on port {port} of {}", host.name()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let taken = Arc::new(AtomicU64::new(0));
        let thread = thread::spawn({
            let (listener, stop, taken) = (listener.try_clone()?, Arc::clone(&stop), Arc::clone(&taken));
            move || {
                for stream in listener.incoming().take_while(|_| !stop.load(Ordering::Relaxed)) {
                    let Ok(stream) = stream else { continue };
                    taken.fetch_add(1, Ordering::Relaxed);
                    take(stream, &stop);
                }
            }
        });
        Ok(Self {
            listener,
            taken,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for the next connection.
        socket2::SockRef::from(&self.listener)
            .shutdown(std::net::Shutdown::Both)
            .ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0).into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// Greets and echoes until the client is gone or the server stops. What goes wrong is the client's to notice.
fn serve(mut stream: TcpStream, name: &str, stop: &AtomicBool) {
    let mut buffer = [0; 4096];
    if stream.set_read_timeout(Some(LOOK)).is_err() || stream.write_all(format!("{name}\n").as_bytes()).is_err() {
        return;
    }
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) if stream.write_all(&buffer[..length]).is_ok() => {}
            Err(error) if is_time_out(&error) => {}
            _ => return,
        }
    }
}

/// A UDP server that sends back what it gets, after the name of its host.
#[derive(Debug)]
pub struct UdpServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpServer {
    /// Listens on one address of the host: replies come from there (from a wildcard socket they would come from the
    /// real server's own address, not from the VIP).
    ///
    /// # Errors
    /// The address is not the host's, or the port is taken.
    pub fn start(host: &Host, address: impl Into<SocketAddr>) -> Result<Self> {
        let address = address.into();
        // A program that another thread has just forked off holds a socket closed before until it is executed.
        let free = || match host.enter(|| UdpSocket::bind(address))? {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Ok(None),
            bound => Ok(Some(bound)),
        };
        let socket = wait::until(Duration::from_secs(1), "the port is free", free)?
            .with_context(|| format!("cannot listen on {address} on {}", host.name()))?;
        socket.set_read_timeout(Some(LOOK))?;
        let stop = Arc::new(AtomicBool::new(false));
        let name = host.name().to_owned();
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut buffer = vec![0; 1 << 16];
                while !stop.load(Ordering::Relaxed) {
                    let Ok((length, client)) = socket.recv_from(&mut buffer) else {
                        continue;
                    };
                    let answer = [name.as_bytes(), b" ", &buffer[..length]].concat();
                    socket.send_to(&answer, client).ok();
                }
            }
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for UdpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Whether a read ended because nothing came in time.
pub(crate) fn is_time_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
