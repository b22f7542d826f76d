//! TCP, UDP, and what an ICMP error quotes of them.

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use lbx_common::{
    address::Address,
    drops::DropReason,
    flow::Signal,
    service::{ICMP, ICMPV6, TCP, UDP},
};

use super::{
    FOREIGN, Flaw, Headers, Packet, from_code,
    internet::{self, FARTHEST},
    to_code,
};
use crate::packet::{Frame, Icmp, Ipv6, Ports, Tcp, Udp};

/// Reads the transport header at `packet.at` into the packet.
#[inline(always)]
pub fn parse(frame: &Frame<'_>, packet: &mut Packet) -> Headers {
    if packet.at > FARTHEST {
        return Err(Flaw::Malformed(DropReason::ExtensionHeaders));
    }
    match packet.protocol {
        TCP | UDP => ports(frame, packet),
        ICMP | ICMPV6 => from_code(lbx_parse_icmp(frame.xdp_md(), packet)),
        // What comes behind its extension headers stands in its first fragment.
        protocol if packet.is_later_fragment() && internet::is_extension(protocol) => Ok(()),
        _ => Err(Flaw::Foreign),
    }
}

/// TCP and UDP. Only the first fragment of a packet has the header.
#[inline(always)]
fn ports(frame: &Frame<'_>, packet: &mut Packet) -> Headers {
    if packet.is_later_fragment() {
        return Ok(());
    }
    let result = if packet.protocol == TCP {
        tcp(frame, packet)
    } else {
        udp(frame, packet)
    };
    result.map_err(|reason| {
        // What does not fit a first fragment would fit a whole packet.
        let tiny = packet.more != 0 && !matches!(reason, DropReason::Truncated);
        Flaw::Malformed(if tiny { DropReason::TinyFragment } else { reason })
    })
}

/// A TCP header.
#[inline(always)]
fn tcp(frame: &Frame<'_>, packet: &mut Packet) -> Result<(), DropReason> {
    if packet.left < size_of::<Tcp>() as u32 {
        return Err(DropReason::ShortHeader);
    }
    let tcp: Tcp = frame.read(packet.at as usize).ok_or(DropReason::Truncated)?;
    let header = u32::from(tcp.offset >> 4) * 4;
    if header < size_of::<Tcp>() as u32 || header > packet.left {
        return Err(DropReason::TcpOffset);
    }
    packet.client_port = tcp.source;
    packet.vip_port = tcp.destination;
    packet.signal = Signal::of_tcp_flags(tcp.flags);
    Ok(())
}

/// A UDP header. In a first fragment the length is that of the whole datagram.
#[inline(always)]
fn udp(frame: &Frame<'_>, packet: &mut Packet) -> Result<(), DropReason> {
    if packet.left < size_of::<Udp>() as u32 {
        return Err(DropReason::ShortHeader);
    }
    let udp: Udp = frame.read(packet.at as usize).ok_or(DropReason::Truncated)?;
    let length = u32::from(u16::from_be_bytes(udp.length));
    if length < size_of::<Udp>() as u32 || (length > packet.left && packet.more == 0) {
        return Err(DropReason::UdpLength);
    }
    packet.client_port = udp.source;
    packet.vip_port = udp.destination;
    packet.signal = Signal::DATAGRAM;
    Ok(())
}

/// An ICMP error about a packet that a real server sent from the VIP belongs to whoever has that flow. Other ICMP is the
/// director's.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_parse_icmp(xdp_md: *mut xdp_md, packet: *mut Packet) -> u32 {
    // SAFETY: null or a packet of the caller's.
    let Some(packet) = (unsafe { packet.as_mut() }) else {
        return FOREIGN;
    };
    if packet.at > FARTHEST {
        return FOREIGN;
    }
    let context = XdpContext::new(xdp_md);
    to_code(icmp(&Frame::of(&context), packet))
}

#[inline(always)]
fn icmp(frame: &Frame<'_>, packet: &mut Packet) -> Headers {
    if packet.offset != 0 || packet.more != 0 {
        return Err(Flaw::Foreign);
    }
    if packet.left < size_of::<Icmp>() as u32 {
        return Err(Flaw::Malformed(DropReason::ShortHeader));
    }
    let header: Icmp = frame.read(packet.at as usize).ok_or(Flaw::Foreign)?;
    let error = if packet.protocol == ICMP {
        // Destination unreachable, time exceeded, parameter problem (RFC 792).
        matches!(header.kind, 3 | 11 | 12)
    } else {
        // Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443).
        matches!(header.kind, 1..=4)
    };
    if !error {
        return Err(Flaw::Foreign);
    }
    let (vip, length, end) = (packet.vip, packet.length, packet.at + packet.left);
    packet.at += size_of::<Icmp>() as u32;
    let least = if packet.protocol == ICMP { QUOTE4 } else { QUOTE6 };
    if packet.at + least > end {
        return Err(SHORT);
    }
    let quoted = if packet.protocol == ICMP {
        internet::ipv4(frame, packet)
    } else {
        internet::ipv6(frame, packet)
    };
    let mentioned = match quoted {
        Ok(()) => mention(frame, packet, vip, end),
        Err(Flaw::Malformed(_)) => Err(SHORT),
        Err(Flaw::Foreign) => Err(Flaw::Foreign),
    };
    packet.vip = vip;
    packet.length = length;
    mentioned
}

/// Bytes that every ICMP error quotes: an IPv4 header without options and eight bytes more (RFC 792), an IPv6 header.
const QUOTE4: u32 = 28;
const QUOTE6: u32 = size_of::<Ipv6>() as u32;
const SHORT: Flaw = Flaw::Malformed(DropReason::IcmpQuote);

/// Makes the packet, of which the quoted one has been read, one about the flow of that. The quoted packet was on its way
/// from the VIP to the client; the ICMP error ends at `end`.
#[inline(always)]
fn mention(frame: &Frame<'_>, packet: &mut Packet, vip: Address, end: u32) -> Headers {
    let foreign = packet.protocol != TCP && packet.protocol != UDP;
    if foreign || packet.offset != 0 || packet.client != vip {
        return Err(Flaw::Foreign);
    }
    if packet.at + size_of::<Ports>() as u32 > end || packet.at > FARTHEST {
        return Err(SHORT);
    }
    let ports: Ports = frame.read(packet.at as usize).ok_or(SHORT)?;
    packet.client = packet.vip;
    packet.client_port = ports.destination;
    packet.vip_port = ports.source;
    packet.more = 0;
    packet.signal = Signal::MENTION;
    Ok(())
}
