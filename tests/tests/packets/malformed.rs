//! What lies about itself is dropped on a VIP, each kind under its own reason, and passes wherever it is not ours.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use lbx::desired::{Scheduler, Service, VirtualService};
use lbx_common::{
    backend::VlanTags,
    drops::DropReason::{
        self, BadSource, ExtensionHeaders, FragmentOverrun, IcmpQuote, IpHeaderLength, IpVersion, OrphanFragment,
        ShortHeader, TcpOffset, TinyFragment, Truncated, UdpLength,
    },
    nic,
};
use lbx_tests::{
    lab::{CLIENT, DIP, VIP},
    mac::Mac,
    packet::{Frame, extension::ROUTING},
};

use crate::{
    cluster::{CLIENT6, Flow, LO, balanced, flow, tcp, tcp6, udp, udp6},
    director::Director,
    harness::{Fixture, story_of},
};

/// Makes a frame of a flow by TCP and one by UDP, which both go to one address.
type Make = fn(Flow, Flow) -> Frame;

fn cluster() -> Vec<Service> {
    let of = |id: VirtualService| balanced(id, Scheduler::Rr, &[(1, 1), (2, 1)]);
    vec![of(tcp(VIP, 80)), of(udp(VIP, 53)), of(tcp6(80)), of(udp6(53))]
}

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    [ipv4(), ipv6()].into_iter().flatten().collect()
}

fn of(says: &'static str, tcp: VirtualService, udp: VirtualService, reason: DropReason, make: Make) -> Fixture {
    story_of(says, cluster, move |director| {
        ours_alone(director, tcp, udp, reason, make)
    })
}

fn ours_alone(
    director: &mut Director,
    tcp: VirtualService,
    udp: VirtualService,
    reason: DropReason,
    make: Make,
) -> Result<()> {
    let ours = make(flow(tcp, 40_000), flow(udp, 40_000));
    director.drops(&ours, reason)?;
    let elsewhere = |service: VirtualService| {
        let vip = match service.vip {
            IpAddr::V4(vip) => IpAddr::V4((vip.to_bits() + 2).into()),
            IpAddr::V6(vip) => IpAddr::V6((vip.to_bits() + 2).into()),
        };
        flow(VirtualService { vip, ..service }, 40_000)
    };
    let other = make(elsewhere(tcp), elsewhere(udp));
    director.passes(&other).context("to another address")?;
    let not_sent_to_us = ours.clone().sent_to(Mac([2; 6]));
    director.passes(&not_sent_to_us).context("to another MAC address")?;
    director.set_nic(LO, VlanTags::NONE, Mac::of(DIP), nic::SERVER_FACING)?;
    director.passes(&ours).context("where no clients are")
}

fn ipv4() -> Vec<Fixture> {
    let of = |says, reason, make| of(says, tcp(VIP, 80), udp(VIP, 53), reason, make);
    vec![
        of("an IP version of 5", IpVersion, |tcp, _| tcp.syn().lying_version(5)),
        of("an IP header of 16 bytes", IpHeaderLength, |_, udp| {
            udp.datagram().lying_header_words(4)
        }),
        of("a frame that lacks its last byte", Truncated, |tcp, _| {
            tcp.syn().cut_to(14 + 39)
        }),
        of("a source of 127.0.0.1", BadSource, |tcp, _| {
            tcp.from([127, 0, 0, 1]).syn()
        }),
        of("a packet that ends inside the TCP header", ShortHeader, |tcp, _| {
            tcp.syn().lying_total_length(39)
        }),
        of("a packet that ends inside the UDP header", ShortHeader, |_, udp| {
            udp.datagram().lying_total_length(27)
        }),
        of("a packet that ends inside the ICMP header", ShortHeader, |tcp, _| {
            icmp(CLIENT, tcp, (3, 3), &[]).lying_total_length(27)
        }),
        of("a TCP data offset of 4", TcpOffset, |tcp, _| {
            tcp.syn().lying_data_offset(4)
        }),
        of("a UDP length of 7", UdpLength, |_, udp| {
            udp.datagram().lying_udp_length(7)
        }),
        of("a tiny first fragment", TinyFragment, |tcp, _| {
            tcp.syn().fragment(0, true).lying_total_length(28)
        }),
        of("a fragment beyond the largest packet", FragmentOverrun, |tcp, _| {
            later(tcp).fragment(8_191, false)
        }),
        of("a fragment whose first is not known", OrphanFragment, |tcp, _| {
            later(tcp).fragment(185, false)
        }),
        of("an ICMP error that quotes too little", IcmpQuote, |tcp, _| {
            icmp(CLIENT, tcp, (3, 3), &[0x45; 27])
        }),
    ]
}

fn ipv6() -> Vec<Fixture> {
    let of = |says, reason, make| of(says, tcp6(80), udp6(53), reason, make);
    vec![
        of("an IP version of 5 in IPv6", IpVersion, |tcp, _| {
            tcp.syn().lying_version(5)
        }),
        of("a frame of IPv6 that lacks its last byte", Truncated, |tcp, _| {
            tcp.syn().cut_to(14 + 59)
        }),
        of("a source of ::1", BadSource, |tcp, _| {
            tcp.from(std::net::Ipv6Addr::LOCALHOST).syn()
        }),
        of("an extension header beyond its packet", ExtensionHeaders, |tcp, _| {
            tcp.syn().behind_lying(ROUTING, 9)
        }),
        of(
            "a packet of IPv6 that ends inside the TCP header",
            ShortHeader,
            |tcp, _| tcp.syn().lying_total_length(19),
        ),
        of(
            "a packet of IPv6 that ends inside the UDP header",
            ShortHeader,
            |_, udp| udp.datagram().lying_total_length(7),
        ),
        of(
            "a packet of IPv6 that ends inside the ICMPv6 header",
            ShortHeader,
            |tcp, _| icmp(CLIENT6, tcp, (2, 0), &[]).lying_total_length(7),
        ),
        of("a TCP data offset in IPv6 beyond the packet", TcpOffset, |tcp, _| {
            tcp.syn().lying_data_offset(6)
        }),
        of("a UDP length in IPv6 beyond the packet", UdpLength, |_, udp| {
            udp.datagram().lying_udp_length(34)
        }),
        of(
            "a UDP length of 0 in IPv6, for lack of jumbograms",
            UdpLength,
            |_, udp| udp.datagram().lying_udp_length(0),
        ),
        of("a tiny first fragment of IPv6", TinyFragment, |tcp, _| {
            tcp.syn().fragment(0, true).lying_total_length(16)
        }),
        of(
            "a fragment of IPv6 beyond the largest packet",
            FragmentOverrun,
            |tcp, _| later(tcp).fragment(8_191, false),
        ),
        of(
            "a fragment of IPv6 whose first is not known",
            OrphanFragment,
            |tcp, _| later(tcp).fragment(185, false),
        ),
        of("an ICMPv6 error that quotes too little", IcmpQuote, |tcp, _| {
            icmp(CLIENT6, tcp, (2, 0), &[0x60; 39])
        }),
    ]
}

/// An ICMP error to where a flow goes.
fn icmp(from: impl Into<IpAddr>, flow: Flow, (kind, code): (u8, u8), quote: &[u8]) -> Frame {
    let frame = Frame::icmp(from, flow.service.vip, kind, code, [0; 4]);
    frame.payload(quote).sent_to(Mac::of(DIP))
}

/// Something of a flow without its header.
fn later(flow: Flow) -> Frame {
    let frame = Frame::protocol(flow.client.ip(), flow.service.vip, 6);
    frame.payload(&[0x5a; 16]).sent_to(Mac::of(DIP))
}
