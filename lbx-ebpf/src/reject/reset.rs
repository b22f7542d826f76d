//! The answer to a TCP segment: RST, as a closed port gives it (RFC 9293 section 3.10.7.1).

use lbx_common::{
    checksum::{of_sum, sum_of_addresses, sum_of_words},
    flow_event::{ACK, FIN, RST, SYN},
    service::TCP,
};

use super::header;
use crate::{
    frame::{Frame, MAX_HEADER_OFFSET, Tcp},
    packet::Packet,
};

/// Length of a TCP header without options.
const LENGTH: u16 = size_of::<Tcp>() as u16;
/// The shortest Ethernet frame without its check sequence: not every NIC pads what it sends.
const SHORTEST: usize = 60;

/// Sequence number, acknowledgment number and flags of the RST for a segment of so many bytes, header included; numbers in host
/// byte order.
#[inline(always)]
fn numbers(tcp: &Tcp, segment: u32) -> (u32, u32, u8) {
    let [a, b, c, d, e, f, g, h] = tcp.sequence_and_acknowledgment;
    if tcp.flags & ACK != 0 {
        return (u32::from_be_bytes([e, f, g, h]), 0, RST);
    }
    let data = segment.wrapping_sub(u32::from(tcp.data_offset >> 4) * 4);
    let length = data + u32::from(tcp.flags & SYN != 0) + u32::from(tcp.flags & FIN != 0);
    let acknowledged = u32::from_be_bytes([a, b, c, d]).wrapping_add(length);
    (0, acknowledged, RST | ACK)
}

/// Turns the frame of a segment into its RST; none if it has to be dropped.
#[inline(always)]
pub fn build(frame: &Frame<'_>, packet: &Packet) -> Option<()> {
    if packet.header_offset > MAX_HEADER_OFFSET {
        return None;
    }
    // First: once the TCP header is read, the compiler knows that the frame holds them and leaves the verifier without a check.
    header::write_macs(frame, packet)?;
    let tcp: Tcp = frame.read(packet.header_offset as usize)?;
    let (sequence, acknowledged, flags) = numbers(&tcp, packet.remaining_bytes);
    let ip = packet.network_offset()?;
    let start = ip + header::length(packet);
    header::write_ip(frame, packet, ip, TCP, LENGTH)?;
    write_tcp(frame, packet, start, sequence, acknowledged, flags)?;
    let end = start + size_of::<Tcp>();
    frame.cut(if end < SHORTEST { SHORTEST } else { end })?;
    // Padding is zero (RFC 894); a frame without it may end here.
    let mut offset = end;
    for _ in 0..(SHORTEST - 54) / 2 {
        if offset >= SHORTEST || frame.write(offset, [0]).is_none() {
            break;
        }
        offset += 2;
    }
    Some(())
}

#[inline(always)]
fn write_tcp(
    frame: &Frame<'_>,
    packet: &Packet,
    offset: usize,
    sequence: u32,
    acknowledged: u32,
    flags: u8,
) -> Option<()> {
    const DATA_OFFSET: u16 = (LENGTH / 4) << 12;
    let high = |number: u32| ((number >> 16) as u16).to_be();
    let low = |number: u32| (number as u16).to_be();
    let words = |checksum| {
        [
            u16::from_ne_bytes(packet.vip_port),
            u16::from_ne_bytes(packet.client_port),
            high(sequence),
            low(sequence),
            high(acknowledged),
            low(acknowledged),
            (DATA_OFFSET | u16::from(flags)).to_be(),
            0,
            checksum,
            0,
        ]
    };
    let pseudo = sum_of_addresses(packet.vip, packet.client) + sum_of_words(&[u16::from(TCP).to_be(), LENGTH.to_be()]);
    frame.write(offset, words(of_sum(pseudo + sum_of_words(&words(0)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(flags: u8, words: u8) -> Tcp {
        Tcp {
            source: [0; 2],
            destination: [0; 2],
            sequence_and_acknowledgment: [0xff, 0xff, 0xff, 0xfe, 0, 0, 1, 2],
            data_offset: words << 4,
            flags,
            window_checksum_urgent: [0; 6],
        }
    }

    #[test]
    fn numbers_of_rfc_9293() {
        for (flags, words, segment, expected) in [
            (SYN, 10, 40, (0, 0xffff_ffff, RST | ACK)),
            (SYN, 5, 20 + 7, (0, 6, RST | ACK)),
            (SYN | FIN, 5, 20, (0, 0, RST | ACK)),
            (0, 5, 20, (0, 0xffff_fffe, RST | ACK)),
            (ACK, 8, 1_000, (0x102, 0, RST)),
            (SYN | ACK, 5, 20, (0x102, 0, RST)),
            (FIN | ACK, 5, 20, (0x102, 0, RST)),
        ] {
            assert_eq!(
                numbers(&tcp(flags, words), segment),
                expected,
                "{flags:#x}, {segment} bytes"
            );
        }
    }
}
