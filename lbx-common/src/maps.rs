//! Names and default sizes of the maps.
//!
//! The names are those of the statics in the kernel program, of the pins, and of what `bpftool map` shows (15 characters
//! at most, BPF_OBJ_NAME_LEN).

/// Version of the layout of all pinned maps. Part of the pin path: a daemon never opens maps of another layout.
pub const ABI: u32 = 1;

/// [`ServiceKey`](crate::service::ServiceKey) → [`Service`](crate::service::Service), hash.
pub const SERVICES: &str = "SERVICES";
/// VIP (4 bytes, network order) → number of services on it (u32), hash: what malformed packets are held against.
pub const VIPS: &str = "VIPS";
/// Slot words ([`Slot`](crate::slot::Slot)), flat array, mmapable.
pub const SLOTS: &str = "SLOTS";
/// Backend indices in the order of their turns (u32), flat array.
pub const RINGS: &str = "RINGS";
/// Position in the ring by service number (u64), array.
pub const CURSORS: &str = "CURSORS";
/// [`Backend`](crate::backend::Backend), flat array, mmapable.
pub const BACKENDS: &str = "BACKENDS";
/// Flow records ([`Bucket`](crate::flow::Bucket)), array, mmapable.
pub const FLOWS: &str = "FLOWS";
/// [`Traffic`](crate::counters::Traffic) by service number, per-CPU array.
pub const SERVICE_STATS: &str = "SERVICE_STATS";
/// [`Traffic`](crate::counters::Traffic) by backend counter, per-CPU array.
pub const BACKEND_STATS: &str = "BACKEND_STATS";
/// Packets by [`DropReason`](crate::drops::DropReason) (u64), per-CPU array.
pub const DROPS: &str = "DROPS";
/// [`Nic`](crate::nic::Nic), array, mmapable.
pub const NICS: &str = "NICS";
/// Interface index → interface, device map for redirects.
pub const EGRESS: &str = "EGRESS";
/// The one [`TraceFilter`](crate::trace::TraceFilter), array.
pub const TRACE_FILTER: &str = "TRACE_FILTER";
/// The one [`Meta`], array.
pub const META: &str = "META";

/// Every map that is pinned.
pub const PINNED: [&str; 14] = [
    SERVICES,
    VIPS,
    SLOTS,
    RINGS,
    CURSORS,
    BACKENDS,
    FLOWS,
    SERVICE_STATS,
    BACKEND_STATS,
    DROPS,
    NICS,
    EGRESS,
    TRACE_FILTER,
    META,
];

/// Name of the XDP program.
pub const PROGRAM: &str = "lbx";
/// Load-time constant: number of buckets less one (a power of two less one).
pub const FLOW_MASK: &str = "FLOW_MASK";
/// Load-time constant: seed of the bucket hash.
pub const FLOW_SEED: &str = "FLOW_SEED";
/// Load-time constant: 1 when decisions are traced; 0 lets the verifier remove the tracing code.
pub const TRACE: &str = "TRACE";

/// Services at most (service numbers are 16 bits, the last is never given).
pub const MAX_SERVICES: u32 = 16_384;
/// Slots of all services together: 64 MiB, room for 10,000 services of up to eight units of weight.
pub const MAX_SLOTS: u32 = 1 << 23;
/// Ring entries of all services together.
pub const MAX_RING_ENTRIES: u32 = 1 << 18;
/// Places for backends of all services together, spare ones included: 16 MiB.
pub const MAX_BACKENDS: u32 = 1 << 18;
/// Real servers of all services together: each has its counters, per CPU.
pub const MAX_SERVERS: u32 = 1 << 16;
/// Buckets of four flow records each: a million records, 16 MiB.
pub const FLOW_BUCKETS: u32 = 1 << 18;
/// Records of IPv4 flows unless the configuration says otherwise: 16 MiB, meant for half a million flows.
pub const FLOWS4_RECORDS: u32 = 1 << 20;
/// Records of IPv6 flows unless the configuration says otherwise: 8 MiB, meant for 131,072 flows.
pub const FLOWS6_RECORDS: u32 = 1 << 18;
/// Ports of all services together unless the configuration says otherwise: 8 MiB.
pub const MAX_PORTS: u32 = 1 << 17;
/// Fragmented packets under way at one time unless the configuration says otherwise.
pub const MAX_FRAGMENTS: u32 = 1 << 13;
/// NICs the program may be attached to.
pub const MAX_NICS: u32 = 32;

/// What a daemon must know to adopt the maps.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Seed of the bucket hash.
    pub flow_seed: u64,
    /// 1 once the maps are whole; a daemon that died before left nothing worth adopting.
    pub ready: u64,
}

const _: () = assert!(size_of::<Meta>() == 16);
