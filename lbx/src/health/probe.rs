//! What all checks have in common: the endpoint of a probe, how its sockets are bound, and its outcome.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::BorrowedFd,
    time::Duration,
};

use super::failure::ProbeFailure;
use crate::desired::CheckedAddress;

/// The addresses, port, MAC address and timeout of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeEndpoint {
    /// The real server's own address.
    pub rip: IpAddr,
    /// The VIP of the service.
    pub vip: IpAddr,
    /// Which of the two addresses is probed.
    pub target: CheckedAddress,
    /// The port.
    pub port: u16,
    /// The director's address towards the real server.
    pub source: IpAddr,
    /// The real server's MAC address.
    pub mac: [u8; 6],
    /// Timeout of the whole probe.
    pub timeout: Duration,
}

impl ProbeEndpoint {
    /// The address under test, as the real server sees it.
    #[must_use]
    pub const fn probed_address(&self) -> IpAddr {
        match self.target {
            CheckedAddress::Vip => self.vip,
            CheckedAddress::Rip => self.rip,
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
pub struct ProbeSuccess {
    /// The weight that the check reports, if it reports one.
    pub weight: Option<u16>,
}

/// The packets that a session must have seen for its probe to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequiredTraffic {
    /// Packets to the VIP, and replies from it; an ICMP error about them is a reply.
    BothWays,
    /// Packets to the VIP; no reply is required.
    Sent,
}

/// The outcome of a probe.
pub type Outcome = Result<ProbeSuccess, ProbeFailure>;

/// Steers the packets of a socket to the VIP on the real server, and the replies back.
///
/// A check makes an ordinary socket, [binds](ProbeSteering::bind) it, connects it to [`ProbeEndpoint::peer`], sends its request,
/// and at last [verifies](ProbeSteering::verify_steered) that the peer was the VIP.
pub trait ProbeSteering: Send + Sync {
    /// Binds a new socket to the director's address and a port that no other probe uses, and steers its packets to the VIP
    /// (if `endpoint.target` is the RIP: only binds it).
    ///
    /// # Errors
    /// No port is free, or the kernel refuses.
    fn bind(&self, socket: BorrowedFd<'_>, endpoint: &ProbeEndpoint) -> Result<(), ProbeFailure>;

    /// Verifies that packets of the session went to the VIP and, if `required`, came back from it. `local` is the socket's
    /// own address; the socket is still open.
    ///
    /// # Errors
    /// [`ProbeFailure::NotSteered`]; [`ProbeFailure::AnsweredFromRip`] if datagrams went to the VIP and none came from it.
    fn verify_steered(
        &self,
        local: SocketAddr,
        endpoint: &ProbeEndpoint,
        required: RequiredTraffic,
    ) -> Result<(), ProbeFailure>;
}

/// For probes of the RIP: no packet is steered.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSteering;

impl ProbeSteering for NoSteering {
    fn bind(&self, _socket: BorrowedFd<'_>, _endpoint: &ProbeEndpoint) -> Result<(), ProbeFailure> {
        Ok(())
    }

    fn verify_steered(
        &self,
        _local: SocketAddr,
        _endpoint: &ProbeEndpoint,
        _required: RequiredTraffic,
    ) -> Result<(), ProbeFailure> {
        Ok(())
    }
}
