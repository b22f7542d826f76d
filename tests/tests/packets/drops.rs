//! What is for a VIP and cannot be sent on is dropped, each for its reason.

use std::net::SocketAddrV4;

use anyhow::{Result, ensure};
use lbx::tables::MapWrite;
use lbx_common::{
    drops::DropReason::{
        self, IpHeaderLength, IpVersion, Loop, NoBackend, NoEgress, ShortHeader, TableMismatch, TcpOffset, Truncated,
        UdpLength,
    },
    service::Service,
};
use lbx_tests::{
    lab::{DIP, VIP, rip},
    mac::Mac,
    packet::{Frame, SYN},
};

use crate::{
    cluster::{DNS, DRAINED, DRAINED_MAGLEV, EMPTY, Flow, LO, MAGLEV, RR, SIZES, SYSLOG, UNRESOLVED, flow, hop},
    director::{Director, To},
    harness::{Fixture, drops, story},
    outcome::{Counts, Expected},
};

/// Bytes of the Ethernet header.
const ETHERNET: usize = 14;
/// Bytes up to the transport header.
const HEADERS: usize = ETHERNET + 20;

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    [bad_headers(), truncated(), no_backend(), no_way()]
        .into_iter()
        .flatten()
        .collect()
}

fn tcp() -> Flow {
    flow(RR, 40_000)
}

fn udp() -> Flow {
    flow(DNS, 40_000)
}

fn bad_headers() -> Vec<Fixture> {
    let no_service = Frame::tcp(tcp().client, SocketAddrV4::new(VIP, 8080), SYN).sent_to(Mac::of(DIP));
    let bad = |says, reason, frame| drops(says, reason, frame);
    // What stands behind the total length is no longer the packet's.
    let short = |frame: Frame, payload: u16| frame.lying_total_length(20 + payload).padded();
    vec![
        bad(
            "IP version 5 under the EtherType of IPv4 is dropped",
            IpVersion,
            tcp().syn().lying_version(5),
        ),
        bad(
            "IP version 6 under the EtherType of IPv4 is dropped",
            IpVersion,
            tcp().syn().lying_version(6),
        ),
        bad(
            "a broken header for a port of the VIP that is no service is dropped too",
            IpVersion,
            no_service.lying_version(5),
        ),
        bad(
            "an IP header of 16 bytes is dropped",
            IpHeaderLength,
            tcp().syn().lying_header_words(4),
        ),
        bad(
            "an IP header of no bytes is dropped",
            IpHeaderLength,
            tcp().syn().lying_header_words(0),
        ),
        bad(
            "a total length below that of an IP header is dropped",
            IpHeaderLength,
            tcp().syn().lying_total_length(19),
        ),
        bad(
            "a total length of 0 is dropped",
            IpHeaderLength,
            tcp().syn().lying_total_length(0),
        ),
        bad(
            "a total length below that of an IP header with options is dropped",
            IpHeaderLength,
            tcp().syn().ip_options(&[1; 40]).lying_total_length(59),
        ),
        bad(
            "a TCP header of 16 bytes is dropped",
            TcpOffset,
            tcp().syn().lying_data_offset(4),
        ),
        bad(
            "a TCP header of no bytes is dropped",
            TcpOffset,
            tcp().data().lying_data_offset(0),
        ),
        bad(
            "a TCP header that is longer than its packet is dropped",
            TcpOffset,
            tcp().syn().lying_data_offset(6),
        ),
        bad(
            "a packet that ends inside the TCP header, then padding, is dropped",
            ShortHeader,
            short(tcp().syn(), 19),
        ),
        bad(
            "an IP packet without TCP header, then padding, is dropped",
            ShortHeader,
            short(tcp().syn(), 0),
        ),
        bad(
            "a packet that ends inside the UDP header, then padding, is dropped",
            ShortHeader,
            short(udp().datagram(), 7),
        ),
        bad(
            "an honest total length that leaves no room for a TCP header is dropped",
            ShortHeader,
            tcp().syn().lying_total_length(39).cut_to(HEADERS + 19),
        ),
        bad(
            "an honest total length that leaves no room for a UDP header is dropped",
            ShortHeader,
            udp().datagram().lying_total_length(27).cut_to(HEADERS + 7),
        ),
        bad(
            "a UDP length of 7 is dropped",
            UdpLength,
            udp().datagram().lying_udp_length(7),
        ),
        bad(
            "a UDP length of 0 is dropped",
            UdpLength,
            udp().datagram().lying_udp_length(0),
        ),
        bad(
            "a UDP length above that of the packet is dropped",
            UdpLength,
            udp().datagram().lying_udp_length(34),
        ),
    ]
}

fn truncated() -> Vec<Fixture> {
    let cut = |says, frame| drops(says, Truncated, frame);
    let whole = tcp().data().bytes().len();
    vec![
        cut(
            "a total length above that of the frame is dropped",
            tcp().syn().lying_total_length(41),
        ),
        cut(
            "the largest total length in a short frame is dropped",
            tcp().syn().lying_total_length(u16::MAX),
        ),
        cut(
            "a packet that lacks its last byte is dropped",
            tcp().data().cut_to(whole - 1),
        ),
        cut(
            "a frame that ends inside the TCP header is dropped",
            tcp().syn().cut_to(HEADERS + 19),
        ),
        cut(
            "a frame that ends inside the UDP header is dropped",
            udp().datagram().cut_to(HEADERS + 7),
        ),
        cut(
            "a frame that ends behind the IP header is dropped",
            tcp().syn().cut_to(HEADERS),
        ),
        cut(
            "a frame that ends inside the IP options is dropped",
            tcp().syn().ip_options(&[1; 8]).cut_to(HEADERS + 4),
        ),
        cut(
            "a jumbo packet that lacks its last byte is dropped",
            jumbo_without_its_end(),
        ),
    ]
}

fn jumbo_without_its_end() -> Frame {
    let jumbo = tcp().data().payload(&[0x5a; 8_960]);
    let whole = jumbo.bytes().len();
    jumbo.cut_to(whole - 1)
}

fn no_backend() -> Vec<Fixture> {
    let nobody = |says, frame| drops(says, NoBackend, frame);
    vec![
        nobody(
            "a SYN to a service without real servers is dropped",
            flow(EMPTY, 40_000).syn(),
        ),
        nobody(
            "an ACK to a service without real servers is dropped",
            flow(EMPTY, 40_000).ack(),
        ),
        nobody(
            "a RST to a service without real servers is dropped",
            flow(EMPTY, 40_000).rst(),
        ),
        nobody(
            "a datagram to a service with no resolved real server is dropped",
            flow(UNRESOLVED, 40_000).datagram(),
        ),
        nobody(
            "a SYN to a service whose weights are all 0 is dropped",
            flow(DRAINED, 40_000).syn(),
        ),
        nobody(
            "data to a service whose weights are all 0 are dropped",
            flow(DRAINED, 40_000).data(),
        ),
        nobody(
            "a SYN to a hashed service whose weights are all 0 is dropped",
            flow(DRAINED_MAGLEV, 40_000).syn(),
        ),
    ]
}

fn no_way() -> Vec<Fixture> {
    vec![
        story(
            "a packet that came from the chosen real server is dropped: it would go in a circle",
            loops,
        ),
        story("a packet from a real server that is not chosen is sent on", no_loop),
        story("a packet for a NIC that is not in the device map is dropped", no_egress),
        story(
            "a service that points past the table of slots drops what it gets",
            no_slots,
        ),
        story(
            "a service that points past the table of backends drops what it gets",
            no_backends,
        ),
        story("every drop is counted under its own reason", counted_by_reason),
    ]
}

fn loops(director: &mut Director) -> Result<()> {
    let looping = Expected::Dropped(Loop);
    let syslog = flow(SYSLOG, 40_000);
    let server = director.server(syslog, To::Owner)?;
    director.expect(LO, &syslog.datagram().sent_by(Mac::of(server)), looping.clone())?;
    director.expect(LO, &tcp().syn().sent_by(Mac::of(rip(1))), looping)
}

fn no_loop(director: &mut Director) -> Result<()> {
    director.sends(tcp(), &tcp().syn().sent_by(Mac::of(rip(2))), To::Rs(1), Counts::Opens)
}

fn no_egress(director: &mut Director) -> Result<()> {
    const NOWHERE: u32 = 4_711;
    director.hops.insert(rip(1).into(), hop(rip(1), NOWHERE));
    director.plan()?;
    director.expect(LO, &tcp().syn(), Expected::Dropped(NoEgress))?;
    let second = flow(RR, 40_001);
    director.sends(second, &second.syn(), To::Rs(2), Counts::Opens)
}

fn no_slots(director: &mut Director) -> Result<()> {
    let mut service = director.tables.services[&MAGLEV].to_service();
    service.slots_base = SIZES.slots;
    overwrite(director, service)?;
    let mismatch = Expected::Dropped(TableMismatch);
    director.expect(LO, &flow(MAGLEV, 40_000).syn(), mismatch)
}

fn no_backends(director: &mut Director) -> Result<()> {
    let mut service = director.tables.services[&MAGLEV].to_service();
    service.backends_base = u32::MAX - 1;
    overwrite(director, service)?;
    let nobody = Expected::Dropped(NoBackend);
    director.expect(LO, &flow(MAGLEV, 40_000).syn(), nobody)
}

/// Gives the service [`MAGLEV`] places no plan would give it.
fn overwrite(director: &mut Director, value: Service) -> Result<()> {
    let number = director.loaded(MAGLEV).service_number;
    Ok(director.dataplane_mut().apply(&[MapWrite::Service { number, value }])?)
}

fn counted_by_reason(director: &mut Director) -> Result<()> {
    let sequence = [
        (1, Truncated, tcp().syn().lying_total_length(1_500)),
        (2, IpVersion, tcp().syn().lying_version(5)),
        (3, TcpOffset, tcp().syn().lying_data_offset(4)),
        (4, NoBackend, flow(EMPTY, 40_000).syn()),
        (1, Loop, tcp().syn().sent_by(Mac::of(rip(1)))),
    ];
    let counted = |director: &Director, &reason: &DropReason| director.dataplane().drops(reason);
    let before = DropReason::ALL
        .iter()
        .map(|reason| counted(director, reason))
        .collect::<Result<Vec<_>, _>>()?;
    for (times, _, frame) in &sequence {
        for _ in 0..*times {
            director.run(LO, frame)?;
        }
    }
    for (reason, before) in DropReason::ALL.iter().zip(before) {
        let expected = sequence.iter().find(|(_, other, _)| other == reason);
        let expected = expected.map_or(0, |(times, ..)| *times);
        let found = counted(director, reason)? - before;
        ensure!(found == expected, "{}: {found} instead of {expected}", reason.name());
    }
    Ok(())
}
