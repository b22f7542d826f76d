//! Ethernet and VLAN tags.

use lbx_common::backend::VlanTags;

use crate::{
    frame::{Ethernet, Frame, SERVICE_VLAN, VLAN, VlanTag, mac_of_words},
    packet::Packet,
};

/// VLAN tags lbx parses at most.
const MAX_TAGS: usize = 2;

/// Reads the link layer into the packet; the EtherType of what follows, in host byte order. None where the frame ends
/// inside it.
#[inline(always)]
pub fn parse(frame: &Frame<'_>, packet: &mut Packet) -> Option<u16> {
    let ethernet: Ethernet = frame.read(0)?;
    packet.destination_mac = mac_of_words(ethernet.destination);
    packet.source_mac = mac_of_words(ethernet.source);
    let mut ether_type = u16::from_be(ethernet.ether_type);
    let mut offset = size_of::<Ethernet>();
    for _ in 0..MAX_TAGS {
        if ether_type != VLAN && ether_type != SERVICE_VLAN {
            break;
        }
        let tag: VlanTag = frame.read(offset)?;
        let id = u16::from_be(tag.tci) & VlanTags::ID_MASK;
        let service = if ether_type == SERVICE_VLAN {
            VlanTags::SERVICE_TAG_FLAG
        } else {
            0
        };
        if id != 0 {
            if packet.vlan_tags.outer == 0 {
                packet.vlan_tags.outer = id | service;
            } else {
                packet.vlan_tags.inner = id | service;
            }
        }
        packet.tag_count += 1;
        offset += size_of::<VlanTag>();
        ether_type = u16::from_be(tag.ether_type);
    }
    packet.header_offset = offset as u32;
    Some(ether_type)
}
