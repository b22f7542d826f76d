//! How probes make their sockets, wait on them, and leave nothing behind.

use std::{
    io,
    net::{self, IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt;
use hyper_util::rt::TokioIo;
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt,
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UdpSocket},
    time::{Instant, timeout_at},
};

use crate::health::{
    failure::ProbeFailure,
    probe::{Outcome, ProbeEndpoint, ProbeSteering, RequiredTraffic},
};

/// When a probe must be done.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    whole: Duration,
}

impl Deadline {
    /// The end of a probe that begins now.
    #[must_use]
    pub fn starting_now(endpoint: &ProbeEndpoint) -> Self {
        Self {
            at: Instant::now() + endpoint.timeout,
            whole: endpoint.timeout,
        }
    }

    /// What `work` comes to in time.
    ///
    /// # Errors
    /// Those of `work`; `late` with the whole timeout when it is over.
    pub async fn run_with_timeout<T>(
        self,
        late: fn(Duration) -> ProbeFailure,
        work: impl Future<Output = Result<T, ProbeFailure>>,
    ) -> Result<T, ProbeFailure> {
        match timeout_at(self.at, work).await {
            Ok(result) => result,
            Err(_) => Err(late(self.whole)),
        }
    }
}

/// A probe's way to the address that it asks, from its own.
pub struct Session<'a> {
    endpoint: &'a ProbeEndpoint,
    steering: &'a dyn ProbeSteering,
    local: SocketAddr,
    /// When the probe must be done.
    pub deadline: Deadline,
}

impl<'a> Session<'a> {
    /// Begins a TCP connection; [`Session::wait_connected`] waits for it.
    ///
    /// # Errors
    /// There is no socket, port or route.
    pub fn tcp(
        endpoint: &'a ProbeEndpoint,
        steering: &'a dyn ProbeSteering,
    ) -> Result<(Self, TcpStream), ProbeFailure> {
        let fd = dialled(endpoint, steering, SockType::Stream)?;
        let stream = TcpStream::from_std(net::TcpStream::from(fd)).map_err(ProbeFailure::from_local_error)?;
        // The socket goes by a reset: TIME_WAIT would use up the ports.
        stream.set_zero_linger().map_err(ProbeFailure::from_local_error)?;
        Ok((
            Self::new(
                endpoint,
                steering,
                stream.local_addr().map_err(ProbeFailure::from_local_error)?,
            ),
            stream,
        ))
    }

    /// A UDP socket whose packets go to the address under test, and which reports ICMP errors about them.
    ///
    /// # Errors
    /// There is no socket, port or route.
    pub fn udp(
        endpoint: &'a ProbeEndpoint,
        steering: &'a dyn ProbeSteering,
    ) -> Result<(Self, UdpSocket), ProbeFailure> {
        let fd = dialled(endpoint, steering, SockType::Datagram)?;
        enable_recverr(&fd, endpoint.rip).map_err(ProbeFailure::from_local_error)?;
        let socket = UdpSocket::from_std(net::UdpSocket::from(fd)).map_err(ProbeFailure::from_local_error)?;
        Ok((
            Self::new(
                endpoint,
                steering,
                socket.local_addr().map_err(ProbeFailure::from_local_error)?,
            ),
            socket,
        ))
    }

    fn new(endpoint: &'a ProbeEndpoint, steering: &'a dyn ProbeSteering, local: SocketAddr) -> Self {
        Self {
            endpoint,
            steering,
            local,
            deadline: Deadline::starting_now(endpoint),
        }
    }

    /// Waits until the connection is made.
    ///
    /// # Errors
    /// It is not.
    pub async fn wait_connected(&self, stream: &TcpStream) -> Result<(), ProbeFailure> {
        let wait = async {
            stream.writable().await?;
            match stream.take_error()? {
                None => Ok(()),
                // The kernel has given up before us (net.ipv4.tcp_syn_retries).
                Some(error) if error.kind() == io::ErrorKind::TimedOut => {
                    Err(ProbeFailure::TimedOut(self.endpoint.timeout))
                }
                Some(error) => Err(error.into()),
            }
        };
        self.deadline.run_with_timeout(ProbeFailure::TimedOut, wait).await
    }

    /// Closes the socket of a probe that came to `outcome`.
    ///
    /// # Errors
    /// Those of [`ProbeSteering::verify_steered`] if the peer was not the VIP; else those of `outcome`.
    pub fn close<S>(self, socket: S, outcome: Outcome, required: RequiredTraffic) -> Outcome {
        let answered = outcome.as_ref().err().is_none_or(ProbeFailure::has_reply);
        if answered {
            self.steering.verify_steered(self.local, self.endpoint, required)?;
        }
        // Not before: as long as it is open no other probe has its port.
        drop(socket);
        outcome
    }
}

/// A socket that is bound and connected; TCP may still be at it.
fn dialled(endpoint: &ProbeEndpoint, steering: &dyn ProbeSteering, kind: SockType) -> Result<OwnedFd, ProbeFailure> {
    let fd = new_nonblocking(endpoint.rip, kind, None).map_err(ProbeFailure::from_local_error)?;
    steering.bind(fd.as_fd(), endpoint)?;
    start_connect(&fd, endpoint.peer())?;
    Ok(fd)
}

/// A new socket for an address' family: does not block, and is no command's.
///
/// # Errors
/// Those of socket(2).
pub fn new_nonblocking(address: IpAddr, kind: SockType, protocol: Option<SockProtocol>) -> io::Result<OwnedFd> {
    let family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(family, kind, flags, protocol)?)
}

/// Connects, or begins to.
///
/// # Errors
/// Those of connect(2).
pub fn start_connect(fd: &OwnedFd, peer: SocketAddr) -> io::Result<()> {
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(peer)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes a connectionless socket report every ICMP error, not only fatal ones (ip(7), `IP_RECVERR`).
///
/// # Errors
/// Those of setsockopt(2).
pub fn enable_recverr(fd: &OwnedFd, address: IpAddr) -> io::Result<()> {
    match address {
        IpAddr::V4(_) => setsockopt(fd, sockopt::Ipv4RecvErr, &true)?,
        IpAddr::V6(_) => setsockopt(fd, sockopt::Ipv6RecvErr, &true)?,
    }
    Ok(())
}

/// A connection of hyper that only [`Session::close`] ends. hyper shuts down its half of one that will not be used
/// again; where the server does the same, TIME_WAIT would be here in spite of the reset.
pub struct WithoutShutdown<T>(TokioIo<T>);

impl<T> WithoutShutdown<T> {
    /// A connection for hyper.
    pub fn new(io: T) -> Self {
        Self(TokioIo::new(io))
    }
}

impl<T: AsyncRead + Unpin> rt::Read for WithoutShutdown<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> rt::Write for WithoutShutdown<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
