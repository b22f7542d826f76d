//! The frame builder against another implementation: what it says is whole must be whole there too.

use std::net::SocketAddrV4;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use lbx_tests::{
    lab::{CLIENT, DIP, VIP, rip},
    mac::Mac,
    packet::{ACK, Frame, IPV6, SERVICE_VLAN, SYN, VLAN},
};

const FROM: SocketAddrV4 = SocketAddrV4::new(CLIENT, 40_000);
const TO: SocketAddrV4 = SocketAddrV4::new(VIP, 80);

fn frames() -> Vec<Frame> {
    let payload: Vec<u8> = (0..=100).collect();
    let tcp = Frame::tcp(FROM, TO, SYN);
    let udp = Frame::udp(FROM, TO);
    vec![
        tcp.clone(),
        tcp.clone().tcp_options(&[2, 4, 5, 0xb4]),
        tcp.clone().payload(&payload).ip_options(&[1; 40]).tcp_options(&[1; 40]),
        Frame::tcp(FROM, TO, ACK).payload(&payload[..33]),
        udp.clone(),
        udp.clone().payload(&payload),
        tcp.tagged(VLAN, 5),
        udp.tagged(SERVICE_VLAN, 100).tagged(VLAN, 5).payload(b"x"),
        Frame::icmp(CLIENT, VIP, 8, 0, [0, 1, 0, 2]).payload(&payload),
    ]
}

#[test]
fn whole_frames_are_whole_to_others() {
    for frame in frames() {
        let bytes = frame.bytes();
        let sliced = SlicedPacket::from_ethernet(&bytes).unwrap();
        let Some(NetSlice::Ipv4(ip)) = &sliced.net else {
            panic!("{frame:?}")
        };
        let header = ip.header().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum(), "{frame:?}");
        assert_eq!(
            (ip.header().source_addr(), ip.header().destination_addr()),
            (CLIENT, VIP)
        );
        let behind = usize::from(header.total_len) - header.header_len();
        assert_eq!(ip.payload().payload.len(), behind, "{frame:?}");
        let (claimed, computed) = match sliced.transport.as_ref().unwrap() {
            TransportSlice::Tcp(tcp) => {
                assert_eq!((tcp.source_port(), tcp.destination_port()), (FROM.port(), TO.port()));
                (
                    tcp.checksum(),
                    tcp.calc_checksum_ipv4(CLIENT.octets(), VIP.octets()).unwrap(),
                )
            }
            TransportSlice::Udp(udp) => {
                assert_eq!((udp.source_port(), udp.destination_port()), (FROM.port(), TO.port()));
                let header = udp.to_header();
                (
                    udp.checksum(),
                    header
                        .calc_checksum_ipv4(&ip.header().to_header(), udp.payload())
                        .unwrap(),
                )
            }
            TransportSlice::Icmpv4(icmp) => (icmp.header().checksum, icmp.icmp_type().calc_checksum(icmp.payload())),
            other => panic!("{other:?}"),
        };
        assert_eq!(claimed, computed, "{frame:?}");
    }
}

#[test]
fn tags_are_in_their_order() {
    let bytes = Frame::udp(FROM, TO).tagged(SERVICE_VLAN, 100).tagged(VLAN, 5).bytes();
    let sliced = SlicedPacket::from_ethernet(&bytes).unwrap();
    let tags: Vec<u16> = sliced.vlan_ids().iter().map(|id| id.value()).collect();
    assert_eq!(tags, [100, 5]);
}

#[test]
fn a_lie_changes_what_it_names_and_its_checksum() {
    let whole = Frame::tcp(FROM, TO, SYN).payload(b"payload");
    let differing = |lying: Frame| -> Vec<usize> {
        let (a, b) = (whole.bytes(), lying.bytes());
        assert_eq!(a.len(), b.len());
        (0..a.len()).filter(|at| a[*at] != b[*at]).collect()
    };
    assert_eq!(differing(whole.clone().lying_version(6)), [14, 24]);
    assert_eq!(differing(whole.clone().lying_header_words(4)), [14, 24]);
    assert_eq!(differing(whole.clone().lying_total_length(46)), [17, 25]);
    assert_eq!(differing(whole.clone().lying_data_offset(4)), [46, 50]);
    assert_eq!(differing(whole.clone().lying_ip_checksum(0xdead)), [24, 25]);
    assert_eq!(differing(whole.clone().with_checksum(0xdead)), [50, 51]);
    assert_eq!(whole.clone().cut_to(33).bytes(), whole.bytes()[..33]);
    let datagram = Frame::udp(FROM, TO).lying_udp_length(7).bytes();
    assert_eq!(datagram[38..40], [0, 7]);
}

#[test]
fn what_no_header_depends_on_is_set_alone() {
    let whole = Frame::udp(FROM, TO);
    assert_eq!(whole.clone().tos(0xbb).bytes()[15], 0xbb);
    assert_eq!(whole.clone().dont_fragment().bytes()[20..22], [0x40, 0]);
    assert_eq!(whole.clone().with_checksum(0).bytes()[40..42], [0, 0]);
    let padded = whole.clone().padded().bytes();
    assert_eq!((&padded[..42], &padded[42..]), (&whole.bytes()[..], &[0; 18][..]));
}

#[test]
fn fragments_say_so() {
    let first = Frame::tcp(FROM, TO, SYN).fragment(0, true).bytes();
    assert_eq!(first[20..22], [0x20, 0]);
    let later = Frame::protocol(CLIENT, VIP, 6)
        .payload(&[7; 16])
        .fragment(185, false)
        .bytes();
    assert_eq!(later[20..22], [0, 185]);
    assert_eq!(later.len(), 14 + 20 + 16);
    let sliced = SlicedPacket::from_ethernet(&later).unwrap();
    assert!(sliced.is_ip_payload_fragmented() && sliced.transport.is_none());
}

#[test]
fn rewriting_changes_the_mac_addresses_only() {
    let frame = Frame::tcp(FROM, TO, SYN);
    let rewritten = frame.rewritten(Mac::of(DIP), Mac::of(rip(1)));
    assert_eq!(rewritten[..12], [Mac::of(rip(1)).0, Mac::of(DIP).0].concat());
    assert_eq!(rewritten[12..], frame.bytes()[12..]);
}

#[test]
fn other_frames_are_what_they_say() {
    let request = Frame::arp_request(CLIENT, VIP).bytes();
    let sliced = SlicedPacket::from_ethernet(&request).unwrap();
    let Some(NetSlice::Arp(arp)) = sliced.net else {
        panic!("no ARP")
    };
    assert_eq!(arp.target_protocol_addr(), VIP.octets());
    assert_eq!(request[..6], Mac::BROADCAST.0);
    let reply = Frame::arp_reply(CLIENT, DIP).bytes();
    let Some(NetSlice::Arp(arp)) = SlicedPacket::from_ethernet(&reply).unwrap().net else {
        panic!("no ARP")
    };
    assert_eq!((arp.operation().0, arp.target_hw_addr()), (2, &Mac::of(DIP).0[..]));
    let frame = Frame::raw(IPV6, Mac::of(CLIENT), Mac::of(DIP), &[0x60]).bytes();
    assert_eq!((frame.len(), frame[12..14].to_vec()), (60, vec![0x86, 0xdd]));
}
