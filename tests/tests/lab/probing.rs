//! Probes as the checks make them.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    time::Duration,
};

use anyhow::Result;
use lbx::{
    desired::Target,
    health::{Aim, Dialer as _, Evidence, Failure},
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
pub fn aim(number: u8, port: u16) -> Aim {
    let rip = rip(number);
    Aim {
        rip: rip.into(),
        vip: VIP.into(),
        target: Target::Vip,
        port,
        source: DIP.into(),
        mac: Mac::of(rip).0,
        timeout: TIMEOUT,
    }
}

/// The same over IPv6.
pub fn aim6(number: u8, port: u16) -> Aim {
    let to6 = |address: IpAddr| match address {
        IpAddr::V4(address) => six(address).into(),
        IpAddr::V6(_) => address,
    };
    let aim = aim(number, port);
    Aim {
        rip: to6(aim.rip),
        vip: to6(aim.vip),
        source: to6(aim.source),
        ..aim
    }
}

impl Prober {
    /// A socket that is led where the probe is to go.
    pub fn socket(&self, aim: &Aim, kind: Type) -> Result<Socket, Failure> {
        let protocol = if kind == Type::STREAM {
            Protocol::TCP
        } else {
            Protocol::UDP
        };
        let socket = Socket::new(Domain::for_address(aim.peer()), kind, Some(protocol))?;
        self.probes().bind(socket.as_fd(), aim)?;
        Ok(socket)
    }

    /// Asks for the page `/`, as a check would.
    pub fn page(&self, aim: &Aim) -> Result<Result<String, Failure>> {
        self.inside(|| {
            let page = self.fetch_bytes(aim)?;
            Ok(String::from_utf8_lossy(&page).trim_end().to_owned())
        })
    }

    /// Connects, and closes again.
    pub fn connect(&self, aim: &Aim) -> Result<(), Failure> {
        let socket = self.socket(aim, Type::STREAM)?;
        socket
            .connect_timeout(&aim.peer().into(), aim.timeout)
            .map_err(|error| timed_out(error, aim))?;
        let local = socket.local_addr()?.as_socket().ok_or(Failure::Closed)?;
        self.probes().vouch(local, aim, Evidence::BothWays)
    }

    /// Sends a question as a datagram.
    pub fn ask(&self, aim: &Aim) -> Result<Result<String, Failure>> {
        self.inside(|| self.exchange(aim, b"question"))
    }

    /// Sends a datagram and waits for another.
    pub fn exchange(&self, aim: &Aim, question: &[u8]) -> Result<String, Failure> {
        let socket = self.socket(aim, Type::DGRAM)?;
        socket.connect(&aim.peer().into())?;
        let socket = UdpSocket::from(socket);
        socket.set_read_timeout(Some(aim.timeout))?;
        socket.send(question)?;
        let mut buffer = vec![0; 1 << 16];
        let length = socket.recv(&mut buffer).map_err(|error| timed_out(error, aim))?;
        self.probes().vouch(socket.local_addr()?, aim, Evidence::BothWays)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// The body of the page `/`.
    pub fn fetch_bytes(&self, aim: &Aim) -> Result<Vec<u8>, Failure> {
        let socket = self.socket(aim, Type::STREAM)?;
        socket
            .connect_timeout(&aim.peer().into(), aim.timeout)
            .map_err(|error| timed_out(error, aim))?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(aim.timeout))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map_err(|error| timed_out(error, aim))?;
        self.probes().vouch(stream.local_addr()?, aim, Evidence::BothWays)?;
        let end = answer.windows(4).position(|end| end == b"\r\n\r\n");
        Ok(answer.split_off(end.map_or(0, |at| at + 4)))
    }
}

fn timed_out(error: std::io::Error, aim: &Aim) -> Failure {
    match error.kind() {
        std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock => Failure::TimedOut(aim.timeout),
        _ => error.into(),
    }
}
