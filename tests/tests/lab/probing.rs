//! Probes as the checks make them.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    time::Duration,
};

use anyhow::Result;
use lbx::{
    desired::CheckedAddress,
    health::{ProbeEndpoint, ProbeFailure, ProbeSteering as _, RequiredTraffic},
};
use lbx_tests::{
    lab::{DIP, VIP, rip, six},
    mac::Mac,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::prober::Prober;

/// How long a probe may take.
pub const TIMEOUT: Duration = Duration::from_millis(500);

/// A probe of the n-th real server.
pub fn endpoint(number: u8, port: u16) -> ProbeEndpoint {
    let rip = rip(number);
    ProbeEndpoint {
        rip: rip.into(),
        vip: VIP.into(),
        target: CheckedAddress::Vip,
        port,
        source: DIP.into(),
        mac: Mac::of(rip).0,
        timeout: TIMEOUT,
    }
}

/// The same over IPv6.
pub fn endpoint6(number: u8, port: u16) -> ProbeEndpoint {
    let to6 = |address: IpAddr| match address {
        IpAddr::V4(address) => six(address).into(),
        IpAddr::V6(_) => address,
    };
    let endpoint = endpoint(number, port);
    ProbeEndpoint {
        rip: to6(endpoint.rip),
        vip: to6(endpoint.vip),
        source: to6(endpoint.source),
        ..endpoint
    }
}

impl Prober {
    /// A socket that is led where the probe is to go.
    pub fn socket(&self, endpoint: &ProbeEndpoint, kind: Type) -> Result<Socket, ProbeFailure> {
        let protocol = if kind == Type::STREAM {
            Protocol::TCP
        } else {
            Protocol::UDP
        };
        let socket = Socket::new(Domain::for_address(endpoint.peer()), kind, Some(protocol))?;
        self.probes().bind(socket.as_fd(), endpoint)?;
        Ok(socket)
    }

    /// Asks for the page `/`, as a check would.
    pub fn page(&self, endpoint: &ProbeEndpoint) -> Result<Result<String, ProbeFailure>> {
        self.inside(|| {
            let page = self.fetch_bytes(endpoint)?;
            Ok(String::from_utf8_lossy(&page).trim_end().to_owned())
        })
    }

    /// Connects, and closes again.
    pub fn connect(&self, endpoint: &ProbeEndpoint) -> Result<(), ProbeFailure> {
        let socket = self.socket(endpoint, Type::STREAM)?;
        socket
            .connect_timeout(&endpoint.peer().into(), endpoint.timeout)
            .map_err(|error| timed_out(error, endpoint))?;
        let local = socket.local_addr()?.as_socket().ok_or(ProbeFailure::ConnectionClosed)?;
        self.probes().verify_steered(local, endpoint, RequiredTraffic::BothWays)
    }

    /// Sends a question as a datagram.
    pub fn ask(&self, endpoint: &ProbeEndpoint) -> Result<Result<String, ProbeFailure>> {
        self.inside(|| self.exchange(endpoint, b"question"))
    }

    /// Sends a datagram and waits for another.
    pub fn exchange(&self, endpoint: &ProbeEndpoint, question: &[u8]) -> Result<String, ProbeFailure> {
        let socket = self.socket(endpoint, Type::DGRAM)?;
        socket.connect(&endpoint.peer().into())?;
        let socket = UdpSocket::from(socket);
        socket.set_read_timeout(Some(endpoint.timeout))?;
        socket.send(question)?;
        let mut buffer = vec![0; 1 << 16];
        let length = socket.recv(&mut buffer).map_err(|error| timed_out(error, endpoint))?;
        self.probes()
            .verify_steered(socket.local_addr()?, endpoint, RequiredTraffic::BothWays)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// The body of the page `/`.
    pub fn fetch_bytes(&self, endpoint: &ProbeEndpoint) -> Result<Vec<u8>, ProbeFailure> {
        let socket = self.socket(endpoint, Type::STREAM)?;
        socket
            .connect_timeout(&endpoint.peer().into(), endpoint.timeout)
            .map_err(|error| timed_out(error, endpoint))?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(endpoint.timeout))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = Vec::new();
        stream
            .read_to_end(&mut answer)
            .map_err(|error| timed_out(error, endpoint))?;
        self.probes()
            .verify_steered(stream.local_addr()?, endpoint, RequiredTraffic::BothWays)?;
        let end = answer.windows(4).position(|end| end == b"\r\n\r\n");
        Ok(answer.split_off(end.map_or(0, |at| at + 4)))
    }
}

fn timed_out(error: std::io::Error, endpoint: &ProbeEndpoint) -> ProbeFailure {
    match error.kind() {
        std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock => ProbeFailure::TimedOut(endpoint.timeout),
        _ => error.into(),
    }
}
