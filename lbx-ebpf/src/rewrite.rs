//! Step five: rewrites the Ethernet header and nothing else: with direct server return the IP packet stays as the client
//! sent it.

use lbx_common::{backend::VlanTags, drops::DropReason};

use crate::{
    backend::NextHop,
    frame::{Ethernet, Frame, IPV4, IPV6, Mac, SERVICE_VLAN, VLAN, VlanTag},
    packet::Packet,
    verdict::{Verdict, VerdictResult},
};

/// Addresses the frame to the backend, from the NIC that sends it.
#[inline(always)]
pub fn ethernet(frame: &Frame<'_>, packet: &Packet, next_hop: &NextHop) -> VerdictResult<()> {
    let written = if packet.tag_count == 0 && next_hop.vlan_tags == 0 {
        frame.write_macs(next_hop.mac, next_hop.source_mac)
    } else {
        tagged(frame, packet, next_hop.mac, next_hop.source_mac, next_hop.vlan_tags)
    };
    written.ok_or(Verdict::Drop(DropReason::NoHeadroom))
}

/// The same with the VLAN tags of the backend's segment. Each keeps the priority of the tag it replaces; a second tag that
/// is added takes the priority of the first.
#[inline(never)]
fn tagged(frame: &Frame<'_>, packet: &Packet, destination: Mac, source: Mac, tags: u32) -> Option<()> {
    const TAG_LENGTH: i32 = size_of::<VlanTag>() as i32;
    const ETHER_TYPE_OFFSET: usize = 12;
    const PRIORITY: u16 = 0xf000;
    let tags = VlanTags::from_word(tags);
    let ether_type = if packet.vip.is_ipv4() { IPV4 } else { IPV6 }.to_be();
    let (mut priority, mut inner_priority) = (0, 0);
    if packet.tag_count > 0 {
        let tag: VlanTag = frame.read(size_of::<Ethernet>())?;
        priority = u16::from_be(tag.tci) & PRIORITY;
        inner_priority = priority;
    }
    if packet.tag_count > 1 {
        let tag: VlanTag = frame.read(size_of::<Ethernet>() + size_of::<VlanTag>())?;
        inner_priority = u16::from_be(tag.tci) & PRIORITY;
    }
    let tpid = |tag: u16| {
        if tag & VlanTags::SERVICE_TAG_FLAG == 0 {
            VLAN
        } else {
            SERVICE_VLAN
        }
        .to_be()
    };
    let control = |tag: u16, priority: u16| (priority | tag & VlanTags::ID_MASK).to_be();
    let removed_tags = packet.tag_count as i32 - tags.count() as i32;
    if removed_tags != 0 {
        frame.adjust_head(removed_tags * TAG_LENGTH)?;
    }
    frame.write_macs(destination, source)?;
    let VlanTags { outer, inner } = tags;
    match (outer, inner) {
        (0, _) => frame.write(ETHER_TYPE_OFFSET, [ether_type]),
        (_, 0) => frame.write(ETHER_TYPE_OFFSET, [tpid(outer), control(outer, priority), ether_type]),
        _ => frame.write(
            ETHER_TYPE_OFFSET,
            [
                tpid(outer),
                control(outer, priority),
                tpid(inner),
                control(inner, inner_priority),
                ether_type,
            ],
        ),
    }
}
