//! Names and default sizes of the maps.
//!
//! The names are those of the statics in the kernel program, of the pins, and of what `bpftool map` shows (15 characters
//! at most, BPF_OBJ_NAME_LEN).

/// Version of the layout of all pinned maps. Part of the pin path: a daemon never opens maps of another layout.
pub const ABI: u32 = 3;

/// [`VipBucket`](crate::lookup::VipBucket), array, mmapable: VIP → VIP number.
pub const VIPS: &str = "VIPS";
/// [`PortBucket`](crate::lookup::PortBucket), array, mmapable: VIP number, protocol and port → service number.
pub const PORTS: &str = "PORTS";
/// [`Service`](crate::service::Service) by service number, array, mmapable.
pub const SERVICES: &str = "SERVICES";
/// Slot words ([`Slot`](crate::slot::Slot)), flat array, mmapable.
pub const SLOTS: &str = "SLOTS";
/// [`RingEntry`](crate::ring::RingEntry) words in the order the schedulers walk them (u32), flat array.
pub const RINGS: &str = "RINGS";
/// Position in the ring by service number (u64), array.
pub const RING_CURSORS: &str = "CURSORS";
/// [`Backend`](crate::backend::Backend), flat array, mmapable.
pub const BACKENDS: &str = "BACKENDS";
/// Connections by backend counter ([`load`](crate::load)), array, mmapable.
pub const BACKEND_LOADS: &str = "LOADS";
/// Records of IPv4 flows ([`Bucket4`](crate::flow::Bucket4)), array, mmapable.
pub const FLOWS4: &str = "FLOWS4";
/// Records of IPv6 flows ([`Bucket6`](crate::flow::Bucket6)), array, mmapable.
pub const FLOWS6: &str = "FLOWS6";
/// [`FragmentKey`](crate::fragment::FragmentKey) → [`FirstFragment`](crate::fragment::FirstFragment), LRU hash.
pub const FRAGMENTS: &str = "FRAGMENTS";
/// QUIC server id in bits 0–15, service number in 16–31 (u32) → backend index (u32), hash.
pub const QUIC_IDS: &str = "QUIC_IDS";
/// [`Traffic`](crate::counters::Traffic) by service number, per-CPU array.
pub const SERVICE_STATS: &str = "SERVICE_STATS";
/// [`Traffic`](crate::counters::Traffic) by backend counter, per-CPU array.
pub const BACKEND_STATS: &str = "BACKEND_STATS";
/// Packets by [`DropReason`](crate::drops::DropReason) (u64), per-CPU array.
pub const DROPS: &str = "DROPS";
/// Packets by [`DropReason`](crate::drops::DropReason) from [`IN_DROPS`](crate::drops::DropReason::IN_DROPS) on (u64), per-CPU array.
pub const MORE_DROPS: &str = "MORE_DROPS";
/// Token buckets ([`rate_limit`](crate::rate_limit)) of the RSTs and ICMP errors by service number (u64), array.
pub const REJECT_LIMITS: &str = "REJECT_LIMITS";
/// [`Nic`](crate::nic::Nic), array, mmapable.
pub const NICS: &str = "NICS";
/// Interface index → interface, device map for redirects.
pub const EGRESS: &str = "EGRESS";
/// The one [`TraceFilter`](crate::trace::TraceFilter), array.
pub const TRACE_FILTER: &str = "TRACE_FILTER";
/// The one [`AdoptionInfo`], array.
pub const META: &str = "META";
/// Time in nanoseconds (u64) that tests set for the program, array.
pub const TEST_CLOCK_NS: &str = "CLOCK";

/// [`Steering`](crate::session::Steering) by socket, socket storage.
pub const STEERING: &str = "LED";
/// [`SessionKey`](crate::session::SessionKey) → [`Session`](crate::session::Session), LRU hash.
pub const SESSIONS: &str = "SESSIONS";
/// [Bits](crate::session::port_bit) of the local ports that have sessions (u64), array, mmapable.
pub const LOCAL_PORTS: &str = "LOCAL_PORTS";
/// [`RoutedReplies`](crate::routed_replies::RoutedReplies) by address family, per-CPU array. Not in the first builds of this layout:
/// see [`MAPS_ADDED_LATER`].
pub const ROUTED_REPLIES: &str = "ROUTED_REPLIES";
/// [`LostFrameKind`](crate::lost_frames::LostFrameKind) → frames (u64), LRU hash. Not in the first builds of this layout either.
pub const LOST_FRAMES: &str = "LOST_FRAMES";
/// Interface index → [`HostPackets`](crate::host_packets::HostPackets), LRU hash. Not in the first builds of this layout either.
pub const HOST_PACKETS: &str = "HOST_PACKETS";

/// Maps that builds of this layout have had from a later time on: a daemon that adopts the pins of an earlier build makes them.
pub const MAPS_ADDED_LATER: [&str; 5] = [MORE_DROPS, REJECT_LIMITS, ROUTED_REPLIES, LOST_FRAMES, HOST_PACKETS];
/// Every map that is pinned.
pub const PINNED_MAPS: [&str; 28] = [
    VIPS,
    PORTS,
    SERVICES,
    SLOTS,
    RINGS,
    RING_CURSORS,
    BACKENDS,
    BACKEND_LOADS,
    FLOWS4,
    FLOWS6,
    FRAGMENTS,
    QUIC_IDS,
    SERVICE_STATS,
    BACKEND_STATS,
    DROPS,
    NICS,
    EGRESS,
    TRACE_FILTER,
    META,
    TEST_CLOCK_NS,
    STEERING,
    SESSIONS,
    LOCAL_PORTS,
    MORE_DROPS,
    REJECT_LIMITS,
    ROUTED_REPLIES,
    LOST_FRAMES,
    HOST_PACKETS,
];

/// Name of the XDP program.
pub const XDP_PROGRAM: &str = "lbx";
/// Name of the program for frames the director sends.
pub const EGRESS_PROGRAM: &str = "lbx_egress";
/// Name of the program for received frames of a NIC that changes its XDP mode.
pub const VIP_DROP_PROGRAM: &str = "lbx_vip_drop";
/// Name of the program for what devices pass to this host's own stack.
pub const HOST_PACKETS_PROGRAM: &str = "lbx_host_packets";
/// Name of the program that takes a frame of the self-test off the counters: it is only ever run by test runs.
pub const UNCOUNT_PROGRAM: &str = "lbx_uncount";
/// Names of the programs on tracepoints of the group `xdp`, and those tracepoints: both fire for lost frames alone.
pub const LOST_FRAME_PROGRAMS: [(&str, &str); 2] = [
    ("lbx_exception", "xdp_exception"),
    ("lbx_redirect_err", "xdp_redirect_err"),
];
/// Names of the programs on the director's sockets: the peer hooks before the connect hooks.
pub const SOCKET_HOOKS: [&str; 8] = [
    "lbx_peername4",
    "lbx_peername6",
    "lbx_recvmsg4",
    "lbx_recvmsg6",
    "lbx_sendmsg4",
    "lbx_sendmsg6",
    "lbx_connect4",
    "lbx_connect6",
];
/// Load-time constant: cookie of the director's network namespace; 0: no sockets are steered.
pub const NETNS_COOKIE: &str = "NETNS";
/// Load-time constant: number of IPv4 flow buckets less one (a power of two less one).
pub const FLOW4_BUCKET_MASK: &str = "FLOW4_MASK";
/// Load-time constant: number of IPv6 flow buckets less one (a power of two less one).
pub const FLOW6_BUCKET_MASK: &str = "FLOW6_MASK";
/// Load-time constant: number of port buckets less one (a power of two less one).
pub const PORT_BUCKET_MASK: &str = "PORT_MASK";
/// Load-time constant: seed of all bucket hashes.
pub const SEED: &str = "SEED";
/// Load-time constant: 1 when decisions are traced; 0 lets the verifier remove the tracing code.
pub const TRACE_ENABLED: &str = "TRACE";
/// Load-time constant: 1 when the time is taken from [`TEST_CLOCK_NS`]; 0 lets the verifier remove that.
pub const USE_TEST_CLOCK: &str = "TEST_CLOCK";

/// Services at most (service numbers have 16 bits, the last is never used).
pub const MAX_SERVICES: u32 = 16_384;
/// VIPs at most: as many as services.
pub const MAX_VIPS: u32 = MAX_SERVICES;
/// Buckets of VIPs: capacity for four times the maximum, since single buckets may fill up earlier.
pub const VIP_BUCKETS: u32 = MAX_VIPS;
/// Ports of all services together unless the configuration says otherwise: 8 MiB. A bucket holds four.
pub const DEFAULT_PORT_ENTRIES: u32 = 1 << 17;
/// Slots of all services together unless the configuration says otherwise: 64 MiB, enough for 10,000 services of three units
/// of weight.
pub const DEFAULT_SLOTS: u32 = 1 << 23;
/// Ring entries of all services together.
pub const MAX_RING_ENTRIES: u32 = 1 << 18;
/// Backend entries of all services together, spare ones included: 16 MiB.
pub const MAX_BACKENDS: u32 = 1 << 18;
/// Real servers of all services together: each has its counters, per CPU.
pub const MAX_SERVERS: u32 = 1 << 16;
/// Records of IPv4 flows unless the configuration says otherwise: 16 MiB, for half a million flows.
pub const DEFAULT_FLOW4_RECORDS: u32 = 1 << 20;
/// Records of IPv6 flows unless the configuration says otherwise: 8 MiB, for 131,072 flows.
pub const DEFAULT_FLOW6_RECORDS: u32 = 1 << 18;
/// Fragmented packets at one time unless the configuration says otherwise.
pub const DEFAULT_FRAGMENTS: u32 = 1 << 13;
/// QUIC server ids of all services together.
pub const MAX_QUIC_IDS: u32 = 1 << 16;
/// Drop reasons that [`MORE_DROPS`] has room for.
pub const MAX_MORE_DROPS: u32 = 64;
/// Segments (NICs and VLANs on them) the program may be attached to.
pub const MAX_NICS: u32 = 32;

/// The data a daemon needs to adopt the maps.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdoptionInfo {
    /// Seed of all bucket hashes.
    pub seed: u64,
    /// 1 once the maps are complete: maps left by a daemon that died before that are not adopted.
    pub ready: u64,
}

const _: () = assert!(size_of::<AdoptionInfo>() == 16);
