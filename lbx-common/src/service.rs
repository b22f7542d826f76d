//! A service: the ranges of its tables and the policy for its flows.

/// IP protocol number of TCP (RFC 9293, IANA protocol numbers).
pub const TCP: u8 = 6;
/// IP protocol number of UDP (RFC 768).
pub const UDP: u8 = 17;
/// IP protocol number of ICMP (RFC 792).
pub const ICMP: u8 = 1;
/// IP protocol number of ICMPv6 (RFC 4443).
pub const ICMPV6: u8 = 58;

/// Every flow of the service is recorded (rr, wrr: they show exact counts).
pub const RECORD_ALL: u32 = 1 << 0;
/// The service hashed until recently: a datagram without a record may belong to a flow from then, so it is sent to the slot's
/// owner and not scheduled.
pub const WAS_SCHEDULED_BY_HASH: u32 = 1 << 1;
/// Slots are hashed by the client's address only, without ports.
pub const HASH_CLIENT_ADDRESS: u32 = 1 << 2;
/// Slots are hashed by the VIP's address only.
pub const HASH_VIP: u32 = 1 << 3;
/// New connections go to the slot's current backend; otherwise the scheduler selects from the ring.
pub const SCHEDULE_BY_HASH: u32 = 1 << 4;
/// A new connection whose hashed backend is not eligible goes to another.
pub const HASH_FALLBACK: u32 = 1 << 5;
/// Clients are persistent.
pub const PERSISTENT: u32 = 1 << 6;
/// Persistent clients leave a draining backend.
pub const EXPIRE_QUIESCENT_TEMPLATE: u32 = 1 << 7;
/// Every datagram is scheduled on its own, and none is recorded.
pub const ONE_PACKET: u32 = 1 << 8;
/// Some backend has a limit of connections.
pub const HAS_CONNECTION_LIMITS: u32 = 1 << 9;
/// QUIC packets are sent to the backend of the server id in their connection id.
pub const QUIC: u32 = 1 << 10;
/// The director's own sockets may use the VIP.
pub const LOCAL_ACCESS: u32 = 1 << 11;
/// Packets that no backend is eligible for are answered: TCP by a RST, UDP by ICMP port unreachable.
pub const REJECT: u32 = 1 << 12;

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

/// Idle timeouts of a flow, in [ticks](crate::flow::TICK_SHIFT), by its state.
///
/// The states and defaults are those of IPVS (net/netfilter/ipvs/ip_vs_proto_tcp.c, ip_vs_proto_udp.c).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeoutTicks {
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
    /// Templates of persistent clients.
    pub persistent: u16,
    /// Always zero.
    pub pad: [u16; 2],
}

/// Value of the service table, by service number. Ranges are index ranges of the flat tables of slots, ring entries and backends.
///
/// It is changed in place, a word of 64 bits at a time: fields that must change together share one.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// [`RECORD_ALL`] and the like.
    pub flags: u32,
    /// One of [`scheduler`].
    pub scheduler: u8,
    /// Leading bits of a client's address that count for persistence, of 128.
    pub persistence_prefix: u8,
    /// Index of the sorry server, for new connections when all others are full; [`NO_BACKEND`](crate::slot::NO_BACKEND).
    pub sorry_server: u16,
    /// First slot.
    pub slots_base: u32,
    /// Number of slots: a prime, fixed while the service lives.
    pub slots_len: u32,
    /// First ring entry.
    pub ring_base: u32,
    /// Number of ring entries.
    pub ring_len: u32,
    /// First backend.
    pub backends_base: u32,
    /// Capacity for backends: every index is below it.
    pub backends_capacity: u32,
    /// Idle timeouts.
    pub timeouts: TimeoutTicks,
    /// Always zero.
    pub pad: [u64; 2],
}

const _: () = assert!(size_of::<Service>() == 64 && align_of::<Service>() == 64);

/// Words of a service.
pub const WORDS: usize = size_of::<Service>() / size_of::<u64>();

impl Service {
    /// Its words, in the order of memory.
    #[must_use]
    pub const fn words(&self) -> [u64; WORDS] {
        // SAFETY: both are 64 bytes of plain data, and Service has no padding.
        unsafe { core::mem::transmute(*self) }
    }

    /// The service of its words.
    #[inline(always)]
    #[must_use]
    pub const fn from_words(words: [u64; WORDS]) -> Self {
        // SAFETY: valid for every bit pattern; transmuting by value needs no alignment.
        unsafe { core::mem::transmute(words) }
    }
}
