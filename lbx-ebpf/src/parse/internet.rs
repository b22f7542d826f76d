//! IPv4 and IPv6.

use lbx_common::{
    address::Address,
    drops::DropReason,
    flow::FlowEvent,
    service::{ICMP, ICMPV6, TCP, UDP},
};

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};

use super::outcome::{ParseError, ParseResult, UNSUPPORTED, outcome_of_code, to_code};
use crate::{
    frame::{Frame, IPV4, IPV6, Ipv4, Ipv6, Ipv6ExtensionHeader, MAX_HEADER_OFFSET},
    packet::Packet,
};

/// More-fragments flag of an IPv4 fragment field (RFC 791 section 3.1).
const MORE4: u16 = 0x2000;
/// Fragment offset of it, in units of 8 bytes.
const OFFSET4: u16 = 0x1fff;
/// Largest length of an IPv4 packet, and of an IPv6 payload.
const LARGEST: u32 = 65_535;
/// Extension headers lbx follows at most.
const MAX_EXTENSIONS: usize = 6;
/// IPv6 extension headers (RFC 8200 section 4, RFC 4302).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// Reads the network layer at `packet.header_offset` into the packet.
#[inline(always)]
pub fn parse(frame: &Frame<'_>, ether_type: u16, packet: &mut Packet) -> ParseResult {
    if ether_type == IPV4 {
        ipv4(frame, packet)?;
    } else if ether_type == IPV6 {
        ipv6(frame, packet)?;
    } else {
        return Err(ParseError::Unsupported);
    }
    if !frame.has_at_least(packet.header_offset as usize + packet.remaining_bytes as usize) {
        return Err(ParseError::Malformed(DropReason::Truncated));
    }
    // An IPv4 header is part of the length, an IPv6 header is not.
    let header = if packet.vip.is_ipv4() {
        packet.ip_length - packet.remaining_bytes
    } else {
        0
    };
    if header + u32::from(packet.fragment_offset) * 8 + packet.remaining_bytes > LARGEST {
        return Err(ParseError::Malformed(DropReason::FragmentOverrun));
    }
    packet.flow_event = FlowEvent::RELATED;
    Ok(())
}

/// Whether lbx handles a protocol over IPv4.
#[inline(always)]
const fn handled_over_ipv4(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | ICMP)
}

/// Reads an IPv4 header. The frame may be shorter than its length field claims.
#[inline(always)]
pub fn ipv4(frame: &Frame<'_>, packet: &mut Packet) -> ParseResult {
    let ip: Ipv4 = frame
        .read(packet.header_offset as usize)
        .ok_or(ParseError::Unsupported)?;
    if !handled_over_ipv4(ip.protocol) {
        return Err(ParseError::Unsupported);
    }
    packet.client = Address::from_ipv4(ip.source);
    packet.vip = Address::from_ipv4(ip.destination);
    packet.protocol = ip.protocol;
    let header = u32::from(ip.version_ihl & 0x0f) * 4;
    let total = u32::from(u16::from_be_bytes(ip.total_length));
    if ip.version_ihl >> 4 != 4 {
        return Err(ParseError::Malformed(DropReason::IpVersion));
    }
    if header < size_of::<Ipv4>() as u32 || total < header {
        return Err(ParseError::Malformed(DropReason::IpHeaderLength));
    }
    let fragment = u16::from_be_bytes(ip.flags_and_fragment_offset);
    packet.fragment_offset = fragment & OFFSET4;
    packet.more_fragments = u8::from(fragment & MORE4 != 0);
    packet.identification = u32::from(u16::from_ne_bytes(ip.identification));
    packet.ip_length = total;
    packet.header_offset += header;
    packet.remaining_bytes = total - header;
    Ok(())
}

/// Reads an IPv6 header and its extension headers.
#[inline(always)]
pub fn ipv6(frame: &Frame<'_>, packet: &mut Packet) -> ParseResult {
    let ip: Ipv6 = frame
        .read(packet.header_offset as usize)
        .ok_or(ParseError::Unsupported)?;
    packet.client = Address::from_octets(ip.source);
    packet.vip = Address::from_octets(ip.destination);
    packet.protocol = ip.next_header;
    // IPv4-mapped addresses are not valid here: they would be taken for those of IPv4 packets.
    if packet.vip.is_ipv4() {
        return Err(ParseError::Unsupported);
    }
    if ip.version_class_flow[0] >> 4 != 6 {
        return Err(ParseError::Malformed(DropReason::IpVersion));
    }
    if packet.client.is_ipv4() {
        return Err(ParseError::Malformed(DropReason::BadSource));
    }
    let payload = u32::from(u16::from_be_bytes(ip.payload_length));
    packet.ip_length = payload + size_of::<Ipv6>() as u32;
    packet.header_offset += size_of::<Ipv6>() as u32;
    packet.remaining_bytes = payload;
    if handled_over_ipv6(packet.protocol) {
        return Ok(());
    }
    outcome_of_code(lbx_parse_extensions(frame.xdp_md(), packet))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_parse_extensions(xdp_md: *mut xdp_md, packet: *mut Packet) -> u32 {
    // SAFETY: null or a packet of the caller's.
    let Some(packet) = (unsafe { packet.as_mut() }) else {
        return UNSUPPORTED;
    };
    let context = XdpContext::new(xdp_md);
    to_code(extensions(&Frame::new(&context), packet))
}

/// Skips IPv6 extension headers, up to the transport header or the payload of a later fragment.
#[inline(always)]
fn extensions(frame: &Frame<'_>, packet: &mut Packet) -> ParseResult {
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(packet.protocol) {
            return Err(ParseError::Unsupported);
        }
        extension(frame, packet)?;
        if handled_over_ipv6(packet.protocol) || packet.fragment_offset != 0 {
            return Ok(());
        }
    }
    if is_extension(packet.protocol) {
        Err(ParseError::Malformed(DropReason::ExtensionHeaders))
    } else {
        Err(ParseError::Unsupported)
    }
}

/// Skips one extension header.
#[inline(always)]
fn extension(frame: &Frame<'_>, packet: &mut Packet) -> ParseResult {
    const ERROR: ParseError = ParseError::Malformed(DropReason::ExtensionHeaders);
    if packet.header_offset > MAX_HEADER_OFFSET {
        return Err(ERROR);
    }
    if packet.remaining_bytes < size_of::<Ipv6ExtensionHeader>() as u32 {
        return Err(ERROR);
    }
    let header: Ipv6ExtensionHeader = frame
        .read(packet.header_offset as usize)
        .ok_or(ParseError::Malformed(DropReason::Truncated))?;
    let length = if packet.protocol == FRAGMENT {
        let fragment = u16::from_be_bytes(header.fragment_offset_and_more);
        packet.fragment_offset = fragment >> 3;
        packet.more_fragments = (fragment & 1) as u8;
        packet.identification = u32::from_ne_bytes(header.identification);
        size_of::<Ipv6ExtensionHeader>() as u32
    } else if packet.protocol == AUTHENTICATION {
        (u32::from(header.header_extension_length) + 2) * 4
    } else {
        (u32::from(header.header_extension_length) + 1) * 8
    };
    if length > packet.remaining_bytes {
        return Err(ERROR);
    }
    packet.protocol = header.next_header;
    packet.header_offset += length;
    packet.remaining_bytes -= length;
    Ok(())
}

/// Whether lbx handles a protocol over IPv6.
#[inline(always)]
const fn handled_over_ipv6(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | ICMPV6)
}

/// Whether a protocol number is that of an IPv6 extension header.
#[inline(always)]
pub const fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS
    )
}
