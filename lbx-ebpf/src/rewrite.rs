//! Step four: the Ethernet header, and nothing else: direct server return leaves the IP packet as the client sent it.

use lbx_common::{
    backend::{Tags, word_mac},
    drops::DropReason,
};

use crate::{
    backend::Hop,
    packet::{Ethernet, Frame, VlanTag, mac_words},
    parse::{IPV4, IPV6, Packet, SERVICE_VLAN, VLAN},
    verdict::{Exit, Step},
};

/// Addresses the frame to the backend, from the NIC that will send it.
#[inline(always)]
pub fn ethernet(frame: &Frame<'_>, packet: &Packet, hop: &Hop) -> Step<()> {
    let done = if packet.depth == 0 && hop.tags == 0 {
        addresses(frame, hop.mac, hop.source)
    } else {
        tagged(frame, packet, hop.mac, hop.source, hop.tags)
    };
    done.ok_or(Exit::Drop(DropReason::NoHeadroom))
}

#[inline(always)]
fn addresses(frame: &Frame<'_>, destination: u64, source: u64) -> Option<()> {
    let [a, b, c] = mac_words(word_mac(destination));
    let [d, e, f] = mac_words(word_mac(source));
    frame.write(0, [a, b, c, d, e, f])
}

/// The same with VLAN tags: those of the segment the backend is on, each with the priority of the one it takes the place of.
/// A second tag where there was one gets the priority of that.
#[inline(never)]
fn tagged(frame: &Frame<'_>, packet: &Packet, destination: u64, source: u64, tags: u32) -> Option<()> {
    const TAG: i32 = size_of::<VlanTag>() as i32;
    const TYPE_AT: usize = 12;
    const PRIORITY: u16 = 0xf000;
    let tags = Tags::from_word(tags);
    let ether_type = if packet.vip.is_ipv4() { IPV4 } else { IPV6 }.to_be();
    let (mut priority, mut inner_priority) = (0, 0);
    if packet.depth > 0 {
        let tag: VlanTag = frame.read(size_of::<Ethernet>())?;
        priority = u16::from_be(tag.control) & PRIORITY;
        inner_priority = priority;
    }
    if packet.depth > 1 {
        let tag: VlanTag = frame.read(size_of::<Ethernet>() + size_of::<VlanTag>())?;
        inner_priority = u16::from_be(tag.control) & PRIORITY;
    }
    let kind = |tag: u16| if tag & Tags::SERVICE == 0 { VLAN } else { SERVICE_VLAN }.to_be();
    let control = |tag: u16, priority: u16| (priority | tag & Tags::ID).to_be();
    let more = packet.depth as i32 - tags.count() as i32;
    if more != 0 {
        frame.move_start(more * TAG)?;
    }
    addresses(frame, destination, source)?;
    let Tags { outer, inner } = tags;
    match (outer, inner) {
        (0, _) => frame.write(TYPE_AT, [ether_type]),
        (_, 0) => frame.write(TYPE_AT, [kind(outer), control(outer, priority), ether_type]),
        _ => frame.write(
            TYPE_AT,
            [
                kind(outer),
                control(outer, priority),
                kind(inner),
                control(inner, inner_priority),
                ether_type,
            ],
        ),
    }
}
