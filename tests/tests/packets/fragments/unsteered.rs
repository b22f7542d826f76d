//! Fragments without their first, and broken ones.

use anyhow::Result;
use lbx::desired::VirtualService;
use lbx_common::{
    drops::DropReason::{self, BadSource, ExtensionHeaders, FragmentOverrun, NoBackend, OrphanFragment, TinyFragment},
    fragment::LIFETIME_TICKS,
};
use lbx_tests::{
    lab::{CLIENT, VIP},
    mac::Mac,
    packet::{Frame, extension::DESTINATION_OPTIONS},
};

use super::{
    ALL, ALL_UDP, ALL6, ALL6_UDP, DNS, DNS6, HTTP, HTTP6, ICMPV6, TCP, UDP, cluster, first, from_to, later, story,
};
use crate::{
    cluster::{CLIENT6, VIP6, flow},
    director::{Director, To},
    harness::{Fixture, story_of},
    outcome::Counts::{Continues, Opens},
};

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    [orphans(), broken(), without_ports()].into_iter().flatten().collect()
}

fn drops(says: &'static str, reason: DropReason, frame: Frame) -> Fixture {
    story_of(says, cluster, move |director| director.drops(&frame, reason))
}

fn passes(says: &'static str, frame: Frame) -> Fixture {
    story_of(says, cluster, move |director| director.passes(&frame))
}

fn orphans() -> Vec<Fixture> {
    let orphan = |says, frame| drops(says, OrphanFragment, frame);
    let http = flow(HTTP, 40_000);
    vec![
        orphan("a middle fragment before its first is dropped", later(http, 1, 8, true)),
        orphan("a last fragment before its first is dropped", later(http, 1, 8, false)),
        orphan(
            "a fragment of UDP before its first is dropped",
            later(flow(DNS, 1), 1, 8, false),
        ),
        orphan(
            "a fragment of TCP over IPv6 before its first is dropped",
            later(flow(HTTP6, 1), 1, 8, false),
        ),
        orphan(
            "a fragment that may not be fragmented is dropped before its first",
            from_to(CLIENT, VIP, UDP).fragment(8, true).dont_fragment(),
        ),
        story(
            "a fragment of another packet than the first's is dropped",
            other_packets,
        ),
        story("a fragment that comes later than a receiver waits is dropped", |d| {
            too_late(d, DNS)
        }),
        story(
            "a fragment of IPv6 that comes later than a receiver waits is dropped",
            |d| too_late(d, DNS6),
        ),
        story("fragments of a packet whose real server has failed are dropped", failed),
        story("a packet that is not in fragments is nobody's first", no_first),
        passes(
            "a fragment in a frame to another MAC address passes",
            later(http, 1, 8, true).sent_to(Mac::of(CLIENT)),
        ),
        passes(
            "a later fragment of ICMPv6 to the VIP passes",
            from_to(CLIENT6, VIP6, ICMPV6).fragment(8, false),
        ),
    ]
}

fn other_packets(director: &mut Director) -> Result<()> {
    for service in [DNS, DNS6] {
        let flow = flow(service, 40_000);
        director.drops(&later(flow, 1, 8, true), OrphanFragment)?;
        director.sends(flow, &first(flow, 1), To::Rs(1), Opens)?;
        director.drops(&later(flow, 2, 8, true), OrphanFragment)?;
        director.drops(&later(flow, 1 << 8, 8, true), OrphanFragment)?;
        director.sends(flow, &later(flow, 1, 8, true), To::Rs(1), Continues)?;
    }
    // In IPv4 a protocol numbers its own packets (RFC 791 section 3.2).
    director.drops(
        &from_to(CLIENT, VIP, TCP).identified(1).fragment(8, true),
        OrphanFragment,
    )?;
    let other_client = later(flow(DNS, 1).from([192, 168, 1, 11]), 1, 8, true);
    director.drops(&other_client, OrphanFragment)
}

fn too_late(director: &mut Director, service: VirtualService) -> Result<()> {
    let flow = flow(service, 40_000);
    director.sends(flow, &first(flow, 1), To::Rs(1), Opens)?;
    director.pass(LIFETIME_TICKS)?;
    director.sends(flow, &later(flow, 1, 8, true), To::Rs(1), Continues)?;
    director.pass(1)?;
    director.drops(&later(flow, 1, 16, false), OrphanFragment)
}

fn failed(director: &mut Director) -> Result<()> {
    let flow = flow(DNS, 40_000);
    director.sends(flow, &first(flow, 1), To::Rs(1), Opens)?;
    director.lose(DNS, 1)?;
    director.drops(&later(flow, 1, 8, true), NoBackend)
}

fn no_first(director: &mut Director) -> Result<()> {
    let flow = flow(DNS6, 40_000);
    let atomic = flow.datagram().identified(1).fragment(0, false);
    director.sends(flow, &atomic, To::Rs(1), Opens)?;
    director.drops(&later(flow, 1, 8, true), OrphanFragment)
}

fn broken() -> Vec<Fixture> {
    let tiny = |says, frame: Frame| drops(says, TinyFragment, frame);
    let overrun = |says, frame| drops(says, FragmentOverrun, frame);
    let (http, http6, dns) = (flow(HTTP, 1), flow(HTTP6, 1), flow(DNS, 1));
    let ipv4 = |offset| later(dns, 1, offset, false);
    let ipv6 = |offset| later(http6, 1, offset, false);
    vec![
        tiny(
            "a first fragment of 16 bytes of TCP is dropped",
            http.syn().fragment(0, true).lying_total_length(36),
        ),
        tiny(
            "a first fragment of 8 bytes of TCP is dropped",
            http.syn().fragment(0, true).lying_total_length(28),
        ),
        tiny(
            "a first fragment of 16 bytes of TCP over IPv6 is dropped",
            http6.syn().fragment(0, true).lying_total_length(24),
        ),
        tiny(
            "a first fragment that ends inside the TCP options is dropped",
            http.data()
                .tcp_options(&[1; 40])
                .fragment(0, true)
                .lying_total_length(20 + 40),
        ),
        tiny(
            "a first fragment that ends inside the UDP header is dropped",
            dns.datagram().fragment(0, true).lying_total_length(24),
        ),
        drops(
            "a first fragment that ends inside an extension header is dropped",
            ExtensionHeaders,
            http6
                .syn()
                .fragment(0, true)
                .behind(DESTINATION_OPTIONS, 2)
                .lying_total_length(16),
        ),
        overrun("a fragment at the highest offset is dropped", ipv4(8_191)),
        overrun("a fragment of IPv6 at the highest offset is dropped", ipv6(8_191)),
        // 20 bytes of header, 65,456 (the offset), 64 of its own: 65,540.
        overrun(
            "a fragment whose end makes the packet longer than 65,535 bytes is dropped",
            ipv4(8_182),
        ),
        overrun(
            "a fragment of IPv6 that ends behind 65,535 bytes is dropped",
            ipv6(8_184),
        ),
        drops(
            "a fragment that ends just before that is not",
            OrphanFragment,
            ipv4(8_181),
        ),
        drops(
            "a fragment of IPv6 that ends just before that is not",
            OrphanFragment,
            ipv6(8_183),
        ),
    ]
}

/// Services that need no ports: a fragment goes where its client's packets go, whatever came before.
fn without_ports() -> Vec<Fixture> {
    let alone = |says, service| {
        story(says, move |director| {
            let flow = flow(service, 40_000);
            director.sends(flow, &later(flow, 1, 8, true), To::Owner, Continues)?;
            let http = flow.to_port(80);
            director.sends(http, &first(http, 1), To::Owner, Continues)?;
            director.sends(flow, &later(flow, 1, 16, false), To::Owner, Continues)?;
            director.has_records(0)
        })
    };
    vec![
        alone("sh on all ports needs no first fragment", ALL),
        alone("sh on all ports needs no first fragment of UDP over IPv6", ALL6_UDP),
        drops(
            "rr on all ports needs a first fragment",
            OrphanFragment,
            later(flow(ALL_UDP, 1), 1, 8, true),
        ),
        drops(
            "sh by port needs a first fragment",
            OrphanFragment,
            later(flow(ALL6, 1), 1, 8, true),
        ),
        drops(
            "a fragment from an address that is no client's is dropped there too",
            BadSource,
            later(flow(ALL, 1).from([127, 0, 0, 1]), 1, 8, true),
        ),
    ]
}
