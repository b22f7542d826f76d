//! Health events: each is one log line and one notification.

use std::{fmt, net::IpAddr, time::Duration};

use super::failure::ProbeFailure;
use crate::desired::VirtualService;

/// A change of a service's or a real server's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthEvent {
    /// The service.
    pub service: VirtualService,
    /// What changed.
    pub kind: HealthEventKind,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthEventKind {
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
        reason: ProbeFailure,
    },
    /// A new service begins without a real server: its first check has not ended in time.
    FirstCheckOverdue {
        /// RIP.
        server: IpAddr,
        /// For how long the service has waited.
        after: Duration,
    },
    /// A real server's check reports another weight.
    WeightChanged {
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

impl HealthEventKind {
    /// The real server; none for events of the whole service.
    #[must_use]
    pub const fn real_server(&self) -> Option<IpAddr> {
        match *self {
            Self::ServerUp { server, .. }
            | Self::ServerDown { server, .. }
            | Self::FirstCheckOverdue { server, .. }
            | Self::WeightChanged { server, .. } => Some(server),
            Self::QuorumGained { .. } | Self::QuorumLost { .. } => None,
        }
    }
}

impl fmt::Display for HealthEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            HealthEventKind::ServerUp { server, weight } => {
                write!(f, "real server {server} up: health checks pass, weight {weight}")
            }
            HealthEventKind::ServerDown { server, reason } => write!(f, "real server {server} down: {reason}"),
            HealthEventKind::FirstCheckOverdue { server, after } => write!(
                f,
                "real server {server}: first health check without a result after {after:?}; the service begins without it"
            ),
            HealthEventKind::WeightChanged { server, from, to } => {
                write!(
                    f,
                    "real server {server}: weight reported by its check changed from {from} to {to}"
                )
            }
            HealthEventKind::QuorumGained { weight } => write!(
                f,
                "service up: quorum gained, real servers with a total weight of {weight} are up"
            ),
            HealthEventKind::QuorumLost { weight, quorum, sorry } => {
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
