//! Every map of the program, private behind one typed accessor each, and the constants set at load time.
//!
//! Names must be those of [`lbx_common::maps`]: user space finds pins by them.

use aya_ebpf::{
    Global,
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{Array, DevMapHash, HashMap, PerCpuArray},
    macros::btf_map,
};
use lbx_common::{
    backend::Backend,
    counters::Traffic,
    drops::DropReason,
    flow::Bucket,
    maps::{FLOW_BUCKETS, MAX_BACKENDS, MAX_NICS, MAX_RING_ENTRIES, MAX_SERVERS, MAX_SERVICES, MAX_SLOTS, Meta},
    nic::Nic,
    service::{Service, ServiceKey},
    slot::Slot,
    trace::TraceFilter,
};

use crate::atomic;

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;
/// Elements are freed by RCU, so that a reader never sees one being reused.
const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map]
static SERVICES: HashMap<ServiceKey, Service, { MAX_SERVICES as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
static VIPS: HashMap<[u8; 4], u32, { MAX_SERVICES as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
static SLOTS: Array<u64, { MAX_SLOTS as usize }, MMAPABLE> = Array::new();
#[btf_map]
static RINGS: Array<u32, { MAX_RING_ENTRIES as usize }> = Array::new();
#[btf_map]
static CURSORS: Array<u64, { MAX_SERVICES as usize }> = Array::new();
#[btf_map]
static BACKENDS: Array<Backend, { MAX_BACKENDS as usize }, MMAPABLE> = Array::new();
#[btf_map]
static FLOWS: Array<Bucket, { FLOW_BUCKETS as usize }, MMAPABLE> = Array::new();
#[btf_map]
static SERVICE_STATS: PerCpuArray<Traffic, { MAX_SERVICES as usize }> = PerCpuArray::new();
#[btf_map]
static BACKEND_STATS: PerCpuArray<Traffic, { MAX_SERVERS as usize }> = PerCpuArray::new();
#[btf_map]
static DROPS: PerCpuArray<u64, { DropReason::COUNT }> = PerCpuArray::new();
#[btf_map]
static NICS: Array<[Nic; MAX_NICS as usize], 1, MMAPABLE> = Array::new();
#[btf_map]
static EGRESS: DevMapHash<{ MAX_NICS as usize }> = DevMapHash::new();
#[btf_map]
static TRACE_FILTER: Array<TraceFilter, 1> = Array::new();
/// For user space alone.
#[btf_map]
static META: Array<Meta, 1> = Array::new();

#[unsafe(no_mangle)]
static FLOW_MASK: Global<u32> = Global::new(FLOW_BUCKETS - 1);
#[unsafe(no_mangle)]
static FLOW_SEED: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static TRACE: Global<u8> = Global::new(0);

/// The service of a key.
#[inline(always)]
pub fn service(key: &ServiceKey) -> Option<&'static Service> {
    // SAFETY: the element stays until the RCU grace period after this program's run; it is replaced, never rewritten.
    unsafe { SERVICES.get(key) }
}

/// Whether an address (network order) is a VIP.
#[inline(always)]
pub fn is_vip(address: [u8; 4]) -> bool {
    VIPS.get_ptr(address).is_some()
}

/// The slot at a place in the flat table.
#[inline(always)]
pub fn slot(place: u32) -> Option<Slot> {
    SLOTS.get_ptr(place).map(|word| Slot::from_word(atomic::load(word)))
}

/// The backend index at a place in the flat ring table.
#[inline(always)]
pub fn ring(place: u32) -> Option<u16> {
    RINGS.get(place).map(|&index| index as u16)
}

/// Takes the next turn of a service.
#[inline(always)]
pub fn next_turn(service: u16) -> u64 {
    CURSORS
        .get_ptr_mut(u32::from(service))
        .map_or(0, |cursor| atomic::fetch_add(cursor, 1))
}

/// The backend at a place in the flat table.
#[inline(always)]
pub fn backend(place: u32) -> Option<&'static Backend> {
    BACKENDS.get(place)
}

/// A bucket of flow records.
#[inline(always)]
pub fn bucket(index: u32) -> Option<*mut Bucket> {
    FLOWS.get_ptr_mut(index)
}

/// Number of buckets less one.
#[inline(always)]
pub fn flow_mask() -> u32 {
    FLOW_MASK.load()
}

/// Seed of the bucket hash.
#[inline(always)]
pub fn flow_seed() -> u64 {
    FLOW_SEED.load()
}

/// Adds to the counters of a service number.
#[inline(always)]
pub fn add_to_service(number: u32, what: Traffic) {
    if let Some(traffic) = SERVICE_STATS.get_ptr_mut(number) {
        // SAFETY: a per-CPU element; XDP programs do not interrupt each other on a CPU.
        unsafe { *traffic += what };
    }
}

/// Adds to a backend's counters.
#[inline(always)]
pub fn add_to_backend(counter: u32, what: Traffic) {
    if let Some(traffic) = BACKEND_STATS.get_ptr_mut(counter) {
        // SAFETY: as above.
        unsafe { *traffic += what };
    }
}

/// Counts a drop.
#[inline(always)]
pub fn add_drop(reason: u32) {
    if let Some(count) = DROPS.get_ptr_mut(reason) {
        // SAFETY: as above.
        unsafe { *count += 1 };
    }
}

/// MAC address and roles of the NIC of an interface index. Those of clients come first.
///
/// A word is returned and not a place in the table: the verifier would follow the rest of the way once for every place.
#[inline(always)]
pub fn nic(ifindex: u32) -> Option<([u8; 6], u16)> {
    let nics: &[Nic; MAX_NICS as usize] = NICS.get(0)?;
    for nic in nics {
        if nic.ifindex == ifindex {
            let [a, b, c, d, e, f, x, y] = atomic::load((&raw const *nic).cast()).to_ne_bytes();
            return Some(([a, b, c, d, e, f], u16::from_ne_bytes([x, y])));
        }
    }
    None
}

/// Tells the kernel to send the frame by another NIC; false if it cannot.
#[inline(always)]
pub fn redirect(ifindex: u32) -> bool {
    EGRESS.redirect(ifindex, 0).is_ok()
}

/// Whether the program was loaded to trace.
#[inline(always)]
pub fn tracing() -> bool {
    TRACE.load() != 0
}

/// What is traced.
#[inline(always)]
pub fn trace_filter() -> Option<&'static TraceFilter> {
    TRACE_FILTER.get(0)
}
