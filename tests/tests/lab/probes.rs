//! Probes as the checks make them, against real servers: whether the VIP is what they reach, and nothing else.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::AsFd as _,
    time::Duration,
};

use anyhow::{Result, ensure};
use lbx::{
    desired::Target,
    health::{Aim, Dialer as _, Failure, probe::Evidence},
};
use lbx_tests::{
    by_hand,
    lab::{Lab, VIP, rip, six},
    nginx::Nginx,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::prober::Prober;

crate::harness::tests!(Lab:
    a_probe_reaches_the_vip_and_fails_without_it,
);

/// How long a probe may take.
const TIMEOUT: Duration = Duration::from_millis(500);

/// A probe of the n-th real server.
pub fn aim(number: u8, port: u16) -> Aim {
    let rip = rip(number);
    Aim {
        rip: rip.into(),
        vip: VIP.into(),
        target: Target::Vip,
        port,
        source: lbx_tests::lab::DIP.into(),
        mac: lbx_tests::mac::Mac::of(rip).0,
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
    fn socket(&self, aim: &Aim, kind: Type) -> Result<Socket, Failure> {
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
        self.inside(|| self.fetch(aim))
    }

    fn fetch(&self, aim: &Aim) -> Result<String, Failure> {
        let socket = self.socket(aim, Type::STREAM)?;
        socket
            .connect_timeout(&aim.peer().into(), aim.timeout)
            .map_err(|error| timed_out(error, aim))?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(aim.timeout))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .map_err(|error| timed_out(error, aim))?;
        self.probes().vouch(stream.local_addr()?, aim, Evidence::BothWays)?;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        Ok(body.trim_end().to_owned())
    }
}

fn timed_out(error: std::io::Error, aim: &Aim) -> Failure {
    match error.kind() {
        std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock => Failure::TimedOut(aim.timeout),
        _ => error.into(),
    }
}

/// A lab whose first real server serves the VIP, and a director without a daemon.
fn scene() -> Result<(Prober, Nginx)> {
    let lab = Lab::new()?;
    by_hand::make_real_server(lab.real_server(1), VIP)?;
    by_hand::make_real_server(lab.real_server(1), six(VIP))?;
    let nginx = Nginx::start(lab.real_server(1))?;
    Ok((Prober::start(lab, &["eth0"])?, nginx))
}

fn a_probe_reaches_the_vip_and_fails_without_it() -> Result<()> {
    let (prober, _nginx) = scene()?;
    let page = prober.page(&aim(1, 80))?;
    ensure!(page == Ok("rs1 nginx".to_owned()), "{page:?}");
    let _unused: Option<SocketAddr> = None;
    prober.lab.real_server(1).ip(&format!("address del {VIP}/32 dev lo"))?;
    let page = prober.page(&aim(1, 80))?;
    ensure!(page == Err(Failure::TimedOut(TIMEOUT)), "{page:?}");
    Ok(())
}
