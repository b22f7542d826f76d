//! A NIC the program is attached to.

use crate::backend::VlanTags;

/// Client-facing: packets for a VIP are balanced.
pub const CLIENT_FACING: u16 = 1 << 0;
/// Real servers are reached through it.
pub const SERVER_FACING: u16 = 1 << 1;

/// A segment a NIC is on: the NIC itself, or a VLAN on it. An entry in the NIC map.
///
/// The map is a short array that the program scans: on the packet path a hash lookup costs more than all later steps.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nic {
    /// Its MAC address, as on the wire: frames to another address are ignored (a NIC in promiscuous mode receives them).
    pub mac: [u8; 6],
    /// [`CLIENT_FACING`], [`SERVER_FACING`].
    pub roles: u16,
    /// Its index; 0: no NIC. Written last, together with the tags.
    pub ifindex: u32,
    /// The tags that frames of the segment carry.
    pub vlan_tags: VlanTags,
}

const _: () = assert!(size_of::<Nic>() == 16 && align_of::<Nic>() == 8);

/// The lookup key of an entry of the NIC map: its second word.
#[inline(always)]
#[must_use]
pub const fn segment_key(ifindex: u32, tags: VlanTags) -> u64 {
    let [a, b, c, d] = ifindex.to_ne_bytes();
    let [e, f] = tags.outer.to_ne_bytes();
    let [g, h] = tags.inner.to_ne_bytes();
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

impl Nic {
    /// Its words, in the order of memory.
    #[must_use]
    pub const fn words(&self) -> [u64; 2] {
        // SAFETY: both are 16 bytes of plain data, and Nic has no padding.
        unsafe { core::mem::transmute(*self) }
    }
}
