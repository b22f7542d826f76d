//! The state the operator wants: validated, defaults resolved, nothing left to guess.

mod health;
mod ports;
mod scheduler;

use std::{collections::BTreeSet, fmt, net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

pub use self::{
    health::{
        Check, CheckedAddress, Damping, Dns, Exec, ExpectedBody, FailurePolicy, HealthConfig, Http, InitialState,
        NotifyCommand, NotifyTarget, OnEmpty, OnFailure, ServerState, Tls, Udp,
    },
    ports::PortSet,
    scheduler::{HashOptions, Scheduler, SchedulerFlagNames, UnknownScheduler},
};

/// The desired state of one director.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredState {
    /// NICs where clients' traffic arrives; VIPs are put on the first.
    pub interfaces: Vec<String>,
    /// How the program is attached.
    pub mode: AttachMode,
    /// Seconds for which a real server whose route is gone, while its NIC stands, keeps its connections.
    pub network_grace_seconds: u16,
    /// Idle timeouts of all services.
    pub timeouts: Timeouts,
    /// Sizes of the kernel's tables.
    pub tables: TableSizes,
    /// Services in the order of the file; no two share VIP, protocol and port, no two share a name.
    pub services: Vec<Service>,
}

/// How the program is attached to the NICs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachMode {
    /// Native where every NIC can, else generic on all, with the reason logged.
    #[default]
    Auto,
    /// Native or an error.
    Native,
    /// Generic (the kernel runs the program after it has built an skb): any NIC, slower.
    Generic,
}

impl fmt::Display for AttachMode {
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
    pub half_open_seconds: u16,
    /// TCP established.
    pub established_seconds: u16,
    /// FIN seen.
    pub closing_seconds: u16,
    /// RST seen.
    pub closed_seconds: u16,
    /// UDP.
    pub udp_seconds: u16,
}

impl Default for Timeouts {
    /// The kernel's defaults for IPVS (net/netfilter/ipvs/ip_vs_proto_tcp.c and ip_vs_proto_udp.c, Linux 6.1).
    fn default() -> Self {
        Self {
            half_open_seconds: 60,
            established_seconds: 900,
            closing_seconds: 120,
            closed_seconds: 10,
            udp_seconds: 300,
        }
    }
}

/// How many entries the kernel's tables have room for. They are created once: a change takes effect when lbx starts with new tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSizes {
    /// Records of IPv4 flows: a power of two. Meant to be half full.
    pub flows4: u32,
    /// Records of IPv6 flows: a power of two.
    pub flows6: u32,
    /// Slots of all services together.
    pub slots: u32,
    /// Ports of all services together, every port of a range counted.
    pub ports: u32,
    /// Fragmented packets in flight at one time.
    pub fragments: u32,
}

impl TableSizes {
    /// Every size with its name in the configuration.
    #[must_use]
    pub const fn with_names(&self) -> [(&'static str, u32); 5] {
        [
            ("flows", self.flows4),
            ("flows6", self.flows6),
            ("slots", self.slots),
            ("ports", self.ports),
            ("fragments", self.fragments),
        ]
    }
}

impl Default for TableSizes {
    fn default() -> Self {
        use lbx_common::maps;
        Self {
            flows4: maps::DEFAULT_FLOW4_RECORDS,
            flows6: maps::DEFAULT_FLOW6_RECORDS,
            slots: maps::DEFAULT_SLOTS,
            ports: maps::DEFAULT_PORT_ENTRIES,
            fragments: maps::DEFAULT_FRAGMENTS,
        }
    }
}

/// A service and its real servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Name for the operator; unique in a director.
    pub name: String,
    /// Its identity: VIP, protocol and the first port in the file.
    pub virtual_service: VirtualService,
    /// Every port it has, that of `virtual_service` included.
    pub ports: PortSet,
    /// The scheduler of new connections.
    pub scheduler: Scheduler,
    /// What a hashing scheduler hashes, and whether it falls back.
    pub hash_options: HashOptions,
    /// Slots of its table, a prime; none: by the weights it starts with.
    pub slots: Option<u32>,
    /// Connections of one client stay together.
    pub persistence: Option<Persistence>,
    /// UDP: every datagram is scheduled by itself.
    pub one_packet: bool,
    /// The sorry server: gets new connections when no real server does.
    pub sorry_server: Option<IpAddr>,
    /// UDP: QUIC packets follow the server id in their connection id.
    pub quic: bool,
    /// How its real servers are checked; none: they count as up.
    pub health: Option<Arc<HealthConfig>>,
    /// What happens when they fail.
    pub failure_policy: FailurePolicy,
    /// Seconds after which connections of a real server that is out of the file are cut; none: never.
    pub drain_timeout_seconds: Option<u32>,
    /// The command or socket notified of health changes.
    pub notify: Option<NotifyTarget>,
    /// Whether the director itself can use the VIP.
    pub local_access: bool,
    /// Whether it waits for the first results of its checks: it gets no connections, not even by its sorry server. In the
    /// configuration it never does.
    pub awaits_checks: bool,
    /// Real servers in the order of the file, no address twice, all of the VIP's family.
    pub servers: Vec<RealServer>,
    /// Real servers that are out of the file, still have flows, and are down by their last health check. In the configuration
    /// it is always empty.
    pub failed_removed_servers: BTreeSet<IpAddr>,
}

/// Connections of one client, or of a network of clients, go to the same real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Persistence {
    /// Seconds after the last connection began.
    pub timeout_seconds: u16,
    /// Leading bits of the client's address that count: 32 (IPv4) or 128 (IPv6) for single clients.
    pub prefix: u8,
    /// Whether clients stay with a real server that drains.
    pub persist_while_draining: bool,
}

/// VIP, protocol and port: the identity of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub struct VirtualService {
    /// The VIP.
    pub vip: IpAddr,
    /// The port; 0: all.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl fmt::Display for VirtualService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { vip, port: 0, protocol } => write!(f, "{}:all/{protocol}", BracketedAddress(*vip)),
            Self { vip, port, protocol } => write!(f, "{}:{port}/{protocol}", BracketedAddress(*vip)),
        }
    }
}

/// An address as written before a colon and a port: an IPv6 one in brackets (RFC 3986 section 3.2.2).
#[derive(Clone, Copy, Debug)]
pub struct BracketedAddress(pub IpAddr);

impl fmt::Display for BracketedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(address) => write!(f, "[{address}]"),
        }
    }
}

/// A real server inside a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealServer {
    /// RIP.
    pub address: IpAddr,
    /// 0 drains: established flows stay, new ones go elsewhere.
    pub weight: u16,
    /// Connections at which it gets no more; 0: no limit.
    pub upper_threshold: u32,
    /// Connections below which it gets new ones again after it had `upper`; 0: three quarters of `upper`.
    pub lower_threshold: u32,
    /// Its server id in QUIC connection ids.
    pub quic_id: Option<u16>,
    /// Its state by its health checks.
    pub state: ServerState,
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

impl Service {
    /// Every address that may get its packets: the real servers' and the sorry server's.
    pub fn server_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let servers = self.servers.iter().map(|server| server.address);
        servers.chain(self.sorry_server)
    }

    /// Whether every flow gets a record: where the hash does not say where new connections go, and where connections must
    /// be counted exactly.
    #[must_use]
    pub fn records_all_flows(&self) -> bool {
        let limited = self.servers.iter().any(|server| server.upper_threshold != 0);
        !self.one_packet && (!self.scheduler.hashes() || self.persistence.is_some() || limited)
    }

    /// The names of the flags it has, in the order of ipvsadm.
    #[must_use]
    pub fn scheduler_flags(&self) -> Vec<&'static str> {
        let Some(SchedulerFlagNames { fallback, port }) = self.scheduler.flag_names() else {
            return Vec::new();
        };
        let named = [
            (self.hash_options.fallback, fallback),
            (self.hash_options.include_port, port),
        ];
        named
            .into_iter()
            .filter(|(is_set, _)| *is_set)
            .map(|(_, name)| name)
            .collect()
    }
}
