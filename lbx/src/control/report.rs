//! What `lbx list` shows: made by the daemon, printed by the client as a [table](super::table) or as JSON.

use std::{collections::BTreeMap, net::IpAddr, ops::RangeInclusive};

use serde::{Deserialize, Serialize};

use super::scheduling::Scheduling;
use crate::desired::Protocol;

/// The state of a director.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Version of the daemon.
    pub version: String,
    /// Its name.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// NICs the program is attached to.
    pub interfaces: Vec<Interface>,
    /// Records the flow table has room for.
    pub flow_capacity: u64,
    /// Live records.
    pub flow_records: u64,
    /// Services, by VIP, port and protocol.
    pub services: Vec<Service>,
    /// Dropped packets by reason, all reasons.
    pub drops: BTreeMap<String, u64>,
}

/// A NIC the program is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// `native`, `generic`, or `none` where another process detached the program.
    pub xdp_mode: String,
    /// What an operator should know of it besides.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name in the configuration.
    pub name: String,
    /// VIP.
    pub vip: IpAddr,
    /// The first port that the file gives; 0: all.
    pub port: u16,
    /// Every port, in ranges; none: all.
    #[serde(default)]
    pub ports: Vec<RangeInclusive<u16>>,
    /// Protocol.
    pub protocol: Protocol,
    /// How it schedules; no level of its own in JSON.
    #[serde(flatten)]
    pub scheduling: Scheduling,
    /// The number of its slots, if the file says it.
    #[serde(default)]
    pub slots: Option<u32>,
    /// The sorry server: it gets new connections while no real server is available.
    #[serde(default)]
    pub sorry_server: Option<IpAddr>,
    /// Whether QUIC packets follow the server id in their connection id.
    #[serde(default)]
    pub quic: bool,
    /// What its real servers are asked, if anything.
    #[serde(default)]
    pub health_check: Option<String>,
    /// Whether enough of its real servers are up.
    #[serde(default = "yes")]
    pub has_quorum: bool,
    /// What an operator should know of it besides.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Its connections are estimated: not every flow has a record. Not those of one-packet scheduling, which end with their
    /// datagram.
    pub connections_estimated: bool,
    /// What it has carried.
    pub traffic: Traffic,
    /// Its real servers, in the order of the file, then those that drain.
    pub servers: Vec<RealServer>,
}

/// A daemon that says nothing of a quorum has none to lose.
const fn yes() -> bool {
    true
}

/// A real server of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealServer {
    /// RIP.
    pub address: IpAddr,
    /// Weight.
    pub weight: u16,
    /// Connections at which it gets no more; 0: no limit.
    #[serde(default)]
    pub upper_threshold: u32,
    /// Connections below which it gets new ones again; 0: three quarters of `upper`.
    #[serde(default)]
    pub lower_threshold: u32,
    /// Its server id in QUIC connection ids.
    #[serde(default)]
    pub quic_id: Option<u16>,
    /// Whether it takes part.
    pub state: ServerState,
    /// Why it is down.
    #[serde(default)]
    pub reason: Option<String>,
    /// Seconds until its connections are cut, if it is out of the file and there is a `drain_timeout`.
    #[serde(default)]
    pub drain_seconds_left: Option<u32>,
    /// The weight it is scheduled by: another than its own while it is down, starts slowly or asks for another.
    #[serde(default)]
    pub effective_weight: Option<u16>,
    /// What an operator should know of it besides.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Its MAC address, where known.
    pub mac: Option<String>,
    /// The NIC it is reached by, where known.
    pub interface: Option<String>,
    /// Established connections.
    pub active_connections: u64,
    /// Half-open and closing connections; UDP: flows.
    pub inactive_connections: u64,
    /// What it has carried.
    pub traffic: Traffic,
}

/// Whether a real server takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerState {
    /// It gets connections as its weight says.
    Up,
    /// Weight 0, or no longer in the file: it keeps its connections and gets no new ones.
    Draining,
    /// Its MAC address is not known: it gets nothing.
    Unresolved,
    /// Its checks fail: it gets no new connections.
    Down,
    /// The sorry server: it gets new connections while no real server is available.
    Sorry,
}

/// Counters since the service was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// New connections scheduled; UDP: flows recorded, or datagrams with one-packet scheduling.
    pub connections: u64,
    /// Packets sent on.
    pub packets: u64,
    /// Their bytes from the IP header on.
    pub bytes: u64,
}

impl From<lbx_common::counters::Traffic> for Traffic {
    fn from(traffic: lbx_common::counters::Traffic) -> Self {
        Self {
            connections: traffic.connections,
            packets: traffic.packets,
            bytes: traffic.bytes,
        }
    }
}
