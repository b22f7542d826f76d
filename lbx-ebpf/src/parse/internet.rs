//! IPv4 and IPv6.

use lbx_common::{
    address::Address,
    drops::DropReason,
    flow::Signal,
    service::{ICMP, ICMPV6, TCP, UDP},
};

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};

use super::{FOREIGN, Flaw, Headers, Packet, from_code, to_code};
use crate::packet::{Extension, Frame, Ipv4, Ipv6};

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// More-fragments flag of an IPv4 fragment field (RFC 791 section 3.1).
const MORE4: u16 = 0x2000;
/// Fragment offset of it, in units of 8 bytes.
const OFFSET4: u16 = 0x1fff;
/// Largest length of an IPv4 packet, and of an IPv6 payload.
const LARGEST: u32 = 65_535;
/// Bytes of a frame that headers may lie in: the verifier wants a bound.
pub const FARTHEST: u32 = 4_095;
/// Extension headers lbx follows.
const MAX_EXTENSIONS: usize = 6;
/// IPv6 extension headers (RFC 8200 section 4, RFC 4302).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// Reads the network layer at `packet.at` into the packet.
#[inline(always)]
pub fn parse(frame: &Frame<'_>, ether_type: u16, packet: &mut Packet) -> Headers {
    if ether_type == IPV4 {
        ipv4(frame, packet)?;
    } else if ether_type == IPV6 {
        ipv6(frame, packet)?;
    } else {
        return Err(Flaw::Foreign);
    }
    if !frame.holds(packet.at as usize + packet.left as usize) {
        return Err(Flaw::Malformed(DropReason::Truncated));
    }
    // An IPv4 header is part of the length, an IPv6 header is not.
    let header = if packet.vip.is_ipv4() {
        packet.length - packet.left
    } else {
        0
    };
    if header + u32::from(packet.offset) * 8 + packet.left > LARGEST {
        return Err(Flaw::Malformed(DropReason::FragmentOverrun));
    }
    packet.signal = Signal::MENTION;
    Ok(())
}

/// Whether lbx has to do with a protocol.
#[inline(always)]
const fn ours(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | ICMP)
}

/// An IPv4 header. The frame may be shorter than it says.
#[inline(always)]
pub fn ipv4(frame: &Frame<'_>, packet: &mut Packet) -> Headers {
    let ip: Ipv4 = frame.read(packet.at as usize).ok_or(Flaw::Foreign)?;
    if !ours(ip.protocol) {
        return Err(Flaw::Foreign);
    }
    packet.client = Address::from_ipv4(ip.source);
    packet.vip = Address::from_ipv4(ip.destination);
    packet.protocol = ip.protocol;
    let header = u32::from(ip.version_ihl & 0x0f) * 4;
    let total = u32::from(u16::from_be_bytes(ip.total_length));
    if ip.version_ihl >> 4 != 4 {
        return Err(Flaw::Malformed(DropReason::IpVersion));
    }
    if header < size_of::<Ipv4>() as u32 || total < header {
        return Err(Flaw::Malformed(DropReason::IpHeaderLength));
    }
    let fragment = u16::from_be_bytes(ip.fragment);
    packet.offset = fragment & OFFSET4;
    packet.more = u8::from(fragment & MORE4 != 0);
    packet.identification = u32::from(u16::from_ne_bytes(ip.identification));
    packet.length = total;
    packet.at += header;
    packet.left = total - header;
    Ok(())
}

/// An IPv6 header and the extension headers behind it.
#[inline(always)]
pub fn ipv6(frame: &Frame<'_>, packet: &mut Packet) -> Headers {
    let ip: Ipv6 = frame.read(packet.at as usize).ok_or(Flaw::Foreign)?;
    packet.client = Address::from_octets(ip.source);
    packet.vip = Address::from_octets(ip.destination);
    packet.protocol = ip.next_header;
    // IPv4 addresses have no business here: mapped ones would be taken for those of IPv4 packets.
    if packet.vip.is_ipv4() {
        return Err(Flaw::Foreign);
    }
    if ip.version_class_flow[0] >> 4 != 6 {
        return Err(Flaw::Malformed(DropReason::IpVersion));
    }
    if packet.client.is_ipv4() {
        return Err(Flaw::Malformed(DropReason::BadSource));
    }
    let payload = u32::from(u16::from_be_bytes(ip.payload_length));
    packet.length = payload + size_of::<Ipv6>() as u32;
    packet.at += size_of::<Ipv6>() as u32;
    packet.left = payload;
    if carried(packet.protocol) {
        return Ok(());
    }
    from_code(lbx_parse_extensions(frame.xdp_md(), packet))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_parse_extensions(xdp_md: *mut xdp_md, packet: *mut Packet) -> u32 {
    // SAFETY: null or a packet of the caller's.
    let Some(packet) = (unsafe { packet.as_mut() }) else {
        return FOREIGN;
    };
    let context = XdpContext::new(xdp_md);
    to_code(extensions(&Frame::of(&context), packet))
}

/// Steps over IPv6 extension headers, up to what the packet carries or to what a later fragment holds of it.
#[inline(always)]
fn extensions(frame: &Frame<'_>, packet: &mut Packet) -> Headers {
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(packet.protocol) {
            return Err(Flaw::Foreign);
        }
        extension(frame, packet)?;
        if carried(packet.protocol) || packet.offset != 0 {
            return Ok(());
        }
    }
    if is_extension(packet.protocol) {
        Err(Flaw::Malformed(DropReason::ExtensionHeaders))
    } else {
        Err(Flaw::Foreign)
    }
}

/// Steps over one extension header.
#[inline(always)]
fn extension(frame: &Frame<'_>, packet: &mut Packet) -> Headers {
    const FLAW: Flaw = Flaw::Malformed(DropReason::ExtensionHeaders);
    if packet.at > FARTHEST {
        return Err(FLAW);
    }
    if packet.left < size_of::<Extension>() as u32 {
        return Err(FLAW);
    }
    let header: Extension = frame
        .read(packet.at as usize)
        .ok_or(Flaw::Malformed(DropReason::Truncated))?;
    let length = if packet.protocol == FRAGMENT {
        let fragment = u16::from_be_bytes(header.fragment);
        packet.offset = fragment >> 3;
        packet.more = (fragment & 1) as u8;
        packet.identification = u32::from_ne_bytes(header.identification);
        size_of::<Extension>() as u32
    } else if packet.protocol == AUTHENTICATION {
        (u32::from(header.length) + 2) * 4
    } else {
        (u32::from(header.length) + 1) * 8
    };
    if length > packet.left {
        return Err(FLAW);
    }
    packet.protocol = header.next_header;
    packet.at += length;
    packet.left -= length;
    Ok(())
}

/// Whether it is a protocol lbx looks into.
#[inline(always)]
const fn carried(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | ICMPV6)
}

#[inline(always)]
pub const fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS
    )
}
