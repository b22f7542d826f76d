//! Events of a plan: one log line each.

use std::{fmt, net::IpAddr};

use crate::desired::{OnFailure, Scheduler, VirtualService};

/// A change an operator wants to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableEvent {
    /// The service it is about.
    pub service: VirtualService,
    /// What happened.
    pub kind: TableEventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableEventKind {
    /// A service was added.
    ServiceAdded(Scheduler),
    /// A service was removed, and its flows with it.
    ServiceRemoved,
    /// New connections are scheduled by another scheduler.
    SchedulerChanged(Scheduler),
    /// A real server gets connections.
    ServerUp {
        /// RIP.
        server: IpAddr,
        /// Weight.
        weight: u16,
        /// MAC address.
        mac: [u8; 6],
    },
    /// A real server is down: its MAC address is no longer resolved.
    ServerUnresolved {
        /// RIP.
        server: IpAddr,
        /// What happens to its flows.
        on_failure: OnFailure,
    },
    /// A real server is down: its health checks fail.
    ServerFailed {
        /// RIP.
        server: IpAddr,
        /// What happens to its flows.
        on_failure: OnFailure,
    },
    /// A real server's weight changed.
    WeightChanged {
        /// RIP.
        server: IpAddr,
        /// Before.
        from: u16,
        /// Now.
        to: u16,
    },
    /// A real server was removed from the configuration: its flows stay, new ones go to others.
    Draining(IpAddr),
    /// The last flow of a drained real server is over.
    Drained(IpAddr),
    /// A real server has drained for longer than it may: flows that are left go to others.
    DrainTimeout(IpAddr),
    /// A real server's MAC address changed.
    MacChanged {
        /// RIP.
        server: IpAddr,
        /// Before.
        from: [u8; 6],
        /// Now.
        to: [u8; 6],
    },
}

/// What happens to the connections of a real server that is down.
const fn consequence(on_failure: OnFailure) -> &'static str {
    match on_failure {
        OnFailure::Rehash => "connections re-scheduled",
        OnFailure::Keep => "connections kept, new ones go to other real servers",
        OnFailure::Drop => "packets of its connections dropped until it is up, new ones go to other real servers",
    }
}

/// The protocol that resolves MAC addresses in the family of an address.
#[must_use]
pub const fn resolver(server: IpAddr) -> &'static str {
    match server {
        IpAddr::V4(_) => "ARP",
        IpAddr::V6(_) => "neighbour discovery",
    }
}

/// A MAC address as it is usually written.
#[must_use]
pub fn mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

impl TableEventKind {
    /// The real server it is about, if it is about one.
    #[must_use]
    pub const fn real_server(&self) -> Option<IpAddr> {
        match *self {
            Self::ServiceAdded(_) | Self::ServiceRemoved | Self::SchedulerChanged(_) => None,
            Self::ServerUp { server, .. }
            | Self::ServerUnresolved { server, .. }
            | Self::ServerFailed { server, .. }
            | Self::WeightChanged { server, .. }
            | Self::MacChanged { server, .. }
            | Self::Draining(server)
            | Self::Drained(server)
            | Self::DrainTimeout(server) => Some(server),
        }
    }
}

impl TableEvent {
    /// Logs it: as a warning where a real server is down, with `service` and `real_server` as fields.
    pub fn log(&self) {
        let Self { service, kind } = self;
        match (kind.real_server(), kind) {
            (None, _) => tracing::info!(%service, "{kind}"),
            (Some(real_server), TableEventKind::ServerUnresolved { .. } | TableEventKind::ServerFailed { .. }) => {
                tracing::warn!(%service, %real_server, "{kind}");
            }
            (Some(real_server), _) => tracing::info!(%service, %real_server, "{kind}"),
        }
    }
}

impl fmt::Display for TableEventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServiceAdded(scheduler) => write!(f, "service added, scheduler {scheduler}"),
            Self::ServiceRemoved => write!(f, "service removed"),
            Self::SchedulerChanged(scheduler) => write!(f, "scheduler changed to {scheduler}"),
            Self::ServerUp {
                server,
                weight,
                mac: address,
            } => write!(
                f,
                "real server {server} up: MAC address {}, weight {weight}",
                mac(*address)
            ),
            Self::ServerUnresolved { server, on_failure } => write!(
                f,
                "real server {server} down: {} unresolved; {}",
                resolver(*server),
                consequence(*on_failure)
            ),
            Self::ServerFailed { server, on_failure } => write!(
                f,
                "real server {server} down: health check failed; {}",
                consequence(*on_failure)
            ),
            Self::WeightChanged { server, from, to } => {
                write!(f, "real server {server}: weight changed from {from} to {to}")
            }
            Self::Draining(server) => write!(
                f,
                "real server {server} removed from the configuration: draining, no new connections"
            ),
            Self::Drained(server) => write!(f, "real server {server} drained: no connections left"),
            Self::DrainTimeout(server) => write!(
                f,
                "real server {server} drained: drain_timeout is over; connections left re-scheduled"
            ),
            Self::MacChanged { server, from, to } => write!(
                f,
                "real server {server}: MAC address changed from {} to {}",
                mac(*from),
                mac(*to)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_server_that_is_down_names_reason_and_consequence() {
        let down = |server: [u8; 4], on_failure| {
            let server = server.into();
            TableEventKind::ServerUnresolved { server, on_failure }.to_string()
        };
        assert_eq!(
            down([10, 0, 0, 7], OnFailure::Rehash),
            "real server 10.0.0.7 down: ARP unresolved; connections re-scheduled"
        );
        assert_eq!(
            down([10, 0, 0, 7], OnFailure::Keep),
            "real server 10.0.0.7 down: ARP unresolved; connections kept, new ones go to other real servers"
        );
    }

    #[test]
    fn ipv6_neighbours_are_not_resolved_by_arp() {
        let server = std::net::Ipv6Addr::LOCALHOST.into();
        let on_failure = OnFailure::Rehash;
        assert_eq!(
            TableEventKind::ServerUnresolved { server, on_failure }.to_string(),
            "real server ::1 down: neighbour discovery unresolved; connections re-scheduled"
        );
    }
}
