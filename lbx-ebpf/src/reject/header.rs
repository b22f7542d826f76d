//! The Ethernet and IP headers of an answer: back to where the packet came from.

use lbx_common::checksum::{of_sum, sum_of_words};

use crate::{
    frame::{Frame, Ipv4, Ipv6, address_words},
    packet::Packet,
};

/// Time to live and hop limit (IANA IP parameters: 64 is recommended).
const HOPS: u16 = 64;
/// Version 4 and a header of five words; type of service 0.
const VERSION4: u16 = 0x4500;
const DONT_FRAGMENT: u16 = 0x4000;
/// Version 6, traffic class 0.
const VERSION6: u16 = 0x6000;

/// Length of the IP header of an answer to a packet: without options or extension headers.
#[inline(always)]
pub fn length(packet: &Packet) -> usize {
    if packet.vip.is_ipv4() {
        size_of::<Ipv4>()
    } else {
        size_of::<Ipv6>()
    }
}

/// Writes the MAC addresses: from the NIC to the host that the packet came from.
#[inline(always)]
pub fn write_macs(frame: &Frame<'_>, packet: &Packet) -> Option<()> {
    frame.write_macs(packet.source_mac, packet.destination_mac)
}

/// Writes the IP header at an offset: from the VIP to the client, with a payload of so many bytes.
#[inline(always)]
pub fn write_ip(frame: &Frame<'_>, packet: &Packet, offset: usize, protocol: u8, payload: u16) -> Option<()> {
    let source = address_words(packet.vip);
    let destination = address_words(packet.client);
    if packet.vip.is_ipv4() {
        let [.., a, b] = source;
        let [.., c, d] = destination;
        let total = payload + size_of::<Ipv4>() as u16;
        let hops = HOPS << 8 | u16::from(protocol);
        let words = |checksum| {
            let [version, length, flags, hops] = [VERSION4, total, DONT_FRAGMENT, hops].map(u16::to_be);
            [version, length, 0, flags, hops, checksum, a, b, c, d]
        };
        return frame.write(offset, words(of_sum(sum_of_words(&words(0)))));
    }
    let hops = u16::from(protocol) << 8 | HOPS;
    frame.write(offset, [VERSION6.to_be(), 0, payload.to_be(), hops.to_be()])?;
    frame.write(offset + 8, source)?;
    frame.write(offset + 24, destination)
}
