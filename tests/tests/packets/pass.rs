//! What is not the director's passes, byte by byte as it came.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Result;
use lbx_common::{backend::VlanTags, nic};
use lbx_tests::{
    lab::{CLIENT, DIP, VIP},
    mac::Mac,
    packet::{ACK, Frame, IPV6, RST, SERVICE_VLAN, SYN, VLAN},
};

use crate::{
    cluster::{LO, MAGLEV, NO_VIP, RR, flow},
    director::Director,
    harness::{Fixture, passes, story},
    outcome::Expected,
};

/// EtherType of LLDP (IEEE 802.1AB).
const LLDP: u16 = 0x88cc;
/// EtherType set aside for experiments (IEEE 802).
const EXPERIMENT: u16 = 0x88b5;
/// A length instead of an EtherType: IEEE 802.3 with LLC, as spanning tree sends it.
const LLC: u16 = 38;

const GRE: u8 = 47;
const OSPF: u8 = 89;
const SCTP: u8 = 132;
const ICMP_ECHO: u8 = 8;

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    [
        not_ipv4(),
        not_a_service(),
        not_tcp_or_udp(),
        broken_for_others(),
        not_sent_to_us(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn from_client(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(CLIENT, port)
}

fn to(address: Ipv4Addr, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(address, port)
}

fn to_director(frame: Frame) -> Frame {
    frame.sent_to(Mac::of(DIP))
}

fn syn() -> Frame {
    flow(RR, 40_000).syn()
}

fn not_ipv4() -> Vec<Fixture> {
    let raw = |ether_type, content: &[u8]| Frame::raw(ether_type, Mac::of(CLIENT), Mac::of(DIP), content);
    let lldp = raw(LLDP, &[2, 7, 4, 2, 0, 0, 0, 0, 1]).sent_to(Mac([0x01, 0x80, 0xc2, 0, 0, 0x0e]));
    vec![
        passes(
            "an ARP request for a VIP goes to the stack",
            Frame::arp_request(CLIENT, VIP),
        ),
        passes(
            "an ARP reply to the director goes to the stack",
            Frame::arp_reply(CLIENT, DIP),
        ),
        passes("an IPv6 packet passes", raw(IPV6, &[0x60; 60])),
        passes("an LLDP frame passes", lldp),
        passes("a frame of an unknown EtherType passes", raw(EXPERIMENT, &[0x45; 46])),
        passes(
            "an 802.3 frame with a length for its EtherType passes",
            raw(LLC, &[0x42; 38]),
        ),
        passes(
            "a frame that is nothing but an Ethernet header passes",
            syn().cut_to(14),
        ),
        passes(
            "a VLAN-tagged packet passes where no VLAN is known",
            syn().tagged(VLAN, 7),
        ),
        passes(
            "a doubly tagged packet passes where no VLAN is known",
            syn().tagged(SERVICE_VLAN, 7).tagged(VLAN, 8),
        ),
    ]
}

fn not_a_service() -> Vec<Fixture> {
    let tcp = |to| to_director(Frame::tcp(from_client(40_000), to, SYN));
    let udp = |to| to_director(Frame::udp(from_client(40_000), to));
    vec![
        passes("a SYN to the director's own address passes", tcp(to(DIP, 80))),
        passes("a SYN to an address next to the VIPs passes", tcp(to(NO_VIP, 80))),
        passes("a datagram to another address passes", udp(to(NO_VIP, 53))),
        passes(
            "a SYN to a port of the VIP that is no service passes",
            tcp(to(VIP, 8080)),
        ),
        passes("a SYN to port 0 of the VIP passes", tcp(to(VIP, 0))),
        passes(
            "a datagram to a port of the VIP that is no service passes",
            udp(to(VIP, 8080)),
        ),
        passes("a datagram to the port of a TCP service passes", udp(to(VIP, 80))),
        passes("a SYN to the port of a UDP service passes", tcp(to(VIP, 53))),
        passes(
            "a packet from the VIP to a client passes",
            to_director(Frame::tcp(to(VIP, 80), from_client(40_000), ACK)),
        ),
        passes(
            "a RST to a port of the VIP that is no service passes",
            to_director(Frame::tcp(from_client(40_000), to(VIP, 8080), RST)),
        ),
    ]
}

fn not_tcp_or_udp() -> Vec<Fixture> {
    let protocol = |protocol| to_director(Frame::protocol(CLIENT, VIP, protocol).payload(&[0, 80, 0, 80, 0, 0, 0, 0]));
    let echo = Frame::icmp(CLIENT, VIP, ICMP_ECHO, 0, [0, 1, 0, 1]).payload(b"are you there?");
    vec![
        passes("an echo request to the VIP is left to the stack", to_director(echo)),
        passes("a GRE packet to the VIP passes", protocol(GRE)),
        passes("an SCTP packet to the VIP passes", protocol(SCTP)),
        passes("an OSPF packet to the VIP passes", protocol(OSPF)),
        passes("a packet of protocol 0 to the VIP passes", protocol(0)),
        passes(
            "a fragment of an echo request to the VIP passes",
            protocol(1).fragment(185, false),
        ),
    ]
}

fn broken_for_others() -> Vec<Fixture> {
    let other = || to_director(Frame::tcp(from_client(40_000), to(NO_VIP, 80), SYN));
    let datagram = || to_director(Frame::udp(from_client(40_000), to(NO_VIP, 53)));
    vec![
        passes("a frame that ends inside the IP header passes", syn().cut_to(14 + 19)),
        passes(
            "a frame that ends after a byte of the IP header passes",
            syn().cut_to(15),
        ),
        passes(
            "a wrong IP version for another address passes",
            other().lying_version(5),
        ),
        passes(
            "a short IP header for another address passes",
            other().lying_header_words(4),
        ),
        passes(
            "a short total length for another address passes",
            other().lying_total_length(19),
        ),
        passes(
            "a long total length for another address passes",
            other().lying_total_length(1500),
        ),
        passes(
            "a truncated TCP header for another address passes",
            other().cut_to(14 + 20 + 19),
        ),
        passes(
            "a wrong data offset for another address passes",
            other().lying_data_offset(15),
        ),
        passes(
            "a wrong UDP length for another address passes",
            datagram().lying_udp_length(7),
        ),
        passes("a first fragment for another address passes", other().fragment(0, true)),
        passes(
            "a later fragment for another address passes",
            other().fragment(185, false),
        ),
    ]
}

fn not_sent_to_us() -> Vec<Fixture> {
    // What 224.0.0.1 is on Ethernet (RFC 1112 section 6.4).
    let multicast = Mac([0x01, 0x00, 0x5e, 0, 0, 1]);
    // One bit off the director's.
    let neighbour = Mac([0x03, 0, 192, 168, 1, 2]);
    vec![
        passes(
            "a packet to a service in a frame to another MAC address passes",
            syn().sent_to(Mac::of(CLIENT)),
        ),
        passes(
            "a packet to a service in a frame to a MAC address one bit off passes",
            syn().sent_to(neighbour),
        ),
        passes(
            "a packet to a service in a broadcast frame passes",
            syn().sent_to(Mac::BROADCAST),
        ),
        passes(
            "a packet to a service in a multicast frame passes",
            syn().sent_to(multicast),
        ),
        passes(
            "a broken packet to the VIP in a frame to another MAC address passes",
            syn().lying_version(5).sent_to(Mac::of(CLIENT)),
        ),
        story(
            "a NIC without the role of a client's passes what is for services",
            no_clients,
        ),
        story("a NIC that nobody has told of passes what is for services", unknown_nic),
    ]
}

fn no_clients(director: &mut Director) -> Result<()> {
    director.set_nic(LO, VlanTags::NONE, Mac::of(DIP), nic::SERVER_FACING)?;
    ours_passes(director)
}

fn unknown_nic(director: &mut Director) -> Result<()> {
    director.dataplane_mut().remove_nic(LO)?;
    ours_passes(director)
}

/// Neither what would be sent on nor what would be dropped is touched.
fn ours_passes(director: &Director) -> Result<()> {
    for frame in [
        syn(),
        flow(MAGLEV, 40_000).data(),
        syn().lying_version(5),
        syn().fragment(0, true),
    ] {
        director.expect(LO, &frame, Expected::Passed)?;
    }
    director.has_records(0)
}
