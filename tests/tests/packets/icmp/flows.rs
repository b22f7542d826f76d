//! Whose real server gets an ICMP error, and what becomes of the flow: nothing.

use anyhow::{Result, ensure};
use lbx::desired::{Protocol, VirtualService};

use super::{
    DNS, DNS6, FRAGMENTATION_NEEDED, HTTP, HTTP6, PACKET_TOO_BIG, PORT_UNREACHABLE, SYSLOG, TLS, TLS6, about, story,
};
use crate::{
    cluster::flow,
    director::{Director, To},
    harness::Fixture,
    outcome::Counts::{Continues, Ends, Opens},
};

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    [errors(), silent()].into_iter().flatten().collect()
}

fn errors() -> Vec<Fixture> {
    let by_record = |says, service, kind| story(says, move |director| recorded(director, service, kind));
    vec![
        by_record(
            "fragmentation needed goes where the record says",
            HTTP,
            FRAGMENTATION_NEEDED,
        ),
        by_record(
            "port unreachable goes where the record of UDP says",
            DNS,
            PORT_UNREACHABLE,
        ),
        by_record("host unreachable goes where the record says", HTTP, (3, 1)),
        by_record("time exceeded goes where the record says", HTTP, (11, 0)),
        by_record("parameter problem goes where the record says", HTTP, (12, 0)),
        by_record("packet too big goes where the record says", HTTP6, PACKET_TOO_BIG),
        by_record(
            "port unreachable of IPv6 goes where the record of UDP says",
            DNS6,
            (1, 4),
        ),
        by_record("time exceeded of IPv6 goes where the record says", HTTP6, (3, 0)),
        by_record("parameter problem of IPv6 goes where the record says", HTTP6, (4, 1)),
        story("fragmentation needed goes where the slot says", |d| {
            by_slot(d, TLS, FRAGMENTATION_NEEDED)
        }),
        story("port unreachable goes where the slot of UDP says", |d| {
            by_slot(d, SYSLOG, PORT_UNREACHABLE)
        }),
        story("packet too big goes where the slot says", |d| {
            by_slot(d, TLS6, PACKET_TOO_BIG)
        }),
        story("an error about a flow whose real server drains goes there", draining),
        story(
            "an error about a flow whose real server has failed goes where the flow would",
            failed,
        ),
    ]
}

fn recorded(director: &mut Director, service: VirtualService, kind: (u8, u8)) -> Result<()> {
    let flow = director.flow_of(service, 1, false)?;
    let first = match service.protocol {
        Protocol::Tcp => flow.syn(),
        Protocol::Udp => flow.datagram(),
    };
    director.sends(flow, &first, To::Rs(1), Opens)?;
    director.sends(flow, &about(flow, kind), To::Rs(1), Continues)?;
    director.has_records(1)
}

fn by_slot(director: &mut Director, service: VirtualService, kind: (u8, u8)) -> Result<()> {
    for number in [1, 2] {
        let flow = director.flow_of(service, number, true)?;
        director.sends(flow, &about(flow, kind), To::Rs(number), Continues)?;
    }
    director.has_records(0)
}

fn draining(director: &mut Director) -> Result<()> {
    let (http, tls) = (director.flow_of(HTTP, 1, false)?, director.flow_of(TLS, 1, true)?);
    director.opens(http, To::Rs(1))?;
    director.opens(tls, To::Rs(1))?;
    director.weigh(HTTP, 1, 0)?;
    director.weigh(TLS, 1, 0)?;
    director.sends(http, &about(http, FRAGMENTATION_NEEDED), To::Rs(1), Continues)?;
    director.sends(tls, &about(tls, FRAGMENTATION_NEEDED), To::Rs(1), Continues)
}

fn failed(director: &mut Director) -> Result<()> {
    let flow = director.flow_of(HTTP, 1, false)?;
    director.opens(flow, To::Rs(1))?;
    director.lose(HTTP, 1)?;
    director.sends(flow, &about(flow, FRAGMENTATION_NEEDED), To::Rs(2), Continues)
}

/// Anybody may send an error: it says nothing of a flow.
fn silent() -> Vec<Fixture> {
    vec![
        story("an error about a flow without record leaves none", |d| {
            leaves_none(d, HTTP)
        }),
        story("an error about a flow of UDP without record opens none", |d| {
            leaves_none(d, DNS)
        }),
        story(
            "an error about a flow of UDP over IPv6 without record opens none",
            |d| leaves_none(d, DNS6),
        ),
        story(
            "an error about a flow of a slot that moves leaves no record",
            in_a_window,
        ),
        story("an error proves no connection", proves_nothing),
        story("an error keeps no connection alive", keeps_nothing),
        story("an error does not bring back a connection that ends", ending),
    ]
}

fn leaves_none(director: &mut Director, service: VirtualService) -> Result<()> {
    let flow = director.flow_of(service, 1, false)?;
    let kind = if flow.client.is_ipv4() {
        PORT_UNREACHABLE
    } else {
        (1, 4)
    };
    director.sends(flow, &about(flow, kind), To::Owner, Continues)?;
    director.has_records(0)?;
    // Nor does it take a turn.
    let first = match service.protocol {
        Protocol::Tcp => flow.syn(),
        Protocol::Udp => flow.datagram(),
    };
    director.sends(flow, &first, To::Rs(1), Opens)
}

fn in_a_window(director: &mut Director) -> Result<()> {
    let flow = director.flow_of(TLS, 1, true)?;
    director.weigh(TLS, 1, 0)?;
    ensure!(director.slot(flow).has_records, "the slot moves");
    director.sends(flow, &about(flow, FRAGMENTATION_NEEDED), To::Rs(1), Continues)?;
    director.has_records(0)
}

fn proves_nothing(director: &mut Director) -> Result<()> {
    let flow = flow(HTTP, 40_000);
    director.sends(flow, &flow.syn(), To::Rs(1), Opens)?;
    director.pass(2)?;
    director.sends(flow, &about(flow, PORT_UNREACHABLE), To::Rs(1), Continues)?;
    director.has_load(HTTP, 1, 0, 1)
}

fn keeps_nothing(director: &mut Director) -> Result<()> {
    let flow = director.flow_of(HTTP, 1, false)?;
    let timeout = director.loaded(HTTP).window_ticks(Protocol::Tcp);
    director.opens(flow, To::Rs(1))?;
    director.pass(timeout)?;
    director.sends(flow, &about(flow, PORT_UNREACHABLE), To::Rs(1), Continues)?;
    director.pass(1)?;
    director.sends(flow, &about(flow, PORT_UNREACHABLE), To::Owner, Continues)?;
    director.has_records(0)
}

fn ending(director: &mut Director) -> Result<()> {
    let flow = flow(HTTP, 40_000);
    director.opens(flow, To::Rs(1))?;
    director.sends(flow, &flow.fin(), To::Rs(1), Ends)?;
    director.pass(5)?;
    director.sends(flow, &about(flow, PORT_UNREACHABLE), To::Rs(1), Continues)?;
    director.has_load(HTTP, 1, 0, 1)
}
