//! TCP, UDP, and what an ICMP error quotes of them.

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use lbx_common::{
    address::Address,
    drops::DropReason,
    flow::FlowEvent,
    service::{ICMP, ICMPV6, TCP, UDP},
};

use super::{
    internet,
    outcome::{ParseError, ParseResult, UNSUPPORTED, outcome_of_code, to_code},
};
use crate::{
    frame::{Frame, Icmp, Ipv6, MAX_HEADER_OFFSET, Tcp, TransportPorts, Udp},
    packet::Packet,
};

/// Reads the transport header at `packet.header_offset` into the packet.
#[inline(always)]
pub fn parse(frame: &Frame<'_>, packet: &mut Packet) -> ParseResult {
    if packet.header_offset > MAX_HEADER_OFFSET {
        return Err(ParseError::Malformed(DropReason::ExtensionHeaders));
    }
    match packet.protocol {
        TCP | UDP => ports(frame, packet),
        ICMP | ICMPV6 => outcome_of_code(lbx_parse_icmp(frame.xdp_md(), packet)),
        // The protocol behind its extension headers is known from the first fragment only.
        protocol if packet.is_later_fragment() && internet::is_extension(protocol) => Ok(()),
        _ => Err(ParseError::Unsupported),
    }
}

/// TCP and UDP. Only the first fragment of a packet has the header.
#[inline(always)]
fn ports(frame: &Frame<'_>, packet: &mut Packet) -> ParseResult {
    if packet.is_later_fragment() {
        return Ok(());
    }
    let result = if packet.protocol == TCP {
        tcp(frame, packet)
    } else {
        udp(frame, packet)
    };
    result.map_err(|reason| {
        // A header cut off in a first fragment would be complete in the whole packet.
        let tiny = packet.more_fragments != 0 && !matches!(reason, DropReason::Truncated);
        ParseError::Malformed(if tiny { DropReason::TinyFragment } else { reason })
    })
}

/// Reads a TCP header.
#[inline(always)]
fn tcp(frame: &Frame<'_>, packet: &mut Packet) -> Result<(), DropReason> {
    if packet.remaining_bytes < size_of::<Tcp>() as u32 {
        return Err(DropReason::ShortHeader);
    }
    let tcp: Tcp = frame.read(packet.header_offset as usize).ok_or(DropReason::Truncated)?;
    let header = u32::from(tcp.data_offset >> 4) * 4;
    if header < size_of::<Tcp>() as u32 || header > packet.remaining_bytes {
        return Err(DropReason::TcpOffset);
    }
    packet.client_port = tcp.source;
    packet.vip_port = tcp.destination;
    packet.flow_event = FlowEvent::of_tcp_flags(tcp.flags);
    Ok(())
}

/// Reads a UDP header. In a first fragment its length is that of the whole datagram.
#[inline(always)]
fn udp(frame: &Frame<'_>, packet: &mut Packet) -> Result<(), DropReason> {
    if packet.remaining_bytes < size_of::<Udp>() as u32 {
        return Err(DropReason::ShortHeader);
    }
    let udp: Udp = frame.read(packet.header_offset as usize).ok_or(DropReason::Truncated)?;
    let length = u32::from(u16::from_be_bytes(udp.length));
    if length < size_of::<Udp>() as u32 || (length > packet.remaining_bytes && packet.more_fragments == 0) {
        return Err(DropReason::UdpLength);
    }
    packet.client_port = udp.source;
    packet.vip_port = udp.destination;
    packet.flow_event = FlowEvent::DATAGRAM;
    Ok(())
}

/// Reads an ICMP error about a packet that a real server sent from the VIP: it goes to the backend of that flow. Other
/// ICMP packets are for the director itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_parse_icmp(xdp_md: *mut xdp_md, packet: *mut Packet) -> u32 {
    // SAFETY: null or a packet of the caller's.
    let Some(packet) = (unsafe { packet.as_mut() }) else {
        return UNSUPPORTED;
    };
    if packet.header_offset > MAX_HEADER_OFFSET {
        return UNSUPPORTED;
    }
    let context = XdpContext::new(xdp_md);
    to_code(icmp(&Frame::new(&context), packet))
}

#[inline(always)]
fn icmp(frame: &Frame<'_>, packet: &mut Packet) -> ParseResult {
    if packet.fragment_offset != 0 || packet.more_fragments != 0 {
        return Err(ParseError::Unsupported);
    }
    if packet.remaining_bytes < size_of::<Icmp>() as u32 {
        return Err(ParseError::Malformed(DropReason::ShortHeader));
    }
    let header: Icmp = frame
        .read(packet.header_offset as usize)
        .ok_or(ParseError::Unsupported)?;
    let error = if packet.protocol == ICMP {
        // Destination unreachable, time exceeded, parameter problem (RFC 792).
        matches!(header.kind, 3 | 11 | 12)
    } else {
        // Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443).
        matches!(header.kind, 1..=4)
    };
    if !error {
        return Err(ParseError::Unsupported);
    }
    let (vip, length, end) = (
        packet.vip,
        packet.ip_length,
        packet.header_offset + packet.remaining_bytes,
    );
    packet.header_offset += size_of::<Icmp>() as u32;
    let minimum = if packet.protocol == ICMP { QUOTE4 } else { QUOTE6 };
    if packet.header_offset + minimum > end {
        return Err(SHORT);
    }
    let quoted = if packet.protocol == ICMP {
        internet::ipv4(frame, packet)
    } else {
        internet::ipv6(frame, packet)
    };
    let related = match quoted {
        Ok(()) => relate_to_quoted(frame, packet, vip, end),
        Err(ParseError::Malformed(_)) => Err(SHORT),
        Err(ParseError::Unsupported) => Err(ParseError::Unsupported),
    };
    packet.vip = vip;
    packet.ip_length = length;
    related
}

/// Bytes that every ICMP error quotes: an IPv4 header without options and eight bytes more (RFC 792), an IPv6 header.
const QUOTE4: u32 = 28;
const QUOTE6: u32 = size_of::<Ipv6>() as u32;
const SHORT: ParseError = ParseError::Malformed(DropReason::IcmpQuote);

/// Relates an ICMP error to the flow of the packet it quotes, whose IP header has been read. The quoted packet was sent from
/// the VIP to the client; the ICMP error ends at `end`.
#[inline(always)]
fn relate_to_quoted(frame: &Frame<'_>, packet: &mut Packet, vip: Address, end: u32) -> ParseResult {
    let unsupported = packet.protocol != TCP && packet.protocol != UDP;
    if unsupported || packet.fragment_offset != 0 || packet.client != vip {
        return Err(ParseError::Unsupported);
    }
    if packet.header_offset + size_of::<TransportPorts>() as u32 > end || packet.header_offset > MAX_HEADER_OFFSET {
        return Err(SHORT);
    }
    let ports: TransportPorts = frame.read(packet.header_offset as usize).ok_or(SHORT)?;
    packet.client = packet.vip;
    packet.client_port = ports.destination;
    packet.vip_port = ports.source;
    packet.more_fragments = 0;
    packet.flow_event = FlowEvent::RELATED;
    Ok(())
}
