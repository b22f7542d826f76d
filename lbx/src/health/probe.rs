//! What every check has in common: whom it asks, how its sockets are made, and what comes of it.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::BorrowedFd,
    time::Duration,
};

use super::failure::Failure;
use crate::desired::Target;

/// Whom a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aim {
    /// The real server's own address.
    pub rip: IpAddr,
    /// The VIP whose service is asked for.
    pub vip: IpAddr,
    /// Which of the two is asked on the real server.
    pub target: Target,
    /// The port.
    pub port: u16,
    /// The director's address towards the real server.
    pub source: IpAddr,
    /// The real server's MAC address.
    pub mac: [u8; 6],
    /// Time for the whole probe.
    pub timeout: Duration,
}

impl Aim {
    /// The address that is asked, as the real server sees it.
    #[must_use]
    pub const fn asked(&self) -> IpAddr {
        match self.target {
            Target::Vip => self.vip,
            Target::Rip => self.rip,
        }
    }

    /// What a socket connects to: always the RIP, so that the kernel finds the real server's MAC address.
    #[must_use]
    pub const fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.rip, self.port)
    }
}

/// A probe that passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// The weight that the real server asks for, where its check says one.
    pub weight: Option<u16>,
}

/// What a session must have seen for its probe to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Packets to the VIP, and answers from there; an ICMP error about them is an answer.
    BothWays,
    /// Packets to the VIP: nothing need have come back.
    Sent,
}

/// What came of a probe.
pub type Outcome = Result<Passed, Failure>;

/// Leads the packets of a socket to the VIP on the real server, and back.
///
/// A check makes an ordinary socket, [binds](Dialer::bind) it, connects it to [`Aim::peer`], talks, and at last asks
/// whether it has [really](Dialer::vouch) talked to the VIP.
pub trait Dialer: Send + Sync {
    /// Binds a new socket to the director's address and a port no other probe uses, and has its packets led to the VIP
    /// (where `aim.target` is the RIP: binds it only).
    ///
    /// # Errors
    /// No port is free, or the kernel refuses.
    fn bind(&self, socket: BorrowedFd<'_>, aim: &Aim) -> Result<(), Failure>;

    /// Whether packets of the session went to the VIP and, as far as `evidence` asks for it, came back from there.
    /// `local` is the socket's own address; the socket is still open.
    ///
    /// # Errors
    /// [`Failure::NotRewritten`].
    fn vouch(&self, local: SocketAddr, aim: &Aim, evidence: Evidence) -> Result<(), Failure>;
}

/// Probes the RIP alone: nothing is led anywhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

impl Dialer for Direct {
    fn bind(&self, _socket: BorrowedFd<'_>, _aim: &Aim) -> Result<(), Failure> {
        Ok(())
    }

    fn vouch(&self, _local: SocketAddr, _aim: &Aim, _evidence: Evidence) -> Result<(), Failure> {
        Ok(())
    }
}
