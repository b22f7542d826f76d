//! Frames of every kind, and what can be done to them.

use std::net::IpAddr;

use lbx_tests_ebpf::{MAX_FRAME, MIN_FRAME};

use super::cluster::{PORTS, VIPS, VLAN};
use crate::{
    director::{OWN_MAC, ROUTER_MAC, mac_of},
    random::Random,
};

const CLIENTS: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 1)),
];

/// Frames that are as they should be.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for vip in VIPS {
        let client = CLIENTS[usize::from(vip.is_ipv6())];
        for port in PORTS {
            for flags in [0x02, 0x10, 0x18, 0x11, 0x04] {
                seeds.push(frame(&[], client, vip, &[], 6, &tcp(port, flags, &[], b"data")));
            }
            seeds.push(frame(&[], client, vip, &[], 17, &udp(port, b"a datagram")));
            seeds.push(icmp_error(client, vip, port));
        }
        seeds.extend(others(client, vip));
    }
    seeds
}

fn others(client: IpAddr, vip: IpAddr) -> Vec<Vec<u8>> {
    let syn = tcp(80, 0x02, &[2, 4, 5, 0xb4, 1, 1, 4, 2], &[]);
    let mut some = vec![
        frame(&[(0x8100, VLAN)], client, vip, &[], 6, &syn),
        frame(&[(0x8100, 0x6000)], client, vip, &[], 6, &syn),
        frame(&[(0x8100, 0x6000 | VLAN), (0x8100, 0)], client, vip, &[], 6, &syn),
        frame(&[(0x88a8, 6), (0x8100, 7)], client, vip, &[], 6, &syn),
        frame(&[(0x8100, 1), (0x8100, 2), (0x8100, 3)], client, vip, &[], 6, &syn),
        frame(
            &[],
            client,
            vip,
            &[],
            if vip.is_ipv4() { 1 } else { 58 },
            &[128, 0, 0, 0, 0, 1, 0, 1],
        ),
        frame(&[], client, vip, &[], 89, b"another protocol"),
    ];
    for quic in [
        &[0x40, 0, 0, 3, 9, 9, 9][..],
        &[0xe0, 0, 0, 0, 1, 8, 0, 0, 5, 9, 9, 9, 9, 9],
        &[0xc0, 0, 0, 0, 1, 8, 0, 0, 5],
    ] {
        some.push(frame(&[], client, vip, &[], 17, &udp(443, quic)));
    }
    match vip {
        IpAddr::V4(_) => {
            some.push(frame(&[], client, vip, &[7, 7, 4, 0, 0, 0, 0, 0], 6, &syn));
            some.push(frame(&[], client, vip, &[1; 40], 17, &udp(53, b"question")));
            for field in [0x2000, 0x2001, 0x0003, 0x1fff, 0x3ffe] {
                let mut fragment = frame(&[], client, vip, &[], 17, &udp(53, &[0; 24]));
                fragment[20..22].copy_from_slice(&u16::to_be_bytes(field));
                some.push(fragment);
            }
        }
        IpAddr::V6(_) => {
            let fragment = |field: u16| {
                let [a, b] = field.to_be_bytes();
                [[17, 0, a, b, 0, 0, 0, 7]].concat()
            };
            for field in [0x0001, 0x0009, 0x0008, 0xfff8] {
                some.push(extended(client, vip, 44, &fragment(field), &udp(53, &[0; 24])));
            }
            some.push(extended(client, vip, 0, &[6, 0, 1, 4, 0, 0, 0, 0], &syn));
            some.push(extended(
                client,
                vip,
                51,
                &[6, 4].iter().copied().chain([0; 22]).collect::<Vec<_>>(),
                &syn,
            ));
            let chain = [
                [43, 0, 1, 4, 0, 0, 0, 0],
                [60, 0, 0, 0, 0, 0, 0, 0],
                [60, 0, 1, 4, 0, 0, 0, 0],
            ]
            .concat();
            let seven = [60, 0, 1, 4, 0, 0, 0, 0].repeat(6);
            some.push(extended(
                client,
                vip,
                0,
                &[&chain[..], &[6, 0, 1, 4, 0, 0, 0, 0]].concat(),
                &syn,
            ));
            some.push(extended(
                client,
                vip,
                0,
                &[&seven[..40], &[6, 0, 1, 4, 0, 0, 0, 0]].concat(),
                &syn,
            ));
            some.push(extended(
                client,
                vip,
                0,
                &[&seven[..], &[6, 0, 1, 4, 0, 0, 0, 0]].concat(),
                &syn,
            ));
        }
    }
    some
}

fn icmp_error(client: IpAddr, vip: IpAddr, port: u16) -> Vec<u8> {
    let mut segment = tcp(port, 0x10, &[], &[]);
    segment.swap(0, 2);
    segment.swap(1, 3);
    let quoted = frame(&[], vip, client, &[], 6, &segment);
    let (protocol, kind) = if vip.is_ipv4() { (1, 3) } else { (58, 2) };
    let message = [&[kind, 4, 0, 0, 0, 0, 5, 0xb4], &quoted[14..]].concat();
    frame(&[], client, vip, &[], protocol, &message)
}

/// An IPv6 packet with extension headers, of which `first` is the first.
fn extended(client: IpAddr, vip: IpAddr, first: u8, headers: &[u8], payload: &[u8]) -> Vec<u8> {
    frame(&[], client, vip, &[], first, &[headers, payload].concat())
}

fn frame(tags: &[(u16, u16)], from: IpAddr, to: IpAddr, options: &[u8], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = [OWN_MAC, ROUTER_MAC].concat();
    for (kind, control) in tags {
        frame.extend(kind.to_be_bytes());
        frame.extend(control.to_be_bytes());
    }
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let header = 20 + options.len();
            let [high, low] = ((header + payload.len()) as u16).to_be_bytes();
            frame.extend([
                8,
                0,
                0x40 | (header / 4) as u8,
                0,
                high,
                low,
                0x12,
                0x34,
                0,
                0,
                64,
                protocol,
                0,
                0,
            ]);
            frame.extend(from.octets());
            frame.extend(to.octets());
            frame.extend(options);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let [high, low] = (payload.len() as u16).to_be_bytes();
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, high, low, protocol, 64]);
            frame.extend(from.octets());
            frame.extend(to.octets());
        }
        _ => panic!("{from} and {to} are of two families"),
    }
    frame.extend(payload);
    frame
}

fn tcp(port: u16, flags: u8, options: &[u8], data: &[u8]) -> Vec<u8> {
    let [a, b] = port.to_be_bytes();
    let words = 5 + (options.len() / 4) as u8;
    let header = [
        0x9c,
        0x40,
        a,
        b,
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        1,
        words << 4,
        flags,
        0xff,
        0xff,
        0,
        0,
        0,
        0,
    ];
    [&header, options, data].concat()
}

fn udp(port: u16, data: &[u8]) -> Vec<u8> {
    let [a, b] = port.to_be_bytes();
    let [high, low] = (8 + data.len() as u16).to_be_bytes();
    [&[0x9c, 0x40, a, b, high, low, 0, 0], data].concat()
}

/// Makes a frame of a seed, or of nothing.
pub fn mutate(random: &mut Random, seeds: &[Vec<u8>], frame: &mut Vec<u8>) {
    frame.clear();
    if random.one_in(32) {
        let length = MIN_FRAME + random.below(MAX_FRAME - MIN_FRAME + 1);
        frame.extend((0..length).map(|_| random.next() as u8));
        if !random.one_in(4) {
            frame[..6].copy_from_slice(&OWN_MAC);
            let types: [[u8; 2]; 4] = [[0x08, 0x00], [0x86, 0xdd], [0x81, 0x00], [0x88, 0xa8]];
            frame[12..14].copy_from_slice(random.of::<[u8; 2]>(&types));
        }
        return;
    }
    frame.extend(random.of(seeds));
    for _ in 0..random.below(5) {
        change(random, frame);
    }
    frame.resize(frame.len().clamp(MIN_FRAME, MAX_FRAME), 0);
}

fn change(random: &mut Random, frame: &mut Vec<u8>) {
    const ODD: [u8; 12] = [0, 1, 4, 5, 0x0f, 0x40, 0x45, 0x60, 0x7f, 0x80, 0xf0, 0xff];
    let at = random.below(frame.len());
    match random.below(12) {
        0 | 1 => frame[at] ^= 1 << random.below(8),
        2 => frame[at] = random.next() as u8,
        3 => frame[at] = *random.of(&ODD),
        4 => frame[at] = frame[at].wrapping_add(*random.of(&[1, 2, 4, 8, 0xff, 0xfe, 0xfc, 0xf8])),
        5 => frame.truncate(at.max(MIN_FRAME)),
        6 => {
            let more = random.below(64);
            frame.extend((0..more).map(|_| random.next() as u8));
            frame.truncate(MAX_FRAME);
        }
        // Of the headers above all: lengths, protocols, addresses.
        7 | 8 => {
            let at = 12 + random.below(48.min(frame.len() - 12));
            frame[at] = if random.one_in(2) {
                *random.of(&ODD)
            } else {
                random.next() as u8
            };
        }
        // Another client.
        9 => {
            let at = if frame[12] == 8 {
                28 + random.below(2)
            } else {
                35 + random.below(2)
            };
            if let Some(byte) = frame.get_mut(at) {
                *byte = random.next() as u8;
            }
        }
        10 => {
            let [high, low] = random.of(&PORTS).to_be_bytes();
            let at = if frame[12] == 8 { 36 } else { 56 };
            if frame.len() > at + 1 {
                frame[at] = high;
                frame[at + 1] = low;
            }
        }
        _ => {
            if random.one_in(8) {
                let mac = mac_of(1 + random.below(9) as u8);
                frame[6..12].copy_from_slice(&mac);
            }
        }
    }
}
