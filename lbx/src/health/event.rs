//! Health events: one line each in the log, and a notification each.

use std::{fmt, net::IpAddr};

use super::failure::Failure;
use crate::desired::VirtualService;

/// Something that health has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Where.
    pub service: VirtualService,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A real server is up.
    ServerUp {
        /// RIP.
        server: IpAddr,
        /// The weight it is to have, at the end of a slow start.
        weight: u16,
    },
    /// A real server is down.
    ServerDown {
        /// RIP.
        server: IpAddr,
        /// Why.
        reason: Failure,
    },
    /// A real server's check says another weight.
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
        /// What it takes.
        quorum: u32,
        /// Whether the sorry server gets new connections now.
        sorry: bool,
    },
}

impl What {
    /// The real server it is about, if it is about one.
    #[must_use]
    pub const fn real_server(&self) -> Option<IpAddr> {
        match *self {
            Self::ServerUp { server, .. } | Self::ServerDown { server, .. } | Self::Weight { server, .. } => {
                Some(server)
            }
            Self::QuorumGained { .. } | Self::QuorumLost { .. } => None,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::ServerUp { server, weight } => {
                write!(f, "real server {server} up: health checks pass, weight {weight}")
            }
            What::ServerDown { server, reason } => write!(f, "real server {server} down: {reason}"),
            What::Weight { server, from, to } => {
                write!(
                    f,
                    "real server {server}: weight reported by its check changed from {from} to {to}"
                )
            }
            What::QuorumGained { weight } => write!(
                f,
                "service up: quorum gained, real servers with a total weight of {weight} are up"
            ),
            What::QuorumLost { weight, quorum, sorry } => {
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
