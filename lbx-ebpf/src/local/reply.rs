//! Packets from a VIP on a real server to a socket of the director: the RIP replaces the VIP.

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use lbx_common::{
    address::Address,
    checksum::{adjusted, adjusted_udp, difference},
    service::{TCP, UDP},
};

use super::session;
use crate::{
    frame::{Frame, Icmp, Ipv4, Ipv6, MAX_HEADER_OFFSET, address_words},
    maps,
    packet::Packet,
    routed_reply,
    verdict::Verdict,
};

/// Handles a packet that is not for a VIP: it passes, and if it is a reply to the director, with the RIP as its source.
/// Other traffic costs one lookup in the bitmap of ports, and a datagram one among the VIPs.
#[inline(always)]
pub fn rewrite_reply(frame: &Frame<'_>, packet: &Packet) -> Verdict {
    if maps::has_sessions(packet.protocol == UDP, packet.vip_port) {
        lbx_reply(frame.xdp_md(), packet);
    } else {
        routed_reply::count(frame, packet);
    }
    Verdict::Pass
}

/// A global function: the verifier checks it once, on its own.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_reply(xdp_md: *mut xdp_md, packet: *const Packet) -> u32 {
    // SAFETY: null or a packet of the caller's.
    let Some(packet) = (unsafe { packet.as_ref() }) else {
        return 0;
    };
    let context = XdpContext::new(xdp_md);
    let frame = Frame::new(&context);
    // A packet that can't be rewritten passes unchanged or in part; the stack drops packets from its own address.
    let Some(rip) = session::rip_of_reply(packet) else {
        return 0;
    };
    let rewritten = if packet.flow_event.is_related() && !packet.is_later_fragment() {
        rewrite_error(&frame, packet, rip)
    } else {
        rewrite_packet(&frame, packet, rip)
    };
    u32::from(rewritten.is_some())
}

/// Rewrites a packet from the VIP, or a fragment of one.
#[inline(always)]
fn rewrite_packet(frame: &Frame<'_>, packet: &Packet, rip: Address) -> Option<()> {
    const TCP_CHECKSUM: usize = 16;
    const UDP_CHECKSUM: usize = 6;
    let change = difference(packet.client, rip);
    if !packet.is_later_fragment() {
        if packet.header_offset > MAX_HEADER_OFFSET {
            return None;
        }
        if packet.protocol == TCP {
            let offset = packet.header_offset as usize + TCP_CHECKSUM;
            frame.write(offset, [adjusted(frame.read(offset)?, change)])?;
        } else {
            let offset = packet.header_offset as usize + UDP_CHECKSUM;
            frame.write(offset, [adjusted_udp(frame.read(offset)?, change)])?;
        }
    }
    replace_source(frame, packet.network_offset()?, rip, change)
}

/// Rewrites an ICMP error about a packet to the VIP. The quoted destination becomes the RIP, and so does the source if it is
/// the VIP. The quoted TCP or UDP checksum stays: receivers do not verify it.
#[inline(always)]
fn rewrite_error(frame: &Frame<'_>, packet: &Packet, rip: Address) -> Option<()> {
    let network = packet.network_offset()?;
    let vip = packet.client;
    let change = difference(vip, rip);
    if vip.is_ipv4() {
        let ip: Ipv4 = frame.read(network)?;
        let quoted = network + usize::from(ip.version_ihl & 0x0f) * 4 + size_of::<Icmp>();
        // The quoted header's checksum offsets the change of the address: the ICMP checksum stays.
        replace_destination4(frame, quoted, rip, change)?;
        if Address::from_ipv4(ip.source) == vip {
            replace_source(frame, network, rip, change)?;
        }
        return Some(());
    }
    const CHECKSUM: usize = 2;
    const ICMPV6: u8 = lbx_common::service::ICMPV6;
    let ip: Ipv6 = frame.read(network)?;
    if ip.next_header != ICMPV6 {
        return None;
    }
    let icmp = network + size_of::<Ipv6>();
    // The checksum covers the quoted address and the pseudo-header (RFC 4443 section 2.3).
    let mut checksum = adjusted(frame.read(icmp + CHECKSUM)?, change);
    write_address(frame, icmp + size_of::<Icmp>() + DESTINATION6, rip)?;
    if Address::from_octets(ip.source) == vip {
        checksum = adjusted(checksum, change);
        replace_source(frame, network, rip, change)?;
    }
    frame.write(icmp + CHECKSUM, [checksum])
}

const CHECKSUM4: usize = 10;
const SOURCE4: usize = 12;
const DESTINATION4: usize = 16;
const SOURCE6: usize = 8;
const DESTINATION6: usize = 24;

/// Replaces the source in an IP header.
#[inline(always)]
fn replace_source(frame: &Frame<'_>, network: usize, rip: Address, change: u16) -> Option<()> {
    if !rip.is_ipv4() {
        return write_address(frame, network + SOURCE6, rip);
    }
    let checksum = adjusted(frame.read(network + CHECKSUM4)?, change);
    frame.write(network + CHECKSUM4, [checksum])?;
    write_address4(frame, network + SOURCE4, rip)
}

/// Replaces the destination in an IPv4 header.
#[inline(always)]
fn replace_destination4(frame: &Frame<'_>, network: usize, rip: Address, change: u16) -> Option<()> {
    let checksum = adjusted(frame.read(network + CHECKSUM4)?, change);
    frame.write(network + CHECKSUM4, [checksum])?;
    write_address4(frame, network + DESTINATION4, rip)
}

#[inline(always)]
fn write_address4(frame: &Frame<'_>, at: usize, address: Address) -> Option<()> {
    let [.., a, b] = address_words(address);
    frame.write(at, [a, b])
}

#[inline(always)]
fn write_address(frame: &Frame<'_>, at: usize, address: Address) -> Option<()> {
    frame.write(at, address_words(address))
}
