//! The state the operator wants: validated, defaults resolved, nothing left to guess.

use std::{fmt, net::IpAddr, ops::RangeInclusive, str::FromStr};

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
    /// Sizes of the kernel's tables.
    pub tables: TableSizes,
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

/// How many entries the kernel's tables have room for. They are made once: a change takes effect when lbx starts anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSizes {
    /// Records of IPv4 flows: a power of two. Half of them filled is what it is meant for.
    pub flows: u32,
    /// Records of IPv6 flows: a power of two.
    pub flows6: u32,
    /// Slots of all services together.
    pub slots: u32,
    /// Ports of all services together, every port of a range counted.
    pub ports: u32,
    /// Fragmented packets that are under way at one time.
    pub fragments: u32,
}

impl Default for TableSizes {
    fn default() -> Self {
        use lbx_common::maps;
        Self {
            flows: maps::FLOWS4_RECORDS,
            flows6: maps::FLOWS6_RECORDS,
            slots: maps::MAX_SLOTS,
            ports: maps::MAX_PORTS,
            fragments: maps::MAX_FRAGMENTS,
        }
    }
}

/// A service and its real servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Name for the operator; unique in a director.
    pub name: String,
    /// What it is known by: VIP, protocol and the first port the file gives.
    pub virtual_service: VirtualService,
    /// Every port it has, that of `virtual_service` included.
    pub ports: Ports,
    /// Who chooses the real server of a new connection.
    pub scheduler: Scheduler,
    /// What a hashing scheduler hashes, and what becomes of a hash whose real server gets nothing.
    pub hashing: Hashing,
    /// Slots of its table, a prime; none: by the weights it starts with.
    pub slots: Option<u32>,
    /// Connections of one client stay together.
    pub persistence: Option<Persistence>,
    /// UDP: every datagram is scheduled by itself.
    pub one_packet: bool,
    /// Who gets new connections when nobody else does.
    pub sorry_server: Option<IpAddr>,
    /// UDP: QUIC packets follow the server id in their connection id.
    pub quic: bool,
    /// Real servers in the order of the file, no address twice, all of the VIP's family.
    pub servers: Vec<RealServer>,
}

/// The ports of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Every port of the VIP that no other service of the protocol has.
    All,
    /// These: sorted, none in two ranges, no range empty, none touching the next; 0 in none.
    Some(Vec<RangeInclusive<u16>>),
}

impl Ports {
    /// One port.
    #[must_use]
    pub fn one(port: u16) -> Self {
        Self::Some(vec![port..=port])
    }

    /// The ports that an iterator gives; all, if 0 is among them.
    #[must_use]
    pub fn of(ports: impl IntoIterator<Item = u16>) -> Self {
        let mut ports: Vec<u16> = ports.into_iter().collect();
        ports.sort_unstable();
        ports.dedup();
        if ports.first() == Some(&0) {
            return Self::All;
        }
        let ranges = ports.chunk_by(|a, b| a.checked_add(1) == Some(*b));
        Self::Some(ranges.map(|run| run[0]..=run[run.len() - 1]).collect())
    }

    /// Each port; 0 stands for all.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        let ranges = match self {
            Self::All => &[0..=0],
            Self::Some(ranges) => ranges.as_slice(),
        };
        ranges.iter().cloned().flatten()
    }

    /// Whether a port is in both.
    #[must_use]
    pub fn meet(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, Self::All) => true,
            (Self::Some(ours), Self::Some(theirs)) => ours.iter().any(|our| {
                theirs
                    .iter()
                    .any(|their| our.start() <= their.end() && their.start() <= our.end())
            }),
            _ => false,
        }
    }

    /// How many there are, all of them counting as one.
    #[must_use]
    pub fn count(&self) -> u32 {
        match self {
            Self::All => 1,
            Self::Some(ranges) => ranges
                .iter()
                .map(|range| u32::from(*range.end()) - u32::from(*range.start()) + 1)
                .sum(),
        }
    }
}

/// What a hashing scheduler (sh, mh, maglev) hashes, and what becomes of a hash whose real server gets nothing. The
/// flags of IPVS: sh-port, mh-port, sh-fallback, mh-fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashing {
    /// The client's port besides its address.
    pub port: bool,
    /// Another real server takes over; otherwise new connections are dropped until it is back.
    pub fallback: bool,
}

/// Connections of one client, or of a network of clients, go to the same real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// Seconds after the last connection began.
    pub timeout: u16,
    /// Leading bits of the client's address that count: 32 (IPv4) or 128 (IPv6) for single clients.
    pub prefix: u8,
    /// Whether clients stay with a real server that drains.
    pub drain: bool,
}

/// VIP, protocol and port: what a service is known by.
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
            Self { vip, port: 0, protocol } => write!(f, "{vip}:all/{protocol}"),
            Self { vip, port, protocol } => write!(f, "{}/{protocol}", std::net::SocketAddr::new(*vip, *port)),
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
    pub upper: u32,
    /// Connections below which it gets new ones again after it had `upper`; 0: three quarters of `upper`.
    pub lower: u32,
    /// Its server id in QUIC connection ids.
    pub quic_id: Option<u16>,
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
    /// Consistent hashing of client address and port (Eisenbud et al., "Maglev", NSDI 2016): mh with mh-port and
    /// mh-fallback.
    Maglev = 3,
    /// The fewest connections.
    Lc = 4,
    /// The fewest connections for its weight.
    Wlc = 5,
    /// The shortest expected delay: active connections plus this one, for its weight.
    Sed = 6,
    /// Never queue: an idle one if there is any, else sed.
    Nq = 7,
    /// Hashing of the client's address.
    Sh = 8,
    /// Consistent hashing of the client's address.
    Mh = 9,
    /// Weighted failover: all to the usable one of the highest weight.
    Fo = 10,
    /// Overflow: the highest weight until it has as many active connections, then the next.
    Ovf = 11,
    /// Hashing of the VIP.
    Dh = 12,
    /// Power of two choices: the less loaded of two taken at random.
    P2c = 13,
}

impl Scheduler {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 13] = [
        Self::Rr,
        Self::Wrr,
        Self::Maglev,
        Self::Lc,
        Self::Wlc,
        Self::Sed,
        Self::Nq,
        Self::Sh,
        Self::Mh,
        Self::Fo,
        Self::Ovf,
        Self::Dh,
        Self::P2c,
    ];

    /// Its name in the configuration and in listings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Maglev => "maglev",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
            Self::Sed => "sed",
            Self::Nq => "nq",
            Self::Sh => "sh",
            Self::Mh => "mh",
            Self::Fo => "fo",
            Self::Ovf => "ovf",
            Self::Dh => "dh",
            Self::P2c => "p2c",
        }
    }

    /// The scheduler of a code in the service map.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|scheduler| *scheduler as u8 == code)
    }

    /// Whether new connections go where the hash says.
    #[must_use]
    pub const fn hashes(self) -> bool {
        matches!(self, Self::Maglev | Self::Sh | Self::Mh | Self::Dh)
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

impl Service {
    /// Every address that may get its packets: the real servers' and the sorry server's.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let servers = self.servers.iter().map(|server| server.address);
        servers.chain(self.sorry_server)
    }

    /// Whether every flow gets a record: where the hash does not say where new connections go, and where connections must
    /// be counted exactly.
    #[must_use]
    pub fn records_all(&self) -> bool {
        let limited = self.servers.iter().any(|server| server.upper != 0);
        !self.one_packet && (!self.scheduler.hashes() || self.persistence.is_some() || limited)
    }
}

/// A name no scheduler has.
#[derive(Debug, thiserror::Error)]
#[error("unknown scheduler {0:?}: lbx knows {known}", known = Scheduler::ALL.map(Scheduler::name).join(", "))]
pub struct UnknownScheduler(pub String);
