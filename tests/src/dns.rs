//! A real DNS server on a host: dnsmasq, with nothing of the system's.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use crate::{host::Host, process::Process};

/// The program; sbin is not in everybody's PATH.
pub const PROGRAM: &str = "/usr/sbin/dnsmasq";

/// The domain it knows all about: a name it has not heard of does not exist (NXDOMAIN). Other domains are refused.
pub const DOMAIN: &str = "example.org";

/// A DNS server on port 53 of all addresses of its host, by UDP and TCP.
#[derive(Debug)]
pub struct DnsServer {
    names: PathBuf,
    process: Process,
}

impl DnsServer {
    /// Starts it with one name, `www` in [`DOMAIN`], and waits until it answers.
    ///
    /// # Errors
    /// It is not installed or does not start; with its log.
    pub fn start(host: &Host, www: Ipv4Addr) -> Result<Self> {
        let names = host.directory().join("names");
        fs::write(&names, record(www)).with_context(|| format!("cannot write {}", names.display()))?;
        let (file, domain) = (
            format!("--addn-hosts={}", names.display()),
            format!("--local=/{DOMAIN}/"),
        );
        let alone = [
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--no-poll",
            "--pid-file=",
        ];
        let line = [
            PROGRAM,
            "--keep-in-foreground",
            "--log-facility=-",
            "--user=root",
            &file,
            &domain,
        ];
        let mut process = host.spawn("dnsmasq", line.iter().chain(&alone))?;
        process.wait_ready(Duration::from_secs(10), || host.enter(answers)?)?;
        Ok(Self { names, process })
    }

    /// Has `www` lead elsewhere, or nowhere.
    ///
    /// # Errors
    /// It has ended.
    pub fn rename(&self, www: Option<Ipv4Addr>) -> Result<()> {
        fs::write(&self.names, www.map(record).unwrap_or_default())?;
        self.process.signal(Signal::SIGHUP)
    }
}

fn record(www: Ipv4Addr) -> String {
    format!("{www} www.{DOMAIN}\n")
}

/// Whether anything comes back from port 53 of the host itself. Call it inside its namespace.
fn answers() -> Result<bool> {
    // RFC 1035: id, flags, one question, none of the others; the root's SOA.
    const QUESTION: &[u8] = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\0\0\x06\0\x01";
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect((Ipv4Addr::LOCALHOST, 53))?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    Ok(socket.send(QUESTION).is_ok() && socket.recv(&mut [0; 512]).is_ok())
}
