//! The backends of a service: the table entry of an index, and its state.

use lbx_common::backend::{self, Backend, MAC_MASK, MacAndState};

use crate::{atomic, frame::Mac, maps};

/// The next hop to a backend: plain values, read once, since the entry may change while the program runs.
pub struct NextHop {
    /// Destination MAC address.
    pub mac: Mac,
    /// MAC address of the NIC that sends.
    pub source_mac: Mac,
    /// [`VlanTags`](backend::VlanTags) of the segment, as one number.
    pub vlan_tags: u32,
    /// Index of the NIC that sends.
    pub ifindex: u32,
    /// Index in the backend counters.
    pub counter_index: u32,
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
    let head = atomic::load(&raw const backend.mac_and_state);
    backend::may_receive_packets(MacAndState::from_word(head).state).then(|| NextHop {
        mac: head & MAC_MASK,
        source_mac: atomic::load(&raw const backend.source_mac),
        vlan_tags: backend.vlan_tags.to_word(),
        ifindex: backend.ifindex,
        counter_index: backend.counter_index,
    })
}

/// Whether the backend of an index may have connections.
#[inline(always)]
pub fn may_have_connections(range: (u32, u32), index: u16) -> bool {
    get(range, index).is_some_and(|backend| backend::may_have_connections(state(backend)))
}

/// The state of a backend, as it is now.
#[inline(always)]
pub fn state(backend: &Backend) -> u8 {
    MacAndState::from_word(atomic::load(&raw const backend.mac_and_state)).state
}
