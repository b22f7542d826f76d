//! All maps of the programs, each private behind typed accessors, and the constants set at load time.
//!
//! Names must be those of [`lbx_common::maps`]: user space finds the pins by them.

mod findings;

use aya_ebpf::{
    Global,
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    btf_maps::{Array, DevMapHash, HashMap, LruHashMap, PerCpuArray, SkStorage},
    helpers::generated::bpf_sk_storage_get,
    macros::btf_map,
};
use lbx_common::{
    backend::{Backend, MAC_MASK},
    counters::Traffic,
    drops::DropReason,
    flow::{Bucket4, Bucket6},
    fragment::{FirstFragment, FragmentKey},
    host_packets::{HostPackets, MAX_DEVICES},
    load,
    lookup::{PortBucket, VipBucket},
    lost_frames::{LostFrameKind, MAX_KINDS},
    maps::{
        AdoptionInfo, DEFAULT_FLOW4_RECORDS, DEFAULT_FLOW6_RECORDS, DEFAULT_FRAGMENTS, DEFAULT_PORT_ENTRIES,
        DEFAULT_SLOTS, MAX_BACKENDS, MAX_MORE_DROPS, MAX_NICS, MAX_QUIC_IDS, MAX_RING_ENTRIES, MAX_SERVERS,
        MAX_SERVICES, VIP_BUCKETS,
    },
    nic::{CLIENT_FACING, Nic},
    ring::RingEntry,
    routed_replies::{FAMILIES, RoutedReplies},
    service::Service,
    session::{MAX_SESSIONS, PORT_BITMAP_WORDS, Session, SessionKey, Steering, port_bit},
    slot::{self, Slot},
    trace::TraceFilter,
};

use crate::{atomic, frame::Mac};

pub use self::findings::{add_host_packet, add_lost_frame, add_routed_reply};

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;
/// Elements are freed by RCU, so that a reader never sees one that is being reused.
const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map]
static VIPS: Array<VipBucket, { VIP_BUCKETS as usize }, MMAPABLE> = Array::new();
#[btf_map]
static PORTS: Array<PortBucket, { DEFAULT_PORT_ENTRIES as usize }, MMAPABLE> = Array::new();
#[btf_map]
static SERVICES: Array<Service, { MAX_SERVICES as usize }, MMAPABLE> = Array::new();
#[btf_map]
static SLOTS: Array<u64, { DEFAULT_SLOTS as usize }, MMAPABLE> = Array::new();
#[btf_map]
static RINGS: Array<u32, { MAX_RING_ENTRIES as usize }> = Array::new();
#[btf_map]
static CURSORS: Array<u64, { MAX_SERVICES as usize }> = Array::new();
#[btf_map]
static BACKENDS: Array<Backend, { MAX_BACKENDS as usize }, MMAPABLE> = Array::new();
#[btf_map]
static LOADS: Array<[u64; load::LOAD_WORDS], { MAX_SERVERS as usize }, MMAPABLE> = Array::new();
#[btf_map]
static FLOWS4: Array<Bucket4, { DEFAULT_FLOW4_RECORDS as usize / 4 }, MMAPABLE> = Array::new();
#[btf_map]
static FLOWS6: Array<Bucket6, { DEFAULT_FLOW6_RECORDS as usize / 2 }, MMAPABLE> = Array::new();
#[btf_map]
static FRAGMENTS: LruHashMap<FragmentKey, FirstFragment, { DEFAULT_FRAGMENTS as usize }> = LruHashMap::new();
#[btf_map]
static QUIC_IDS: HashMap<u32, u32, { MAX_QUIC_IDS as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
static SERVICE_STATS: PerCpuArray<Traffic, { MAX_SERVICES as usize }> = PerCpuArray::new();
#[btf_map]
static BACKEND_STATS: PerCpuArray<Traffic, { MAX_SERVERS as usize }> = PerCpuArray::new();
#[btf_map]
static DROPS: PerCpuArray<u64, { DropReason::IN_DROPS }> = PerCpuArray::new();
#[btf_map]
static MORE_DROPS: PerCpuArray<u64, { MAX_MORE_DROPS as usize }> = PerCpuArray::new();
#[btf_map]
static REJECT_LIMITS: Array<u64, { MAX_SERVICES as usize }> = Array::new();
#[btf_map]
static NICS: Array<[Nic; MAX_NICS as usize], 1, MMAPABLE> = Array::new();
#[btf_map]
static EGRESS: DevMapHash<{ MAX_NICS as usize }> = DevMapHash::new();
#[btf_map]
static TRACE_FILTER: Array<TraceFilter, 1> = Array::new();
/// Used by user space only.
#[btf_map]
static META: Array<AdoptionInfo, 1> = Array::new();
#[btf_map]
static CLOCK: Array<u64, 1> = Array::new();
#[btf_map]
static LED: SkStorage<Steering> = SkStorage::new();
#[btf_map]
static SESSIONS: LruHashMap<SessionKey, Session, { MAX_SESSIONS as usize }> = LruHashMap::new();
#[btf_map]
static LOCAL_PORTS: Array<[u64; PORT_BITMAP_WORDS], 1, MMAPABLE> = Array::new();
#[btf_map]
static ROUTED_REPLIES: PerCpuArray<RoutedReplies, { FAMILIES as usize }> = PerCpuArray::new();
#[btf_map]
static HOST_PACKETS: LruHashMap<u32, HostPackets, { MAX_DEVICES as usize }> = LruHashMap::new();
#[btf_map]
static LOST_FRAMES: LruHashMap<LostFrameKind, u64, { MAX_KINDS as usize }> = LruHashMap::new();

#[unsafe(no_mangle)]
static FLOW4_MASK: Global<u32> = Global::new(DEFAULT_FLOW4_RECORDS / 4 - 1);
#[unsafe(no_mangle)]
static FLOW6_MASK: Global<u32> = Global::new(DEFAULT_FLOW6_RECORDS / 2 - 1);
#[unsafe(no_mangle)]
static PORT_MASK: Global<u32> = Global::new(DEFAULT_PORT_ENTRIES - 1);
#[unsafe(no_mangle)]
static SEED: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static TRACE: Global<u8> = Global::new(0);
#[unsafe(no_mangle)]
static NETNS: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static TEST_CLOCK: Global<u8> = Global::new(0);

/// A bucket of VIPs.
#[inline(always)]
pub fn vips(bucket: u32) -> Option<*const VipBucket> {
    VIPS.get_ptr(bucket)
}

/// A bucket of ports.
#[inline(always)]
pub fn ports(bucket: u32) -> Option<*const PortBucket> {
    PORTS.get_ptr(bucket)
}

/// The service of a number.
#[inline(always)]
pub fn service(number: u16) -> Option<*const Service> {
    SERVICES.get_ptr(u32::from(number))
}

/// The slot at an index of the flat table.
#[inline(always)]
pub fn slot(index: u32) -> Option<Slot> {
    SLOTS.get_ptr(index).map(|word| Slot::from_word(atomic::load(word)))
}

/// The entry at an index of the flat ring table; one without a backend beyond its end.
#[inline(always)]
pub fn ring(index: u32) -> RingEntry {
    RingEntry::from_word(RINGS.get(index).map_or(u32::from(slot::NO_BACKEND), |&word| word))
}

/// Advances the ring position of a service and returns the one before.
#[inline(always)]
pub fn next_ring_position(service: u16) -> u64 {
    CURSORS
        .get_ptr_mut(u32::from(service))
        .map_or(0, |cursor| atomic::fetch_add(cursor, 1))
}

/// The backend at an index of the flat table.
#[inline(always)]
pub fn backend(index: u32) -> Option<&'static Backend> {
    BACKENDS.get(index)
}

/// Connections and limit mark of a backend counter.
#[inline(always)]
pub fn backend_load(counter: u32) -> Option<*mut [u64; load::LOAD_WORDS]> {
    LOADS.get_ptr_mut(counter)
}

/// A bucket of IPv4 flow records.
#[inline(always)]
pub fn flows4(index: u32) -> Option<*mut Bucket4> {
    FLOWS4.get_ptr_mut(index)
}

/// A bucket of IPv6 flow records.
#[inline(always)]
pub fn flows6(index: u32) -> Option<*mut Bucket6> {
    FLOWS6.get_ptr_mut(index)
}

/// Number of IPv4 flow buckets less one.
#[inline(always)]
pub fn flow4_bucket_mask() -> u32 {
    FLOW4_MASK.load()
}

/// Number of IPv6 flow buckets less one.
#[inline(always)]
pub fn flow6_bucket_mask() -> u32 {
    FLOW6_MASK.load()
}

/// Number of port buckets less one.
#[inline(always)]
pub fn port_bucket_mask() -> u32 {
    PORT_MASK.load()
}

/// Seed of all bucket hashes.
#[inline(always)]
pub fn seed() -> u64 {
    SEED.load()
}

/// Where the first fragment of a packet was sent.
#[inline(always)]
pub fn first_fragment(key: &FragmentKey) -> Option<FirstFragment> {
    // SAFETY: a copy of plain words; if the element is reused meanwhile, it is that of another recent packet.
    unsafe { FRAGMENTS.get(key) }.copied()
}

/// Records where the first fragment of a packet was sent.
#[inline(always)]
pub fn insert_first_fragment(key: &FragmentKey, value: &FirstFragment) {
    // If the table is full, the packet's later fragments are dropped and counted.
    let _full = FRAGMENTS.insert(key, value, 0);
}

/// The backend index of a QUIC server id.
#[inline(always)]
pub fn backend_by_quic_server_id(service: u16, id: u16) -> Option<u16> {
    let key = u32::from(id) | u32::from(service) << 16;
    // SAFETY: the element stays until the RCU grace period after this program's run.
    unsafe { QUIC_IDS.get(key) }.map(|&index| index as u16)
}

/// Adds to the counters of a service number.
#[inline(always)]
pub fn add_service_traffic(number: u32, addend: Traffic) {
    if let Some(traffic) = SERVICE_STATS.get_ptr_mut(number) {
        // SAFETY: a per-CPU element; XDP programs do not interrupt each other on a CPU.
        unsafe { *traffic += addend };
    }
}

/// Adds to a backend's counters.
#[inline(always)]
pub fn add_backend_traffic(counter: u32, addend: Traffic) {
    if let Some(traffic) = BACKEND_STATS.get_ptr_mut(counter) {
        // SAFETY: as above.
        unsafe { *traffic += addend };
    }
}

/// Counts a new connection, atomically: an XDP program may interrupt a socket hook.
#[inline(always)]
pub fn count_connection(service: u32, counter: u32) {
    let add = |traffic: *mut Traffic| {
        // SAFETY: only the address is taken.
        atomic::fetch_add(unsafe { &raw mut (*traffic).connections }, 1);
    };
    if let Some(traffic) = SERVICE_STATS.get_ptr_mut(service) {
        add(traffic);
    }
    if let Some(traffic) = BACKEND_STATS.get_ptr_mut(counter) {
        add(traffic);
    }
}

/// Counts a drop.
#[inline(always)]
pub fn add_drop(reason: u32) {
    const IN_DROPS: u32 = DropReason::IN_DROPS as u32;
    let count = if reason < IN_DROPS {
        DROPS.get_ptr_mut(reason)
    } else {
        MORE_DROPS.get_ptr_mut(reason - IN_DROPS)
    };
    if let Some(count) = count {
        // SAFETY: as above.
        unsafe { *count += 1 };
    }
}

/// The token bucket of a service's answers to what it has no backend for.
#[inline(always)]
pub fn reject_limit(service: u16) -> Option<*mut u64> {
    REJECT_LIMITS.get_ptr_mut(u32::from(service))
}

/// MAC address and roles of a segment (see [`lbx_common::nic::segment_key`]). Client-facing segments come first.
///
/// Returns words, not an index into the table: the verifier would follow the rest of the program once per index.
#[inline(always)]
pub fn nic_mac_and_roles(segment: u64) -> Option<(Mac, u16)> {
    let nics: &[Nic; MAX_NICS as usize] = NICS.get(0)?;
    for nic in nics {
        let words: *const u64 = (&raw const *nic).cast();
        // SAFETY: a Nic is two words.
        if atomic::load(unsafe { words.add(1) }) == segment {
            let word = atomic::load(words);
            let [.., a, b] = word.to_ne_bytes();
            return Some((word & MAC_MASK, u16::from_ne_bytes([a, b])));
        }
    }
    None
}

/// Whether clients' traffic of a segment with these VLAN tags arrives on a NIC of this MAC address.
#[inline(always)]
pub fn has_client_nic(mac: Mac, vlan_tags: u32) -> bool {
    let Some(nics) = NICS.get(0) else {
        return false;
    };
    let nics: &[Nic; MAX_NICS as usize] = nics;
    nics.iter().any(|nic| {
        let words: *const u64 = (&raw const *nic).cast();
        // SAFETY: a Nic is two words.
        let (head, segment) = unsafe { (atomic::load(words), atomic::load(words.add(1))) };
        let [.., a, b] = head.to_ne_bytes();
        let is_client_facing = u16::from_ne_bytes([a, b]) & CLIENT_FACING != 0;
        is_client_facing && head & MAC_MASK == mac && segment as u32 != 0 && (segment >> 32) as u32 == vlan_tags
    })
}

/// Redirects the frame to another NIC; false if that is not possible.
#[inline(always)]
pub fn redirect(ifindex: u32) -> bool {
    EGRESS.redirect(ifindex, 0).is_ok()
}

/// The time set by a test, if the program was loaded with `TEST_CLOCK`.
#[inline(always)]
pub fn test_clock_ns() -> Option<u64> {
    if TEST_CLOCK.load() == 0 {
        return None;
    }
    CLOCK.get(0).copied()
}

/// Whether the program was loaded with tracing on.
#[inline(always)]
pub fn trace_enabled() -> bool {
    TRACE.load() != 0
}

/// Which decisions are traced.
#[inline(always)]
pub fn trace_filter() -> Option<&'static TraceFilter> {
    TRACE_FILTER.get(0)
}

/// Cookie of the director's network namespace.
#[inline(always)]
pub fn netns_cookie() -> u64 {
    NETNS.load()
}

/// The steering of a socket; none where it has none.
///
/// # Safety
/// The verifier must know the pointer as a socket's.
#[inline(always)]
pub unsafe fn steering(socket: *mut bpf_sock) -> Option<*mut Steering> {
    // SAFETY: as the caller promises.
    unsafe { storage(socket, core::ptr::null_mut(), 0) }
}

/// The same, initialised with `first` where it has none; none where there is no memory.
///
/// # Safety
/// The verifier must know the pointer as a socket's.
#[inline(always)]
pub unsafe fn steering_or_insert(socket: *mut bpf_sock, first: &mut Steering) -> Option<*mut Steering> {
    // SAFETY: as the caller promises.
    unsafe { storage(socket, first, BPF_SK_STORAGE_GET_F_CREATE.into()) }
}

#[inline(always)]
unsafe fn storage(socket: *mut bpf_sock, first: *mut Steering, flags: u64) -> Option<*mut Steering> {
    let map = (&raw const LED).cast_mut();
    // SAFETY: a map, a socket as the caller promises, and null or a value of the map's type.
    let steering: *mut Steering = unsafe { bpf_sk_storage_get(map.cast(), socket.cast(), first.cast(), flags) }.cast();
    (!steering.is_null()).then_some(steering)
}

/// A session.
#[inline(always)]
pub fn session(key: &SessionKey) -> Option<*mut Session> {
    SESSIONS.get_ptr_mut(key)
}

/// Inserts or replaces a session.
#[inline(always)]
pub fn insert_session(key: &SessionKey, session: &Session) {
    // If the table is full, replies do not find their session, and the director retries.
    let _failed = SESSIONS.insert(key, session, 0);
}

/// Whether a local port has sessions.
#[inline(always)]
pub fn has_sessions(udp: bool, port: [u8; 2]) -> bool {
    let (word, mask) = port_bit(udp, port);
    local_port_word(word).is_some_and(|word| atomic::load(word) & mask != 0)
}

/// Marks a local port as having sessions.
#[inline(always)]
pub fn mark_has_sessions(udp: bool, port: [u8; 2]) {
    let (word, mask) = port_bit(udp, port);
    if let Some(word) = local_port_word(word)
        && atomic::load(word) & mask == 0
    {
        atomic::set_bits(word, mask);
    }
}

#[inline(always)]
fn local_port_word(word: usize) -> Option<*mut u64> {
    let words: *mut u64 = LOCAL_PORTS.get_ptr_mut(0)?.cast();
    // SAFETY: word < PORT_WORDS, by the remainder.
    Some(unsafe { words.add(word % PORT_BITMAP_WORDS) })
}
