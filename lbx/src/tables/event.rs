//! What there is to tell about a plan: one line each in the log.

use std::{fmt, net::IpAddr};

use crate::desired::{OnFailure, Scheduler, VirtualService};

/// Something an operator wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Where.
    pub service: VirtualService,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A service begins.
    ServiceAdded(Scheduler),
    /// A service ends, its flows with it.
    ServiceRemoved,
    /// New connections are scheduled differently.
    SchedulerChanged(Scheduler),
    /// A real server takes part.
    ServerUp {
        /// RIP.
        server: IpAddr,
        /// Weight.
        weight: u16,
        /// MAC address.
        mac: [u8; 6],
    },
    /// A real server has no MAC address any more: it has failed.
    ServerUnresolved {
        /// RIP.
        server: IpAddr,
        /// What becomes of its flows.
        on_failure: OnFailure,
    },
    /// A real server has failed its checks.
    ServerFailed {
        /// RIP.
        server: IpAddr,
        /// What becomes of its flows.
        on_failure: OnFailure,
    },
    /// A real server's weight is another.
    Weight {
        /// RIP.
        server: IpAddr,
        /// Before.
        from: u16,
        /// Now.
        to: u16,
    },
    /// A real server was taken out of the file: its flows stay, new ones go elsewhere.
    Draining(IpAddr),
    /// The last flow of a drained real server is over.
    Drained(IpAddr),
    /// A real server's MAC address is another.
    MacChanged {
        /// RIP.
        server: IpAddr,
        /// Before.
        from: [u8; 6],
        /// Now.
        to: [u8; 6],
    },
}

/// What becomes of the flows of a real server that has failed.
const fn then(on_failure: OnFailure) -> &'static str {
    match on_failure {
        OnFailure::Rehash => "its flows go elsewhere",
        OnFailure::Keep => "its flows stay, new ones go elsewhere",
        OnFailure::Drop => "its packets are dropped until it is back, new flows go elsewhere",
    }
}

/// A MAC address as it is usually written.
#[must_use]
pub fn mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.service)?;
        match &self.kind {
            EventKind::ServiceAdded(scheduler) => write!(f, "service added, scheduler {scheduler}"),
            EventKind::ServiceRemoved => write!(f, "service removed"),
            EventKind::SchedulerChanged(scheduler) => write!(f, "scheduler is now {scheduler}"),
            EventKind::ServerUp {
                server,
                weight,
                mac: address,
            } => {
                write!(f, "real server {server} up at {}, weight {weight}", mac(*address))
            }
            EventKind::ServerUnresolved { server, on_failure } => {
                write!(f, "real server {server} lost: no MAC address, {}", then(*on_failure))
            }
            EventKind::ServerFailed { server, on_failure } => {
                write!(f, "real server {server} failed its checks, {}", then(*on_failure))
            }
            EventKind::Weight { server, from, to } => write!(f, "real server {server} weight {from} -> {to}"),
            EventKind::Draining(server) => write!(f, "real server {server} removed: draining"),
            EventKind::Drained(server) => write!(f, "real server {server} drained"),
            EventKind::MacChanged { server, from, to } => {
                write!(f, "real server {server} moved from {} to {}", mac(*from), mac(*to))
            }
        }
    }
}
