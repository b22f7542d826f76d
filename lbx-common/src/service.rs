//! A service: VIP + protocol + port, and where its tables lie.

/// IP protocol number of TCP (RFC 9293, IANA protocol numbers).
pub const TCP: u8 = 6;
/// IP protocol number of UDP (RFC 768).
pub const UDP: u8 = 17;
/// IP protocol number of ICMP (RFC 792).
pub const ICMP: u8 = 1;

/// What a packet is matched by. Key of the service map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServiceKey {
    /// The VIP as it lies in the packet: network byte order.
    pub address: [u8; 4],
    /// The port as it lies in the packet: network byte order.
    pub port: [u8; 2],
    /// [`TCP`] or [`UDP`].
    pub protocol: u8,
    /// Always zero.
    pub pad: u8,
}

const _: () = assert!(size_of::<ServiceKey>() == 8 && align_of::<ServiceKey>() == 1);

impl ServiceKey {
    /// A key from a VIP, a port in host byte order and a protocol number.
    #[must_use]
    pub const fn new(address: [u8; 4], port: u16, protocol: u8) -> Self {
        Self {
            address,
            port: port.to_be_bytes(),
            protocol,
            pad: 0,
        }
    }
}

/// Every flow of the service gets a record (rr, wrr: what shows exact counts).
pub const RECORD_ALL: u8 = 1 << 0;
/// The service hashed until a short while ago: a datagram without a record may be of a flow from then, so it is the slot
/// owner's and not scheduled.
pub const HASHED: u8 = 1 << 1;

/// Scheduler codes, as the service holds them.
pub mod scheduler {
    /// Round robin.
    pub const RR: u8 = 1;
    /// Weighted round robin.
    pub const WRR: u8 = 2;
    /// mh with mh-port and mh-fallback.
    pub const MAGLEV: u8 = 3;
    /// Least connections.
    pub const LC: u8 = 4;
    /// Weighted least connections.
    pub const WLC: u8 = 5;
    /// Shortest expected delay.
    pub const SED: u8 = 6;
    /// Never queue.
    pub const NQ: u8 = 7;
    /// Source hashing.
    pub const SH: u8 = 8;
    /// Consistent source hashing.
    pub const MH: u8 = 9;
    /// Weighted failover.
    pub const FO: u8 = 10;
    /// Overflow.
    pub const OVF: u8 = 11;
    /// Destination hashing.
    pub const DH: u8 = 12;
    /// Power of two choices.
    pub const P2C: u8 = 13;
}

/// Idle timeouts of a flow, in [ticks](crate::flow::TICK_SHIFT), by what was last seen of it.
///
/// The states and defaults are those of IPVS (net/netfilter/ipvs/ip_vs_proto_tcp.c, ip_vs_proto_udp.c).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// SYN seen, nothing since.
    pub half_open: u16,
    /// Established.
    pub established: u16,
    /// FIN seen.
    pub closing: u16,
    /// RST seen.
    pub closed: u16,
    /// UDP.
    pub udp: u16,
    /// Always zero.
    pub pad: u16,
}

/// Value of the service map. Ranges name places in the flat tables of slots, ring entries and backends.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Service number: names its counters, its cursor and its records.
    pub number: u16,
    /// Scheduler code, for a daemon that reads the map back; the program looks at `flags` and `ring_len` only.
    pub scheduler: u8,
    /// [`RECORD_ALL`], [`HASHED`].
    pub flags: u8,
    /// First slot.
    pub slots_base: u32,
    /// Number of slots: a prime, fixed while the service lives.
    pub slots_len: u32,
    /// First ring entry.
    pub ring_base: u32,
    /// Number of ring entries; 0: new connections follow the slot's current backend.
    pub ring_len: u32,
    /// First backend.
    pub backends_base: u32,
    /// Room for backends: every index is below it.
    pub backends_len: u32,
    /// Idle timeouts.
    pub timeouts: Timeouts,
}

const _: () = assert!(size_of::<Service>() == 40 && align_of::<Service>() == 4);
