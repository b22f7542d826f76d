//! What there is to tell about a plan: one line each in the log.

use std::{fmt, net::IpAddr};

use crate::desired::{Scheduler, VirtualService};

/// Something an operator wants to know.
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
    /// A service begins.
    ServiceAdded(Scheduler),
    /// A service ends, its flows with it.
    ServiceRemoved,
    /// New connections are scheduled differently.
    Rescheduled(Scheduler),
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
    ServerLost(IpAddr),
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
    Moved {
        /// RIP.
        server: IpAddr,
        /// Before.
        from: [u8; 6],
        /// Now.
        to: [u8; 6],
    },
}

/// A MAC address as it is usually written.
#[must_use]
pub fn mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.service)?;
        match &self.what {
            What::ServiceAdded(scheduler) => write!(f, "service added, scheduler {scheduler}"),
            What::ServiceRemoved => write!(f, "service removed"),
            What::Rescheduled(scheduler) => write!(f, "scheduler is now {scheduler}"),
            What::ServerUp {
                server,
                weight,
                mac: address,
            } => {
                write!(f, "real server {server} up at {}, weight {weight}", mac(*address))
            }
            What::ServerLost(server) => write!(f, "real server {server} lost: no MAC address, its flows go elsewhere"),
            What::Weight { server, from, to } => write!(f, "real server {server} weight {from} -> {to}"),
            What::Draining(server) => write!(f, "real server {server} removed: draining"),
            What::Drained(server) => write!(f, "real server {server} drained"),
            What::Moved { server, from, to } => {
                write!(f, "real server {server} moved from {} to {}", mac(*from), mac(*to))
            }
        }
    }
}
