//! The packet that nearly all are: no VLAN tag, no fragment, IPv4 without options or IPv6 without extension headers, TCP or UDP,
//! headers without a fault. It is read at fixed offsets with one check of bounds, and returned by value: it lives in registers.
//!
//! None: the general parser decides. Both read every packet alike that both accept (a fuzz test).

use lbx_common::{
    address::Address,
    flow::FlowEvent,
    service::{TCP, UDP},
};

use crate::{
    frame::{Ethernet, FirstBytes, Frame, IPV4, IPV6, Ipv4, Ipv6, Tcp, Udp, mac_of_parts},
    packet::Packet,
};

const ETHERNET: usize = size_of::<Ethernet>();
/// Length of the headers of the shortest packet over IPv4.
const UDP4: usize = ETHERNET + size_of::<Ipv4>() + size_of::<Udp>();
const TCP4: usize = ETHERNET + size_of::<Ipv4>() + size_of::<Tcp>();
const UDP6: usize = ETHERNET + size_of::<Ipv6>() + size_of::<Udp>();
const TCP6: usize = ETHERNET + size_of::<Ipv6>() + size_of::<Tcp>();
/// More fragments and fragment offset (RFC 791 section 3.1).
const FRAGMENT4: u16 = 0x3fff;

/// A packet over IPv4.
#[inline(always)]
pub fn ipv4(frame: &Frame<'_>) -> Option<Packet> {
    let bytes: FirstBytes<UDP4> = frame.first()?;
    // Version 4, header of five words.
    if bytes.load16::<12>() != IPV4.to_be() || bytes.load8::<14>() != 0x45 {
        return None;
    }
    if bytes.load16::<20>() & FRAGMENT4.to_be() != 0 {
        return None;
    }
    let total = u32::from(u16::from_be(bytes.load16::<16>()));
    let remaining = total.checked_sub(size_of::<Ipv4>() as u32)?;
    let protocol = bytes.load8::<23>();
    let flow_event = if protocol == TCP {
        let bytes: FirstBytes<TCP4> = frame.first()?;
        tcp_event(bytes.load8::<46>(), bytes.load8::<47>(), remaining)?
    } else {
        udp_event(protocol, bytes.load16::<38>(), remaining)?
    };
    whole(
        frame,
        Packet {
            client: Address::from_ipv4(bytes.load32::<26>().to_ne_bytes()),
            vip: Address::from_ipv4(bytes.load32::<30>().to_ne_bytes()),
            ip_length: total,
            remaining_bytes: remaining,
            header_offset: (ETHERNET + size_of::<Ipv4>()) as u32,
            protocol,
            flow_event,
            ..link_and_ports(bytes, bytes.load32::<34>())
        },
    )
}

/// A packet over IPv6.
#[inline(always)]
pub fn ipv6(frame: &Frame<'_>) -> Option<Packet> {
    let bytes: FirstBytes<UDP6> = frame.first()?;
    if bytes.load16::<12>() != IPV6.to_be() || bytes.load8::<14>() >> 4 != 6 {
        return None;
    }
    let payload = u32::from(u16::from_be(bytes.load16::<18>()));
    let protocol = bytes.load8::<20>();
    let flow_event = if protocol == TCP {
        let bytes: FirstBytes<TCP6> = frame.first()?;
        tcp_event(bytes.load8::<66>(), bytes.load8::<67>(), payload)?
    } else {
        udp_event(protocol, bytes.load16::<58>(), payload)?
    };
    let client = Address {
        high_be: bytes.load64::<22>(),
        low_be: bytes.load64::<30>(),
    };
    let vip = Address {
        high_be: bytes.load64::<38>(),
        low_be: bytes.load64::<46>(),
    };
    // They would be taken for those of IPv4 packets.
    if client.is_ipv4() || vip.is_ipv4() {
        return None;
    }
    whole(
        frame,
        Packet {
            client,
            vip,
            ip_length: payload + size_of::<Ipv6>() as u32,
            remaining_bytes: payload,
            header_offset: (ETHERNET + size_of::<Ipv6>()) as u32,
            protocol,
            flow_event,
            ..link_and_ports(bytes, bytes.load32::<54>())
        },
    )
}

/// The MAC addresses, and the ports as they lie in the packet.
#[inline(always)]
fn link_and_ports<const LENGTH: usize>(bytes: FirstBytes<LENGTH>, ports: u32) -> Packet {
    let [a, b, c, d] = ports.to_ne_bytes();
    Packet {
        destination_mac: mac_of_parts(bytes.load32::<0>(), bytes.load16::<4>()),
        source_mac: mac_of_parts(bytes.load32::<6>(), bytes.load16::<10>()),
        client_port: [a, b],
        vip_port: [c, d],
        ..Packet::default()
    }
}

/// The packet, if the linear part of the frame has all of it.
#[inline(always)]
fn whole(frame: &Frame<'_>, packet: Packet) -> Option<Packet> {
    frame
        .has_linear((packet.header_offset + packet.remaining_bytes) as usize)
        .then_some(packet)
}

/// What a TCP header means, given its thirteenth and fourteenth byte and what remains of the packet from it on.
#[inline(always)]
fn tcp_event(data_offset: u8, flags: u8, remaining: u32) -> Option<FlowEvent> {
    let header = u32::from(data_offset >> 4) * 4;
    (header >= size_of::<Tcp>() as u32 && header <= remaining).then_some(FlowEvent::of_tcp_flags(flags))
}

/// What a UDP header means, given its length field.
#[inline(always)]
fn udp_event(protocol: u8, length_be: u16, remaining: u32) -> Option<FlowEvent> {
    let length = u32::from(u16::from_be(length_be));
    (protocol == UDP && length >= size_of::<Udp>() as u32 && length <= remaining).then_some(FlowEvent::DATAGRAM)
}
