//! IPv6 extension headers: lbx steps over six of them, and leaves alone what it does not know.

use std::net::Ipv6Addr;

use anyhow::Result;
use lbx::desired::{Scheduler, Service, VirtualService};
use lbx_common::drops::DropReason::{self, ExtensionHeaders, IpVersion, Truncated};
use lbx_tests::{
    lab::DIP,
    mac::Mac,
    packet::{
        Frame, IPV6, SYN,
        extension::{AUTHENTICATION, DESTINATION_OPTIONS, HOP_BY_HOP, NO_NEXT_HEADER, ROUTING},
    },
};

use crate::{
    cluster::{CLIENT6, Flow, VIP6, balanced, flow, tcp6, udp6},
    director::{Director, To},
    harness::{Fixture, story_of},
    outcome::Counts::{Continues, Opens},
};

const TLS: VirtualService = tcp6(443);
const SYSLOG: VirtualService = udp6(514);

/// Bytes up to where the first extension header begins.
const HEADERS: usize = 14 + 40;

/// Those that are counted in units of eight bytes less one.
const KINDS: [u8; 4] = [HOP_BY_HOP, ROUTING, AUTHENTICATION, DESTINATION_OPTIONS];

fn cluster() -> Vec<Service> {
    const THREE: &[(u8, u16)] = &[(1, 1), (2, 1), (3, 1)];
    vec![
        balanced(TLS, Scheduler::Maglev, THREE),
        balanced(SYSLOG, Scheduler::Maglev, THREE),
    ]
}

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    [followed(), broken(), foreign()].into_iter().flatten().collect()
}

fn tls() -> Flow {
    flow(TLS, 40_000)
}

fn story(says: &'static str, plays: fn(&mut Director) -> Result<()>) -> Fixture {
    story_of(says, cluster, plays)
}

fn drops(says: &'static str, reason: DropReason, frame: Frame) -> Fixture {
    story_of(says, cluster, move |director| director.drops(&frame, reason))
}

fn passes(says: &'static str, frame: Frame) -> Fixture {
    story_of(says, cluster, move |director| director.passes(&frame))
}

fn followed() -> Vec<Fixture> {
    vec![
        story("ports are found behind hop-by-hop options", |d| {
            stepped_over(d, HOP_BY_HOP)
        }),
        story("ports are found behind a routing header", |d| stepped_over(d, ROUTING)),
        story("ports are found behind an authentication header", |d| {
            stepped_over(d, AUTHENTICATION)
        }),
        story("ports are found behind destination options", |d| {
            stepped_over(d, DESTINATION_OPTIONS)
        }),
        story("a fragment that is all there is is a packet like any other", atomic),
        story("ports are found behind six extension headers", six),
        story("ports are found behind the longest extension header", longest),
        story("a SYN behind extension headers opens a connection", opening),
    ]
}

/// By TCP and by UDP, whatever its length.
fn stepped_over(director: &mut Director, kind: u8) -> Result<()> {
    let syslog = flow(SYSLOG, 40_000);
    let least = if kind == AUTHENTICATION { 2 } else { 1 };
    for units in least..=40 {
        director.sends(tls(), &tls().data().behind(kind, units), To::Owner, Continues)?;
        director.sends(syslog, &syslog.datagram().behind(kind, units), To::Owner, Continues)?;
    }
    Ok(())
}

fn atomic(director: &mut Director) -> Result<()> {
    let frame = tls().data().fragment(0, false);
    director.sends(tls(), &frame, To::Owner, Continues)?;
    let behind = tls()
        .data()
        .behind(HOP_BY_HOP, 1)
        .fragment(0, false)
        .behind(DESTINATION_OPTIONS, 1);
    director.sends(tls(), &behind, To::Owner, Continues)
}

fn six(director: &mut Director) -> Result<()> {
    for kind in KINDS {
        let same = (0..6).fold(tls().data(), |frame, _| frame.behind(kind, 2));
        director.sends(tls(), &same, To::Owner, Continues)?;
    }
    director.sends(tls(), &in_order(tls().data()), To::Owner, Continues)
}

/// The order of RFC 8200 section 4.1, all six.
fn in_order(frame: Frame) -> Frame {
    frame
        .behind(HOP_BY_HOP, 1)
        .behind(DESTINATION_OPTIONS, 2)
        .behind(ROUTING, 3)
        .fragment(0, false)
        .behind(AUTHENTICATION, 3)
        .behind(DESTINATION_OPTIONS, 1)
}

fn longest(director: &mut Director) -> Result<()> {
    let frame = tls().data().behind(DESTINATION_OPTIONS, u8::MAX);
    director.sends(tls(), &frame, To::Owner, Continues)
}

fn opening(director: &mut Director) -> Result<()> {
    director.sends(tls(), &in_order(tls().syn()), To::Owner, Opens)
}

fn broken() -> Vec<Fixture> {
    let beyond = |says, kind| drops(says, ExtensionHeaders, tls().data().behind_lying(kind, 200));
    let behind = |units| tls().data().behind(DESTINATION_OPTIONS, units);
    let seven = in_order(tls().data()).behind(DESTINATION_OPTIONS, 1);
    let to_nobody = |frame: Frame| frame.sent_to(Mac::of(CLIENT6));
    vec![
        beyond("hop-by-hop options beyond the packet are dropped", HOP_BY_HOP),
        beyond("a routing header beyond the packet is dropped", ROUTING),
        beyond("an authentication header beyond the packet is dropped", AUTHENTICATION),
        beyond("destination options beyond the packet are dropped", DESTINATION_OPTIONS),
        drops(
            "a packet that ends inside an extension header, then padding, is dropped",
            ExtensionHeaders,
            behind(2).lying_total_length(15),
        ),
        drops(
            "a packet that ends in the first bytes of an extension header is dropped",
            ExtensionHeaders,
            behind(1).lying_total_length(7),
        ),
        drops(
            "a packet of no length with an extension header is dropped: lbx knows no jumbograms",
            ExtensionHeaders,
            tls().data().behind(HOP_BY_HOP, 1).lying_total_length(0),
        ),
        drops(
            "a second extension header beyond the packet is dropped",
            ExtensionHeaders,
            tls().data().behind(HOP_BY_HOP, 1).behind_lying(DESTINATION_OPTIONS, 6),
        ),
        drops("seven extension headers are dropped", ExtensionHeaders, seven.clone()),
        drops(
            "extension headers of more than 4,096 bytes are dropped",
            ExtensionHeaders,
            behind(u8::MAX).behind(DESTINATION_OPTIONS, u8::MAX).behind(ROUTING, 8),
        ),
        drops(
            "extension headers whose packet goes on behind 4,096 bytes are dropped",
            ExtensionHeaders,
            behind(u8::MAX).behind(DESTINATION_OPTIONS, u8::MAX),
        ),
        drops(
            "a frame that ends inside an extension header is dropped",
            Truncated,
            behind(2).cut_to(HEADERS + 12),
        ),
        drops(
            "a frame that ends in the first bytes of an extension header is dropped",
            Truncated,
            behind(1).cut_to(HEADERS + 5),
        ),
        drops(
            "a frame that ends behind its extension header is dropped",
            Truncated,
            behind(1).cut_to(HEADERS + 8),
        ),
        drops(
            "IP version 4 under the EtherType of IPv6 is dropped",
            IpVersion,
            tls().data().lying_version(4),
        ),
        passes(
            "seven extension headers for another address pass",
            in_order(elsewhere()).behind(ROUTING, 1),
        ),
        passes(
            "seven extension headers in a frame to another MAC address pass",
            to_nobody(seven),
        ),
        passes(
            "an extension header beyond a packet for another address passes",
            elsewhere().behind_lying(HOP_BY_HOP, 9),
        ),
        passes(
            "an extension header beyond the packet in a frame to another MAC address passes",
            to_nobody(tls().data().behind_lying(HOP_BY_HOP, 9)),
        ),
    ]
}

/// A SYN to an address next to the VIP.
fn elsewhere() -> Frame {
    let mut destination = tls().destination();
    destination.set_ip(Ipv6Addr::from_bits(VIP6.to_bits() + 1).into());
    Frame::tcp(tls().client, destination, SYN).sent_to(Mac::of(DIP))
}

fn foreign() -> Vec<Fixture> {
    const ICMP: u8 = 1;
    const GRE: u8 = 47;
    const ESP: u8 = 50;
    const SCTP: u8 = 132;
    const MOBILITY: u8 = 135;
    const HIP: u8 = 139;
    const SHIM: u8 = 140;
    const EXPERIMENT: u8 = 253;
    let protocol = |protocol| {
        let frame = Frame::protocol(CLIENT6, VIP6, protocol).payload(&[1, 0xbb, 1, 0xbb, 0, 0, 0, 0]);
        frame.sent_to(Mac::of(DIP))
    };
    let echo = Frame::icmp(CLIENT6, VIP6, 128, 0, [0, 1, 0, 1]).sent_to(Mac::of(DIP));
    let solicitation = Frame::icmp(CLIENT6, VIP6, 135, 0, [0; 4])
        .payload(&VIP6.octets())
        .ttl(255);
    let short = Frame::raw(IPV6, Mac::of(CLIENT6), Mac::of(DIP), &[0x60; 39]).cut_to(HEADERS - 1);
    let mapped = std::net::Ipv4Addr::new(192, 168, 1, 160).to_ipv6_mapped();
    let to_mapped = Frame::protocol(CLIENT6, mapped, 6)
        .payload(&[0; 20])
        .sent_to(Mac::of(DIP));
    vec![
        passes("a packet with no next header passes", protocol(NO_NEXT_HEADER)),
        passes(
            "a packet with nothing behind its hop-by-hop options passes",
            protocol(NO_NEXT_HEADER).behind(HOP_BY_HOP, 1),
        ),
        passes(
            "a packet with nothing behind six extension headers passes",
            in_order(protocol(NO_NEXT_HEADER)),
        ),
        passes("a mobility header passes", protocol(MOBILITY)),
        passes("a host identity header passes", protocol(HIP)),
        passes("a shim6 header passes", protocol(SHIM)),
        passes("an experimental header passes", protocol(EXPERIMENT)),
        passes("an unknown header behind others passes", in_order(protocol(EXPERIMENT))),
        passes("an ESP packet passes", protocol(ESP)),
        passes(
            "a GRE packet behind an extension header passes",
            protocol(GRE).behind(ROUTING, 1),
        ),
        passes("an SCTP packet passes", protocol(SCTP)),
        passes("an ICMP packet of IPv4 in IPv6 passes", protocol(ICMP)),
        passes("an echo request is left to the stack", echo.clone()),
        passes(
            "an echo request behind hop-by-hop options too",
            echo.behind(HOP_BY_HOP, 1),
        ),
        passes(
            "a neighbour solicitation goes to the stack",
            solicitation.sent_to(Mac::of(DIP)),
        ),
        passes("a frame that ends inside the IPv6 header passes", short),
        passes("a packet to an IPv4-mapped address is no VIP's and passes", to_mapped),
    ]
}
