//! What comes from a VIP on a real server to a socket of the director: the RIP takes the place of the VIP.

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use lbx_common::{
    address::Address,
    checksum::{adjusted, adjusted_udp, difference},
    service::{TCP, UDP},
};

use super::session;
use crate::{
    maps,
    packet::{Ethernet, Frame, Icmp, Ipv4, Ipv6, VlanTag},
    parse::{FARTHEST, Packet},
    verdict::Exit,
};

/// A packet that is not for a VIP. It passes; if it is a reply to the director, as one of the real server's own address.
/// Traffic of others pays one look into the bitmap of ports.
#[inline(always)]
pub fn receive(frame: &Frame<'_>, packet: &Packet) -> Exit {
    if maps::has_sessions(packet.protocol == UDP, packet.vip_port) {
        lbx_reply(frame.xdp_md(), packet);
    }
    Exit::Pass
}

/// A function of a name of its own is verified by itself, once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_reply(xdp_md: *mut xdp_md, packet: *const Packet) -> u32 {
    // SAFETY: null or a packet of the caller's.
    let Some(packet) = (unsafe { packet.as_ref() }) else {
        return 0;
    };
    let context = XdpContext::new(xdp_md);
    let frame = Frame::of(&context);
    // What cannot be rewritten whole passes as it is, or half: the stack refuses a packet from its own address.
    let Some(rip) = session::sender(packet) else {
        return 0;
    };
    let done = if packet.signal.mentions() && !packet.is_later_fragment() {
        error(&frame, packet, rip)
    } else {
        whole(&frame, packet, rip)
    };
    u32::from(done.is_some())
}

/// Offset of the IP header.
#[inline(always)]
fn network(packet: &Packet) -> Option<usize> {
    (packet.depth <= 2).then(|| size_of::<Ethernet>() + packet.depth as usize * size_of::<VlanTag>())
}

/// A packet from the VIP, or a fragment of one.
#[inline(always)]
fn whole(frame: &Frame<'_>, packet: &Packet, rip: Address) -> Option<()> {
    const TCP_CHECKSUM: usize = 16;
    const UDP_CHECKSUM: usize = 6;
    let change = difference(packet.client, rip);
    if !packet.is_later_fragment() {
        if packet.at > FARTHEST {
            return None;
        }
        if packet.protocol == TCP {
            let at = packet.at as usize + TCP_CHECKSUM;
            frame.write(at, [adjusted(frame.read(at)?, change)])?;
        } else {
            let at = packet.at as usize + UDP_CHECKSUM;
            frame.write(at, [adjusted_udp(frame.read(at)?, change)])?;
        }
    }
    sender(frame, network(packet)?, rip, change)
}

/// An ICMP error about a packet to the VIP. The quoted destination becomes the RIP, and so does the sender if that is the
/// VIP. What is quoted of TCP and UDP is left alone: nobody verifies it.
#[inline(always)]
fn error(frame: &Frame<'_>, packet: &Packet, rip: Address) -> Option<()> {
    let network = network(packet)?;
    let vip = packet.client;
    let change = difference(vip, rip);
    if vip.is_ipv4() {
        let ip: Ipv4 = frame.read(network)?;
        let quoted = network + usize::from(ip.version_ihl & 0x0f) * 4 + size_of::<Icmp>();
        // The quoted header's checksum takes back what the address adds: the sum of the whole stays.
        receiver4(frame, quoted, rip, change)?;
        if Address::from_ipv4(ip.source) == vip {
            sender(frame, network, rip, change)?;
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
    // Quoted address and pseudo-header are both of the sum (RFC 4443 section 2.3).
    let mut checksum = adjusted(frame.read(icmp + CHECKSUM)?, change);
    write_address(frame, icmp + size_of::<Icmp>() + DESTINATION6, rip)?;
    if Address::from_octets(ip.source) == vip {
        checksum = adjusted(checksum, change);
        sender(frame, network, rip, change)?;
    }
    frame.write(icmp + CHECKSUM, [checksum])
}

const CHECKSUM4: usize = 10;
const SOURCE4: usize = 12;
const DESTINATION4: usize = 16;
const SOURCE6: usize = 8;
const DESTINATION6: usize = 24;

/// Replaces the sender in an IP header.
#[inline(always)]
fn sender(frame: &Frame<'_>, network: usize, rip: Address, change: u16) -> Option<()> {
    if !rip.is_ipv4() {
        return write_address(frame, network + SOURCE6, rip);
    }
    let checksum = adjusted(frame.read(network + CHECKSUM4)?, change);
    frame.write(network + CHECKSUM4, [checksum])?;
    write_address4(frame, network + SOURCE4, rip)
}

/// Replaces the receiver in an IPv4 header.
#[inline(always)]
fn receiver4(frame: &Frame<'_>, network: usize, rip: Address, change: u16) -> Option<()> {
    let checksum = adjusted(frame.read(network + CHECKSUM4)?, change);
    frame.write(network + CHECKSUM4, [checksum])?;
    write_address4(frame, network + DESTINATION4, rip)
}

#[inline(always)]
fn write_address4(frame: &Frame<'_>, at: usize, address: Address) -> Option<()> {
    let [a, b, c, d] = address.ipv4();
    frame.write(at, [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])])
}

#[inline(always)]
fn write_address(frame: &Frame<'_>, at: usize, Address { high, low }: Address) -> Option<()> {
    let part = |word: u64, shift: u32| u16::from_ne_bytes(half(word, shift));
    frame.write(
        at,
        [
            part(high, 0),
            part(high, 1),
            part(high, 2),
            part(high, 3),
            part(low, 0),
            part(low, 1),
            part(low, 2),
            part(low, 3),
        ],
    )
}

/// The n-th two bytes of a word in the order of memory.
#[inline(always)]
fn half(word: u64, n: u32) -> [u8; 2] {
    let bytes = word.to_ne_bytes();
    match n {
        0 => [bytes[0], bytes[1]],
        1 => [bytes[2], bytes[3]],
        2 => [bytes[4], bytes[5]],
        _ => [bytes[6], bytes[7]],
    }
}
