//! Flows across changes of the tables: whoever has a connection keeps it, unless it is gone.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use lbx::desired::{Protocol, Scheduler};
use lbx_common::drops::DropReason;
use lbx_tests::{lab::rip, mac::Mac};

use crate::{
    cluster::{DNS, Flow, LO, MAGLEV, RR, SECOND, SYSLOG, flow, real_server},
    director::{Director, To},
    harness::{Fixture, story},
    outcome::{
        Counts::{Continues, Ends, Opens},
        Expected,
    },
};

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    [slots(), servers(), services()].into_iter().flatten().collect()
}

/// Slots that move.
fn slots() -> Vec<Fixture> {
    vec![
        story("a flow without record stays when its server drains", drained_owner),
        story(
            "a UDP flow without record stays when its server drains",
            drained_owner_udp,
        ),
        story("flows of one slot stay each with its own over two changes", two_changes),
        story("in a slot that does not move nothing is recorded", untouched_slot),
        story("a connection made before a change is undone stays", there_and_back),
        story("a new connection with the owner erases an old record", erased_record),
        story("after a timeout flows without record follow the slot", closed_window),
    ]
}

/// Real servers that drain, die, come and move.
fn servers() -> Vec<Fixture> {
    vec![
        story("rr gives a draining server its old flows only", drained_rr),
        story("when all servers drain new connections are dropped", all_drain),
        story("recorded flows of a dead server go elsewhere and stay there", dead_rr),
        story("flows without record of a dead server follow the hash", dead_maglev),
        story(
            "recorded flows of a server that drained and died follow the hash",
            dead_after_drain,
        ),
        story("a new server takes its turns and old flows stay", added_server),
        story("a server with another MAC address keeps its flows", moved_server),
    ]
}

/// Services that change as a whole.
fn services() -> Vec<Fixture> {
    vec![
        story("flows stay when rr becomes maglev", rr_to_maglev),
        story("flows stay when maglev becomes rr", maglev_to_rr),
        story("what is for a service that was removed passes", removed_service),
        story("what is broken passes once its VIP is none", removed_vip),
        story("a service that was removed and comes back knows no flow", service_again),
    ]
}

/// Another flow in the slot of one.
fn neighbour(director: &Director, of: Flow) -> Result<Flow> {
    let slot = director.slot_number(of);
    director.flow(of.service, |flow| flow != of && director.slot_number(flow) == slot)
}

fn drained_owner(director: &mut Director) -> Result<()> {
    let old = director.flow_of(MAGLEV, 3, true)?;
    director.sends(old, &old.data(), To::Rs(3), Continues)?;
    director.has_records(0)?;
    director.weigh(MAGLEV, 3, 0)?;
    director.sends(old, &old.data(), To::Rs(3), Continues)?;
    director.has_records(1)?;
    director.sends(old, &old.data(), To::Rs(3), Continues)?;
    director.sends(old, &old.fin(), To::Rs(3), Ends)
}

fn drained_owner_udp(director: &mut Director) -> Result<()> {
    let old = director.flow_of(SYSLOG, 3, true)?;
    director.weigh(SYSLOG, 3, 0)?;
    director.sends(old, &old.datagram(), To::Rs(3), Continues)?;
    director.has_records(1)?;
    director.sends(old, &old.datagram(), To::Rs(3), Continues)
}

fn two_changes(director: &mut Director) -> Result<()> {
    let old = director.flow_of(MAGLEV, 3, true)?;
    let newer = neighbour(director, old)?;
    director.weigh(MAGLEV, 3, 0)?;
    let second = director.server(newer, To::Current)?;
    ensure!(second != rip(3), "a drained real server is nobody's current one");
    director.sends(newer, &newer.syn(), To::Current, Opens)?;
    director.has_records(1)?;
    director.sends(old, &old.data(), To::Rs(3), Continues)?;
    director.has_records(2)?;
    let servers = &mut director.service_mut(MAGLEV)?.servers;
    servers
        .iter_mut()
        .filter(|server| server.address == second)
        .for_each(|server| server.weight = 0);
    director.plan()?;
    director.sends(old, &old.data(), To::Rs(3), Continues)?;
    director.sends(newer, &newer.data(), To::At(second), Continues)?;
    director.has_records(2)?;
    let newest = director.flow(MAGLEV, |flow| {
        flow != old && flow != newer && director.slot_number(flow) == director.slot_number(old)
    })?;
    let third = director.server(newest, To::Current)?;
    ensure!(third != second && third != rip(3), "only one real server is left");
    director.sends(newest, &newest.syn(), To::Current, Opens)
}

fn untouched_slot(director: &mut Director) -> Result<()> {
    director.weigh(MAGLEV, 3, 0)?;
    let resting = director.flow(MAGLEV, |flow| !director.slot(flow).has_records)?;
    director.sends(resting, &resting.syn(), To::Owner, Opens)?;
    director.sends(resting, &resting.data(), To::Owner, Continues)?;
    director.has_records(0)
}

fn there_and_back(director: &mut Director) -> Result<()> {
    let flow = director.flow_of(MAGLEV, 3, true)?;
    director.weigh(MAGLEV, 3, 0)?;
    let between = director.server(flow, To::Current)?;
    director.sends(flow, &flow.syn(), To::Current, Opens)?;
    director.weigh(MAGLEV, 3, 1)?;
    ensure!(director.server(flow, To::Current)? == rip(3), "undone");
    director.sends(flow, &flow.data(), To::At(between), Continues)?;
    let neighbour = neighbour(director, flow)?;
    director.sends(neighbour, &neighbour.syn(), To::Rs(3), Opens)?;
    // The owner needs no record.
    director.has_records(1)
}

fn erased_record(director: &mut Director) -> Result<()> {
    let flow = director.flow_of(MAGLEV, 3, true)?;
    director.weigh(MAGLEV, 3, 0)?;
    let between = director.server(flow, To::Current)?;
    director.sends(flow, &flow.syn(), To::Current, Opens)?;
    director.sends(flow, &flow.rst(), To::At(between), Ends)?;
    director.weigh(MAGLEV, 3, 1)?;
    director.sends(flow, &flow.syn(), To::Rs(3), Opens)?;
    director.has_records(0)?;
    director.sends(flow, &flow.data(), To::Rs(3), Continues)
}

fn closed_window(director: &mut Director) -> Result<()> {
    let active = director.flow_of(MAGLEV, 3, true)?;
    let silent = neighbour(director, active)?;
    director.weigh(MAGLEV, 3, 0)?;
    director.sends(active, &active.data(), To::Rs(3), Continues)?;
    let timeout = director.loaded(MAGLEV).window_ticks(Protocol::Tcp);
    for _ in 0..2 {
        director.pass(timeout / 2 + 2)?;
        director.age()?;
        director.sends(active, &active.data(), To::Rs(3), Continues)?;
    }
    ensure!(director.server(silent, To::Owner)? != rip(3), "the window is closed");
    director.sends(silent, &silent.data(), To::Current, Continues)?;
    director.has_records(1)
}

fn drained_rr(director: &mut Director) -> Result<()> {
    let old = flow(RR, 40_000);
    director.sends(old, &old.syn(), To::Rs(1), Opens)?;
    director.weigh(RR, 1, 0)?;
    for port in 40_001..40_005 {
        let new = flow(RR, port);
        director.sends(new, &new.syn(), To::Rs(2), Opens)?;
        director.sends(new, &new.data(), To::Rs(2), Continues)?;
    }
    director.sends(old, &old.data(), To::Rs(1), Continues)
}

fn all_drain(director: &mut Director) -> Result<()> {
    let nobody = Expected::Dropped(DropReason::NoBackend);
    let (http, dns) = (flow(RR, 40_000), flow(DNS, 40_000));
    let tls = director.flow_of(MAGLEV, 3, true)?;
    director.sends(http, &http.syn(), To::Rs(1), Opens)?;
    director.sends(dns, &dns.datagram(), To::Rs(1), Opens)?;
    for service in &mut director.desired.services {
        service.servers.iter_mut().for_each(|server| server.weight = 0);
    }
    director.plan()?;
    director.sends(http, &http.data(), To::Rs(1), Continues)?;
    director.sends(dns, &dns.datagram(), To::Rs(1), Continues)?;
    director.sends(tls, &tls.data(), To::Rs(3), Continues)?;
    director.expect(LO, &flow(RR, 40_001).syn(), nobody.clone())?;
    director.expect(LO, &flow(DNS, 40_001).datagram(), nobody.clone())?;
    director.expect(LO, &neighbour(director, tls)?.syn(), nobody)
}

fn dead_rr(director: &mut Director) -> Result<()> {
    let old = flow(RR, 40_000);
    director.sends(old, &old.syn(), To::Rs(1), Opens)?;
    director.sends(old, &old.data(), To::Rs(1), Continues)?;
    director.lose(RR, 1)?;
    director.sends(old, &old.data(), To::Rs(2), Continues)?;
    director.has_records(1)?;
    director.find(RR, 1)?;
    director.sends(old, &old.data(), To::Rs(2), Continues)
}

fn dead_maglev(director: &mut Director) -> Result<()> {
    let old = director.flow_of(MAGLEV, 3, true)?;
    director.lose(MAGLEV, 3)?;
    ensure!(director.server(old, To::Owner)? != rip(3), "the dead own nothing");
    director.sends(old, &old.data(), To::Current, Continues)?;
    director.sends(old, &old.syn(), To::Current, Opens)
}

fn dead_after_drain(director: &mut Director) -> Result<()> {
    let old = director.flow_of(MAGLEV, 3, true)?;
    director.weigh(MAGLEV, 3, 0)?;
    director.sends(old, &old.data(), To::Rs(3), Continues)?;
    director.lose(MAGLEV, 3)?;
    director.sends(old, &old.data(), To::Current, Continues)?;
    // What comes back under its address is another: nothing revives.
    director.find(MAGLEV, 3)?;
    director.sends(old, &old.data(), To::Owner, Continues)?;
    ensure!(director.server(old, To::Owner)? != rip(3), "it drains");
    Ok(())
}

fn added_server(director: &mut Director) -> Result<()> {
    let (one, two) = (flow(RR, 40_000), flow(RR, 40_001));
    director.sends(one, &one.syn(), To::Rs(1), Opens)?;
    director.sends(two, &two.syn(), To::Rs(2), Opens)?;
    director.service_mut(RR)?.servers.push(real_server(rip(3), 1));
    director.plan()?;
    director.sends(one, &one.data(), To::Rs(1), Continues)?;
    director.sends(two, &two.data(), To::Rs(2), Continues)?;
    // The cursor stands at 2, and the ring has three turns now.
    for (port, server) in (40_002..40_008).zip([3, 1, 2].into_iter().cycle()) {
        let new = flow(RR, port);
        director.sends(new, &new.syn(), To::Rs(server), Opens)?;
    }
    Ok(())
}

fn moved_server(director: &mut Director) -> Result<()> {
    let flow = flow(RR, 40_000);
    director.sends(flow, &flow.syn(), To::Rs(1), Opens)?;
    let hop = director.hops.get_mut(&IpAddr::from(rip(1))).expect("it has a hop");
    hop.mac = Mac::of([10, 9, 8, 7]).0;
    director.plan()?;
    director.sends(flow, &flow.data(), To::Rs(1), Continues)
}

fn rr_to_maglev(director: &mut Director) -> Result<()> {
    let other = director.flow_of(RR, 1, false)?;
    director.sends(other, &other.syn(), To::Rs(1), Opens)?;
    director.reschedule(RR, Scheduler::Maglev)?;
    director.sends(other, &other.data(), To::Rs(1), Continues)?;
    let new = neighbour(director, other)?;
    director.sends(new, &new.syn(), To::Current, Opens)?;
    director.has_records(1)
}

fn maglev_to_rr(director: &mut Director) -> Result<()> {
    let old = director.flow_of(MAGLEV, 3, true)?;
    director.sends(old, &old.syn(), To::Rs(3), Opens)?;
    director.reschedule(MAGLEV, Scheduler::Rr)?;
    director.sends(old, &old.data(), To::Rs(3), Continues)?;
    director.has_records(1)?;
    let new = neighbour(director, old)?;
    director.sends(new, &new.syn(), To::Rs(1), Opens)
}

fn removed_service(director: &mut Director) -> Result<()> {
    let old = flow(RR, 40_000);
    director.sends(old, &old.syn(), To::Rs(1), Opens)?;
    director.remove(RR)?;
    director.expect(LO, &old.data(), Expected::Passed)?;
    director.expect(LO, &old.syn(), Expected::Passed)?;
    // The VIP has other services: what is broken is still ours.
    director.expect(
        LO,
        &old.syn().lying_version(5),
        Expected::Dropped(DropReason::IpVersion),
    )
}

fn removed_vip(director: &mut Director) -> Result<()> {
    let broken = flow(SECOND, 40_000).syn().lying_version(5);
    director.expect(LO, &broken, Expected::Dropped(DropReason::IpVersion))?;
    director.remove(SECOND)?;
    director.expect(LO, &broken, Expected::Passed)
}

fn service_again(director: &mut Director) -> Result<()> {
    let old = director.flow_of(RR, 1, false)?;
    director.sends(old, &old.syn(), To::Rs(1), Opens)?;
    let wanted = director.desired.clone();
    director.remove(RR)?;
    director.desired = wanted;
    director.plan()?;
    director.sends(old, &old.data(), To::Owner, Continues)?;
    let new = flow(RR, 40_000);
    director.sends(new, &new.syn(), To::Rs(1), Opens)
}
