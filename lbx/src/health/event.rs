//! Health events: each is one log line and one notification.

use std::{fmt, net::IpAddr, time::Duration};

use super::failure::Failure;
use crate::desired::VirtualService;

/// A change of a service's or a real server's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The service.
    pub service: VirtualService,
    /// What changed.
    pub kind: EventKind,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A real server is up.
    ServerUp {
        /// RIP.
        server: IpAddr,
        /// Its weight; after slow start, if there is one.
        weight: u16,
    },
    /// A real server is down.
    ServerDown {
        /// RIP.
        server: IpAddr,
        /// Why.
        reason: Failure,
    },
    /// A new service begins without a real server: its first check has not ended in time.
    FirstCheckOverdue {
        /// RIP.
        server: IpAddr,
        /// For how long the service has waited.
        after: Duration,
    },
    /// A real server's check reports another weight.
    Weight {
        /// RIP.
        server: IpAddr,
        /// Before.
        from: u16,
        /// Now.
        to: u16,
    },
    /// The service is up: enough real servers are.
    QuorumGained {
        /// Sum of their weights.
        weight: u32,
    },
    /// The service is down: too few real servers are up.
    QuorumLost {
        /// Sum of their weights.
        weight: u32,
        /// The quorum.
        quorum: u32,
        /// Whether new connections go to the sorry server now.
        sorry: bool,
    },
}

impl EventKind {
    /// The real server; none for events of the whole service.
    #[must_use]
    pub const fn real_server(&self) -> Option<IpAddr> {
        match *self {
            Self::ServerUp { server, .. }
            | Self::ServerDown { server, .. }
            | Self::FirstCheckOverdue { server, .. }
            | Self::Weight { server, .. } => Some(server),
            Self::QuorumGained { .. } | Self::QuorumLost { .. } => None,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            EventKind::ServerUp { server, weight } => {
                write!(f, "real server {server} up: health checks pass, weight {weight}")
            }
            EventKind::ServerDown { server, reason } => write!(f, "real server {server} down: {reason}"),
            EventKind::FirstCheckOverdue { server, after } => write!(
                f,
                "real server {server}: first health check without a result after {after:?}; the service begins without it"
            ),
            EventKind::Weight { server, from, to } => {
                write!(
                    f,
                    "real server {server}: weight reported by its check changed from {from} to {to}"
                )
            }
            EventKind::QuorumGained { weight } => write!(
                f,
                "service up: quorum gained, real servers with a total weight of {weight} are up"
            ),
            EventKind::QuorumLost { weight, quorum, sorry } => {
                let then = if *sorry {
                    "; new connections go to the sorry server"
                } else {
                    ""
                };
                write!(
                    f,
                    "service down: quorum lost, real servers with a total weight of {weight} are up, {quorum} needed{then}"
                )
            }
        }
    }
}
