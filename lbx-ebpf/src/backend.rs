//! The backends of a service: the table entry of an index, and its state.

use lbx_common::backend::{self, Backend, Head};

use crate::{atomic, maps};

/// The next hop to a backend: plain values, read once, since the entry may change while the program runs.
pub struct NextHop {
    /// Destination MAC address in bytes 0–5, as on the wire.
    pub mac: u64,
    /// MAC address of the NIC that sends, likewise.
    pub source_mac: u64,
    /// [`Tags`](backend::Tags) of the segment, as one number.
    pub tags: u32,
    /// Index of the NIC that sends.
    pub ifindex: u32,
    /// Index in the backend counters.
    pub counter: u32,
}

/// The backend of an index of a service, whose range is (first backend, capacity).
#[inline(always)]
pub fn get((base, capacity): (u32, u32), index: u16) -> Option<&'static Backend> {
    if u32::from(index) >= capacity {
        return None;
    }
    maps::backend(base.wrapping_add(u32::from(index)))
}

/// The next hop to the backend of an index, if packets may be sent to it.
#[inline(always)]
pub fn next_hop(range: (u32, u32), index: u16) -> Option<NextHop> {
    let backend = get(range, index)?;
    let head = atomic::load(&raw const backend.head);
    backend::reachable(Head::from_word(head).state).then(|| NextHop {
        mac: head,
        source_mac: atomic::load(&raw const backend.source),
        tags: backend.tags.to_word(),
        ifindex: backend.ifindex,
        counter: backend.counter,
    })
}

/// Whether the backend of an index may have connections.
#[inline(always)]
pub fn usable(range: (u32, u32), index: u16) -> bool {
    get(range, index).is_some_and(|backend| backend::usable(state(backend)))
}

/// The state of a backend, as it is now.
#[inline(always)]
pub fn state(backend: &Backend) -> u8 {
    Head::from_word(atomic::load(&raw const backend.head)).state
}
