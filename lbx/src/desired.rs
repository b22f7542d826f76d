//! The state the operator wants: validated, defaults resolved, nothing left to guess.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

/// Everything one director is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// NICs where clients' traffic arrives; VIPs are put on the first.
    pub interfaces: Vec<String>,
    /// How the program is attached.
    pub mode: Mode,
    /// Idle timeouts of all services.
    pub timeouts: Timeouts,
    /// Services in the order of the file; no two share VIP, protocol and port, no two share a name.
    pub services: Vec<Service>,
}

/// How the program is attached to the NICs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Native where every NIC can, else generic on all, with the reason logged.
    #[default]
    Auto,
    /// Native or an error.
    Native,
    /// Generic (the kernel runs the program after it has built an skb): any NIC, slower.
    Generic,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

/// Idle timeouts of a flow in seconds, by what was last seen of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// SYN seen, nothing since.
    pub half_open: u16,
    /// TCP established.
    pub established: u16,
    /// FIN seen.
    pub closing: u16,
    /// RST seen.
    pub closed: u16,
    /// UDP.
    pub udp: u16,
}

impl Default for Timeouts {
    /// The kernel's defaults for IPVS (net/netfilter/ipvs/ip_vs_proto_tcp.c and ip_vs_proto_udp.c, Linux 6.1).
    fn default() -> Self {
        Self {
            half_open: 60,
            established: 900,
            closing: 120,
            closed: 10,
            udp: 300,
        }
    }
}

/// A service and its real servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Name for the operator; unique in a director.
    pub name: String,
    /// What clients connect to.
    pub virtual_service: VirtualService,
    /// Who chooses the real server of a new connection.
    pub scheduler: Scheduler,
    /// Real servers in the order of the file, no address twice.
    pub servers: Vec<RealServer>,
}

/// VIP, protocol and port: what a service is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub struct VirtualService {
    /// The VIP.
    pub vip: Ipv4Addr,
    /// The port, 1 to 65,535.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl fmt::Display for VirtualService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.vip, self.port, self.protocol)
    }
}

/// A real server inside a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealServer {
    /// RIP.
    pub address: Ipv4Addr,
    /// 0 drains: established flows stay, new ones go elsewhere.
    pub weight: u16,
}

/// Transport protocol of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// IANA protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => lbx_common::service::TCP,
            Self::Udp => lbx_common::service::UDP,
        }
    }

    /// The protocol of an IANA number, if lbx balances it.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            lbx_common::service::TCP => Some(Self::Tcp),
            lbx_common::service::UDP => Some(Self::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Who chooses the real server of a new connection. The codes are what the service map holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Scheduler {
    /// Round robin: every usable real server in turn.
    #[default]
    Rr = 1,
    /// Weighted round robin: in turn, as often as the weight says, evenly interleaved.
    Wrr = 2,
    /// Consistent hashing of client address and port (Eisenbud et al., "Maglev", NSDI 2016).
    Maglev = 3,
}

impl Scheduler {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 3] = [Self::Rr, Self::Wrr, Self::Maglev];

    /// Its name in the configuration and in listings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Maglev => "maglev",
        }
    }

    /// The scheduler of a code in the service map.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|scheduler| *scheduler as u8 == code)
    }

    /// Whether every flow gets a record, so that connections are counted exactly.
    #[must_use]
    pub const fn records_all(self) -> bool {
        matches!(self, Self::Rr | Self::Wrr)
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scheduler {
    type Err = UnknownScheduler;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|scheduler| scheduler.name() == name)
            .ok_or_else(|| UnknownScheduler(name.to_owned()))
    }
}

/// A name no scheduler has.
#[derive(Debug, thiserror::Error)]
#[error("unknown scheduler {0:?}: lbx knows {known}", known = Scheduler::ALL.map(Scheduler::name).join(", "))]
pub struct UnknownScheduler(pub String);
