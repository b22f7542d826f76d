//! Ethernet and VLAN tags.

use lbx_common::backend::Tags;

use super::Packet;
use crate::packet::{Ethernet, Frame, VlanTag};

/// EtherType of a customer's VLAN tag (IEEE 802.1Q).
pub const VLAN: u16 = 0x8100;
/// EtherType of a provider's VLAN tag (IEEE 802.1ad).
pub const SERVICE_VLAN: u16 = 0x88a8;
/// VLAN tags lbx looks behind.
const MAX_DEPTH: usize = 2;

/// Reads the link layer into the packet; the EtherType of what follows, in host byte order. None where the frame ends
/// inside it.
#[inline(always)]
pub fn parse(frame: &Frame<'_>, packet: &mut Packet) -> Option<u16> {
    let ethernet: Ethernet = frame.read(0)?;
    packet.destination = ethernet.destination;
    packet.source = ethernet.source;
    let mut ether_type = u16::from_be(ethernet.ether_type);
    let mut at = size_of::<Ethernet>();
    for _ in 0..MAX_DEPTH {
        if ether_type != VLAN && ether_type != SERVICE_VLAN {
            break;
        }
        let tag: VlanTag = frame.read(at)?;
        let id = u16::from_be(tag.control) & Tags::ID;
        let service = if ether_type == SERVICE_VLAN { Tags::SERVICE } else { 0 };
        if id != 0 {
            if packet.tags.outer == 0 {
                packet.tags.outer = id | service;
            } else {
                packet.tags.inner = id | service;
            }
        }
        packet.depth += 1;
        at += size_of::<VlanTag>();
        ether_type = u16::from_be(tag.ether_type);
    }
    packet.at = at as u32;
    Some(ether_type)
}
