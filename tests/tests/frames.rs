//! The frame builder against another implementation: what it says is whole must be whole there too.

use std::net::{Ipv6Addr, SocketAddrV4, SocketAddrV6};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use lbx_tests::{
    lab::{CLIENT, DIP, VIP, rip},
    mac::Mac,
    packet::{
        ACK, Frame, IPV6, SERVICE_VLAN, SYN, VLAN,
        extension::{AUTHENTICATION, DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING},
    },
};

const FROM: SocketAddrV4 = SocketAddrV4::new(CLIENT, 40_000);
const TO: SocketAddrV4 = SocketAddrV4::new(VIP, 80);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 0x10);
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 0x160);
const FROM6: SocketAddrV6 = SocketAddrV6::new(CLIENT6, 40_000, 0, 0);
const TO6: SocketAddrV6 = SocketAddrV6::new(VIP6, 80, 0, 0);

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

fn frames6() -> Vec<Frame> {
    let payload: Vec<u8> = (0..=100).collect();
    let tcp = Frame::tcp(FROM6, TO6, SYN);
    let udp = Frame::udp(FROM6, TO6);
    vec![
        tcp.clone(),
        tcp.clone().payload(&payload).tcp_options(&[1; 40]),
        Frame::tcp(FROM6, TO6, ACK).payload(&payload[..33]).tos(0xbb),
        udp.clone().payload(&payload),
        tcp.clone().behind(HOP_BY_HOP, 1).behind(DESTINATION_OPTIONS, 2),
        tcp.clone().behind(ROUTING, 3).payload(&payload),
        udp.behind(AUTHENTICATION, 2).behind(DESTINATION_OPTIONS, 1),
        tcp.tagged(VLAN, 5).payload(b"x"),
        Frame::icmp(CLIENT6, VIP6, 128, 0, [0, 1, 0, 2]).payload(&payload),
    ]
}

/// The checksum behind the IP header as it is, and as it should be by the octets of both addresses.
fn checksums(transport: &TransportSlice<'_>, addresses: [&[u8]; 2]) -> (u16, u16) {
    let [from, to] = addresses;
    let both4 = || (from.try_into().unwrap(), to.try_into().unwrap());
    let both6 = || (from.try_into().unwrap(), to.try_into().unwrap());
    let is_ipv4 = from.len() == 4;
    match transport {
        TransportSlice::Tcp(tcp) if is_ipv4 => (tcp.checksum(), tcp.calc_checksum_ipv4(both4().0, both4().1).unwrap()),
        TransportSlice::Tcp(tcp) => (tcp.checksum(), tcp.calc_checksum_ipv6(both6().0, both6().1).unwrap()),
        TransportSlice::Udp(udp) => {
            let header = udp.to_header();
            let computed = if is_ipv4 {
                header.calc_checksum_ipv4_raw(both4().0, both4().1, udp.payload())
            } else {
                header.calc_checksum_ipv6_raw(both6().0, both6().1, udp.payload())
            };
            (udp.checksum(), computed.unwrap())
        }
        TransportSlice::Icmpv4(icmp) => (icmp.header().checksum, icmp.icmp_type().calc_checksum(icmp.payload())),
        TransportSlice::Icmpv6(icmp) => {
            let kind = icmp.icmp_type();
            let computed = kind.calc_checksum(both6().0, both6().1, icmp.payload()).unwrap();
            (icmp.header().checksum, computed)
        }
        TransportSlice::Igmp(_) => panic!("no frame is of IGMP"),
    }
}

fn ports(transport: &TransportSlice<'_>) -> Option<(u16, u16)> {
    match transport {
        TransportSlice::Tcp(tcp) => Some((tcp.source_port(), tcp.destination_port())),
        TransportSlice::Udp(udp) => Some((udp.source_port(), udp.destination_port())),
        _ => None,
    }
}

fn transport_is_whole(frame: &Frame, sliced: &SlicedPacket<'_>, addresses: [&[u8]; 2]) {
    let transport = sliced.transport.as_ref().unwrap_or_else(|| panic!("{frame:?}"));
    let (claimed, computed) = checksums(transport, addresses);
    assert_eq!(claimed, computed, "{frame:?}");
    if let Some(ports) = ports(transport) {
        assert_eq!(ports, (FROM.port(), TO.port()), "{frame:?}");
    }
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
        assert_eq!(frame.packet_length(), u64::from(header.total_len), "{frame:?}");
        transport_is_whole(&frame, &sliced, [&CLIENT.octets(), &VIP.octets()]);
    }
}

#[test]
fn whole_frames_of_ipv6_are_whole_to_others() {
    for frame in frames6() {
        let bytes = frame.bytes();
        let sliced = SlicedPacket::from_ethernet(&bytes).unwrap();
        let Some(NetSlice::Ipv6(ip)) = &sliced.net else {
            panic!("{frame:?}")
        };
        assert_eq!(
            (ip.header().source_addr(), ip.header().destination_addr()),
            (CLIENT6, VIP6)
        );
        assert_eq!(
            frame.packet_length(),
            40 + u64::from(ip.header().payload_length()),
            "{frame:?}"
        );
        transport_is_whole(&frame, &sliced, [&CLIENT6.octets(), &VIP6.octets()]);
    }
}

#[test]
fn extension_headers_follow_each_other() {
    let frame = Frame::tcp(FROM6, TO6, SYN)
        .identified(0x1234_5678)
        .behind(HOP_BY_HOP, 2)
        .fragment(185, true)
        .behind(DESTINATION_OPTIONS, 1)
        .bytes();
    let headers = &frame[14 + 40..];
    assert_eq!(frame[14 + 6], HOP_BY_HOP);
    assert_eq!(headers[..4], [FRAGMENT, 1, 1, 12]);
    assert_eq!(
        headers[16..24],
        [DESTINATION_OPTIONS, 0, 0x05, 0xc9, 0x12, 0x34, 0x56, 0x78]
    );
    assert_eq!(headers[24..28], [6, 0, 1, 4]);
    let lying = Frame::tcp(FROM6, TO6, SYN).behind_lying(ROUTING, 7).bytes();
    assert_eq!(lying[14 + 40..][..4], [6, 7, 253, 0]);
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
fn rewriting_changes_mac_addresses_and_tags_only() {
    let frame = Frame::tcp(FROM, TO, SYN);
    let rewritten = frame.rewritten(Mac::of(DIP), Mac::of(rip(1)), &[]);
    assert_eq!(rewritten[..12], [Mac::of(rip(1)).0, Mac::of(DIP).0].concat());
    assert_eq!(rewritten[12..], frame.bytes()[12..]);
    let tagged = frame.clone().tagged(VLAN, 5).tagged(VLAN, 6);
    assert_eq!(tagged.rewritten(Mac::of(DIP), Mac::of(rip(1)), &[]), rewritten);
    let tags = [(SERVICE_VLAN, 0xe007)];
    let rewritten = tagged.rewritten(Mac::of(DIP), Mac::of(rip(1)), &tags);
    assert_eq!(rewritten[12..16], [0x88, 0xa8, 0xe0, 0x07]);
    assert_eq!(rewritten[16..], frame.bytes()[12..]);
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
