//! The answer to a datagram: ICMP destination unreachable, port unreachable (RFC 792, RFC 4443 section 3.1).

use lbx_common::{
    checksum::{of_sum, sum_of_addresses, sum_of_words},
    service::{ICMP, ICMPV6},
};

use super::header;
use crate::{
    frame::{Ethernet, Frame, Icmp, Ipv4, Ipv6},
    packet::Packet,
};

/// Destination unreachable, port unreachable: type and code.
const PORT_UNREACHABLE4: u16 = 3 << 8 | 3;
const PORT_UNREACHABLE6: u16 = 1 << 8 | 4;
/// Bytes of the packet that are quoted at most: the answer is no longer than 576 bytes (RFC 1812 section 4.3.2.3), or the minimum
/// MTU of IPv6 (RFC 4443 section 2.4).
const QUOTE4: usize = 576 - size_of::<Ipv4>() - size_of::<Icmp>();
const QUOTE6: usize = 1_280 - size_of::<Ipv6>() - size_of::<Icmp>();

/// Turns the frame of a datagram into its ICMP error; none if it has to be dropped.
#[inline(always)]
pub fn build(frame: &Frame<'_>, packet: &Packet) -> Option<()> {
    let ip = packet.network_offset()?;
    let is_ipv4 = packet.vip.is_ipv4();
    let (most, kind, protocol) = if is_ipv4 {
        (QUOTE4, PORT_UNREACHABLE4, ICMP)
    } else {
        (QUOTE6, PORT_UNREACHABLE6, ICMPV6)
    };
    let available = frame.linear_length().saturating_sub(ip);
    let quote = most.min(packet.ip_length as usize).min(available);
    let payload = (size_of::<Icmp>() + quote) as u16;
    let mut sum = u64::from(kind.to_be()) + sum_of_quote(frame, ip, quote)?;
    if !is_ipv4 {
        sum +=
            sum_of_addresses(packet.vip, packet.client) + sum_of_words(&[u16::from(protocol).to_be(), payload.to_be()]);
    }
    frame.cut(ip + quote)?;
    let added = header::length(packet) + size_of::<Icmp>();
    frame.adjust_head(-(added as i32))?;
    move_tags(frame, packet, added)?;
    header::write_macs(frame, packet)?;
    header::write_ip(frame, packet, ip, protocol, payload)?;
    frame.write(ip + header::length(packet), [kind.to_be(), of_sum(sum), 0, 0])
}

/// The sum of the quoted bytes.
#[inline(always)]
fn sum_of_quote(frame: &Frame<'_>, start: usize, length: usize) -> Option<u64> {
    const CHUNK: usize = 8;
    let mut sum = 0;
    let (mut offset, end) = (start, start + length);
    for _ in 0..QUOTE6 / (CHUNK * 2) {
        if offset + CHUNK * 2 > end {
            break;
        }
        sum += sum_of_words(&frame.words::<CHUNK>(offset)?);
        offset += CHUNK * 2;
    }
    for _ in 1..CHUNK {
        if offset + 2 > end {
            break;
        }
        sum += sum_of_words(&frame.words::<1>(offset)?);
        offset += 2;
    }
    if offset < end {
        let last = frame.byte_after(offset - 1)?;
        sum += u64::from(u16::from_ne_bytes([last, 0]));
    }
    Some(sum)
}

/// Moves VLAN tags and EtherType to the start of a frame that has become longer by so many bytes.
#[inline(always)]
fn move_tags(frame: &Frame<'_>, packet: &Packet, added: usize) -> Option<()> {
    const FIRST: usize = size_of::<Ethernet>() - 2;
    const WORDS: u32 = 5;
    for word in 0..WORDS {
        if word > packet.tag_count * 2 {
            break;
        }
        let offset = FIRST + word as usize * 2;
        frame.write(offset, frame.words::<1>(added + offset)?)?;
    }
    Some(())
}
