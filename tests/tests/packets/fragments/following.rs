//! Fragments that follow their first.

use anyhow::Result;
use lbx::desired::VirtualService;
use lbx_common::drops::DropReason::OrphanFragment;
use lbx_tests::packet::{
    Frame,
    extension::{DESTINATION_OPTIONS, HOP_BY_HOP},
};

use super::{DNS, DNS6, HTTP, HTTP6, SYSLOG, SYSLOG6, TCP, TLS, first, from_to, later, story};
use crate::{
    cluster::{CLIENT6, Flow, LO, SIZES, VIP6, flow},
    director::{Director, To},
    harness::Fixture,
    outcome::Counts::{Continues, Opens},
};

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    vec![
        story("fragments of TCP follow their first", |d| recorded_tcp(d, HTTP)),
        story("fragments of TCP over IPv6 follow their first", |d| {
            recorded_tcp(d, HTTP6)
        }),
        story("fragments of UDP follow their first", |d| recorded_udp(d, DNS)),
        story("fragments of UDP over IPv6 follow their first", |d| {
            recorded_udp(d, DNS6)
        }),
        story("fragments of a hashed flow follow their first", |d| hashed(d, TLS)),
        story("fragments of a hashed datagram follow their first", |d| {
            hashed(d, SYSLOG)
        }),
        story("fragments of a hashed datagram over IPv6 follow their first", |d| {
            hashed(d, SYSLOG6)
        }),
        story(
            "fragments behind other extension headers follow their first",
            behind_extensions,
        ),
        story(
            "fragments of what begins with an extension header follow their first",
            of_extensions,
        ),
        story("fragments of two packets are not mixed up", two_packets),
        story(
            "an identification that is used again is of the newer packet",
            used_again,
        ),
        story("fragments follow while their real server drains", draining),
        story("when many packets are fragmented the newest are known", many),
        story(
            "fragments follow a first that no service wants to the stack",
            to_the_stack,
        ),
    ]
}

/// The last may come before the middle, and any of them twice.
fn rest_follows(director: &Director, flow: Flow, identification: u32, to: To) -> Result<()> {
    let middle = later(flow, identification, 8, true);
    let last = later(flow, identification, 16, false);
    for frame in [&middle, &last, &middle, &last] {
        director.sends(flow, frame, to, Continues)?;
    }
    Ok(())
}

fn recorded_tcp(director: &mut Director, service: VirtualService) -> Result<()> {
    let flow = director.flow_of(service, 1, false)?;
    director.opens(flow, To::Rs(1))?;
    director.sends(flow, &first(flow, 7), To::Rs(1), Continues)?;
    rest_follows(director, flow, 7, To::Rs(1))?;
    director.has_records(1)
}

fn recorded_udp(director: &mut Director, service: VirtualService) -> Result<()> {
    let flow = director.flow_of(service, 1, false)?;
    director.sends(flow, &first(flow, 7), To::Rs(1), Opens)?;
    rest_follows(director, flow, 7, To::Rs(1))?;
    director.has_records(1)?;
    director.has_load(service, 1, 1, 0)
}

fn hashed(director: &mut Director, service: VirtualService) -> Result<()> {
    for number in [1, 2] {
        let flow = director.flow_of(service, number, true)?;
        director.sends(flow, &first(flow, number.into()), To::Owner, Continues)?;
        rest_follows(director, flow, number.into(), To::Owner)?;
    }
    director.has_records(0)
}

fn behind_extensions(director: &mut Director) -> Result<()> {
    let flow = director.flow_of(HTTP6, 1, false)?;
    director.opens(flow, To::Rs(1))?;
    let behind = |frame: Frame| frame.identified(9).behind(HOP_BY_HOP, 1).behind(DESTINATION_OPTIONS, 2);
    let first = behind(flow.data()).fragment(0, true);
    director.sends(flow, &first, To::Rs(1), Continues)?;
    let last = behind(from_to(CLIENT6, VIP6, TCP)).fragment(8, false);
    director.sends(flow, &last, To::Rs(1), Continues)
}

/// Each fragment says what the packet begins with, the first shows that ports come later (RFC 8200 section 4.5).
fn of_extensions(director: &mut Director) -> Result<()> {
    let flow = director.flow_of(HTTP6, 1, false)?;
    director.opens(flow, To::Rs(1))?;
    let first = flow
        .data()
        .identified(9)
        .fragment(0, true)
        .behind(DESTINATION_OPTIONS, 1);
    director.sends(flow, &first, To::Rs(1), Continues)?;
    let last = from_to(CLIENT6, VIP6, DESTINATION_OPTIONS)
        .identified(9)
        .fragment(8, false);
    director.sends(flow, &last, To::Rs(1), Continues)
}

fn two_packets(director: &mut Director) -> Result<()> {
    for service in [DNS, DNS6] {
        let (one, two) = (flow(service, 40_000), flow(service, 40_001));
        director.sends(one, &first(one, 1), To::Rs(1), Opens)?;
        director.sends(two, &first(two, 2), To::Rs(2), Opens)?;
        rest_follows(director, one, 1, To::Rs(1))?;
        rest_follows(director, two, 2, To::Rs(2))?;
    }
    Ok(())
}

fn used_again(director: &mut Director) -> Result<()> {
    let (one, two) = (flow(DNS, 40_000), flow(DNS, 40_001));
    director.sends(one, &first(one, 1), To::Rs(1), Opens)?;
    director.sends(two, &first(two, 1), To::Rs(2), Opens)?;
    rest_follows(director, two, 1, To::Rs(2))
}

fn draining(director: &mut Director) -> Result<()> {
    let flow = flow(DNS, 40_000);
    director.sends(flow, &first(flow, 1), To::Rs(1), Opens)?;
    director.weigh(DNS, 1, 0)?;
    rest_follows(director, flow, 1, To::Rs(1))
}

fn many(director: &mut Director) -> Result<()> {
    let flow = flow(SYSLOG, 40_000);
    let most = 2 * SIZES.fragments;
    for identification in 0..=most {
        director.run(LO, &first(flow, identification))?;
    }
    rest_follows(director, flow, most, To::Owner)
}

fn to_the_stack(director: &mut Director) -> Result<()> {
    for service in [HTTP, DNS] {
        let nobodys = flow(service, 40_000).to_port(8_080);
        director.passes(&first(nobodys, 1))?;
        director.passes(&later(nobodys, 1, 8, true))?;
        director.passes(&later(nobodys, 1, 16, false))?;
        // Another packet is another.
        director.drops(&later(nobodys, 2, 16, false), OrphanFragment)?;
    }
    Ok(())
}
