//! How many connections each real server has: counted as they come, prove to be real, end and are forgotten.

use anyhow::{Result, ensure};
use lbx::desired::{Scheduler, Service, TableSizes, VirtualService};
use lbx_common::flow::EVICTION_GRACE_TICKS;
use lbx_tests::lab::VIP;

use crate::{
    cluster::{LO, SIZES, balanced, flow, tcp, tcp6, udp, udp6},
    director::{Director, To},
    harness::{Fixture, free_story, story_of},
    outcome::Counts::{Continues, Ends, Opens},
};

const HTTP: VirtualService = tcp(VIP, 80);
const TLS: VirtualService = tcp(VIP, 443);
const DNS: VirtualService = udp(VIP, 53);
const HTTP6: VirtualService = tcp6(80);
const DNS6: VirtualService = udp6(53);

fn cluster() -> Vec<Service> {
    const EVEN: &[(u8, u16)] = &[(1, 1), (2, 1)];
    vec![
        balanced(HTTP, Scheduler::Rr, EVEN),
        balanced(TLS, Scheduler::Maglev, EVEN),
        balanced(DNS, Scheduler::Rr, EVEN),
        balanced(HTTP6, Scheduler::Rr, EVEN),
        balanced(DNS6, Scheduler::Rr, EVEN),
    ]
}

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    let story = |says, plays: fn(&mut Director) -> Result<()>| story_of(says, cluster, plays);
    let of = |says, service, plays: fn(&mut Director, VirtualService) -> Result<()>| {
        story_of(says, cluster, move |director| plays(director, service))
    };
    vec![
        of("a connection is inactive, active, inactive and gone", HTTP, whole_life),
        of(
            "a connection over IPv6 is inactive, active, inactive and gone",
            HTTP6,
            whole_life,
        ),
        of(
            "a connection that is broken off is inactive until it is forgotten",
            HTTP,
            broken_off,
        ),
        of(
            "a SYN that nothing follows is inactive until it is forgotten",
            HTTP,
            half_open,
        ),
        of("a flow of UDP is active until it is forgotten", DNS, datagrams),
        of(
            "a flow of UDP over IPv6 is active until it is forgotten",
            DNS6,
            datagrams,
        ),
        story("a connection that lives on after a FIN is active again", lives_on),
        story("a connection rr did not see begin is active", adopted),
        story(
            "a packet of a flow that has expired counts it anew, once",
            expired_and_back,
        ),
        story("a port that is used again counts once", used_again),
        story(
            "connections that hashing knows by the slot alone are not counted",
            hashed,
        ),
        story(
            "connections of a real server that fails are counted where they go",
            failed,
        ),
        story("a real server that comes back begins with no connections", comes_back),
        story("connections of a real server that drains stay counted", draining),
        story("a service that is removed and comes back has no connections", removed),
        free_story(
            "a flow that gives its record to another is no longer counted",
            displaced,
        ),
        free_story(
            "a flow of IPv6 that gives its record to another is no longer counted",
            displaced6,
        ),
    ]
}

fn timeouts(director: &Director, service: VirtualService) -> lbx_common::service::TimeoutTicks {
    director.loaded(service).policy.timeouts
}

fn whole_life(director: &mut Director, service: VirtualService) -> Result<()> {
    let flow = flow(service, 40_000);
    director.sends(flow, &flow.syn(), To::Rs(1), Opens)?;
    director.has_load(service, 1, 0, 1)?;
    director.sends(flow, &flow.syn(), To::Rs(1), Continues)?;
    director.has_load(service, 1, 0, 1)?;
    for frame in [flow.ack(), flow.data(), flow.ack()] {
        director.sends(flow, &frame, To::Rs(1), Continues)?;
        director.has_load(service, 1, 1, 0)?;
        director.pass(1)?;
    }
    director.sends(flow, &flow.fin(), To::Rs(1), Ends)?;
    director.sends(flow, &flow.ack(), To::Rs(1), Continues)?;
    director.has_load(service, 1, 0, 1)?;
    director.pass(timeouts(director, service).closing.into())?;
    director.age()?;
    director.has_load(service, 1, 0, 1)?;
    director.pass(1)?;
    director.age()?;
    director.has_load(service, 1, 0, 0)?;
    director.has_load(service, 2, 0, 0)?;
    director.has_records(0)
}

fn broken_off(director: &mut Director, service: VirtualService) -> Result<()> {
    let flow = flow(service, 40_000);
    director.opens(flow, To::Rs(1))?;
    director.sends(flow, &flow.rst(), To::Rs(1), Ends)?;
    director.has_load(service, 1, 0, 1)?;
    director.pass(u32::from(timeouts(director, service).closed) + 1)?;
    director.age()?;
    director.has_load(service, 1, 0, 0)
}

fn half_open(director: &mut Director, service: VirtualService) -> Result<()> {
    let flow = flow(service, 40_000);
    director.sends(flow, &flow.syn(), To::Rs(1), Opens)?;
    director.pass(timeouts(director, service).half_open.into())?;
    director.age()?;
    director.has_load(service, 1, 0, 1)?;
    director.pass(1)?;
    director.age()?;
    director.has_load(service, 1, 0, 0)
}

fn datagrams(director: &mut Director, service: VirtualService) -> Result<()> {
    let flow = flow(service, 40_000);
    director.sends(flow, &flow.datagram(), To::Rs(1), Opens)?;
    director.has_load(service, 1, 1, 0)?;
    director.pass(3)?;
    director.sends(flow, &flow.datagram(), To::Rs(1), Continues)?;
    director.has_load(service, 1, 1, 0)?;
    director.pass(u32::from(timeouts(director, service).udp) + 1)?;
    director.age()?;
    director.has_load(service, 1, 0, 0)
}

fn lives_on(director: &mut Director) -> Result<()> {
    let flow = flow(HTTP, 40_000);
    director.opens(flow, To::Rs(1))?;
    director.sends(flow, &flow.fin(), To::Rs(1), Ends)?;
    director.has_load(HTTP, 1, 0, 1)?;
    director.pass(2)?;
    director.sends(flow, &flow.data(), To::Rs(1), Continues)?;
    director.has_load(HTTP, 1, 1, 0)
}

fn adopted(director: &mut Director) -> Result<()> {
    let flow = director.flow_of(HTTP, 2, true)?;
    director.sends(flow, &flow.data(), To::Rs(2), Continues)?;
    director.has_load(HTTP, 2, 1, 0)?;
    director.sends(flow, &flow.fin(), To::Rs(2), Ends)?;
    director.has_load(HTTP, 2, 0, 1)
}

fn expired_and_back(director: &mut Director) -> Result<()> {
    let flow = director.flow_of(HTTP, 2, true)?;
    director.opens(flow, To::Rs(1))?;
    director.pass(u32::from(timeouts(director, HTTP).established) + 1)?;
    // No sweep has come by: the record is still there.
    director.has_load(HTTP, 1, 1, 0)?;
    director.sends(flow, &flow.data(), To::Rs(2), Continues)?;
    director.has_load(HTTP, 1, 0, 0)?;
    director.has_load(HTTP, 2, 1, 0)?;
    director.age()?;
    director.has_load(HTTP, 2, 1, 0)
}

fn used_again(director: &mut Director) -> Result<()> {
    let flow = flow(HTTP, 40_000);
    for number in [1, 2, 1] {
        director.opens(flow, To::Rs(number))?;
        director.has_load(HTTP, number, 1, 0)?;
        director.has_load(HTTP, 3 - number, 0, 0)?;
        director.sends(flow, &flow.fin(), To::Rs(number), Ends)?;
    }
    director.has_load(HTTP, 1, 0, 1)
}

fn hashed(director: &mut Director) -> Result<()> {
    let flow = director.flow_of(TLS, 1, true)?;
    director.opens(flow, To::Rs(1))?;
    director.has_load(TLS, 1, 0, 0)?;
    director.weigh(TLS, 1, 0)?;
    director.sends(flow, &flow.data(), To::Rs(1), Continues)?;
    // Now it has a record.
    director.has_load(TLS, 1, 1, 0)
}

fn failed(director: &mut Director) -> Result<()> {
    let flow = flow(HTTP, 40_000);
    director.opens(flow, To::Rs(1))?;
    director.lose(HTTP, 1)?;
    director.sends(flow, &flow.data(), To::Rs(2), Continues)?;
    director.has_load(HTTP, 2, 1, 0)
}

fn comes_back(director: &mut Director) -> Result<()> {
    director.opens_in_turn(HTTP, 40_000.., &[1, 2, 1, 2])?;
    director.lose(HTTP, 1)?;
    director.pass(1)?;
    director.age()?;
    director.find(HTTP, 1)?;
    director.has_load(HTTP, 1, 0, 0)?;
    director.has_load(HTTP, 2, 2, 0)
}

fn draining(director: &mut Director) -> Result<()> {
    let flow = flow(HTTP, 40_000);
    director.opens(flow, To::Rs(1))?;
    director.weigh(HTTP, 1, 0)?;
    director.age()?;
    director.has_load(HTTP, 1, 1, 0)?;
    director.sends(flow, &flow.fin(), To::Rs(1), Ends)?;
    director.has_load(HTTP, 1, 0, 1)
}

fn removed(director: &mut Director) -> Result<()> {
    director.opens_in_turn(HTTP, 40_000.., &[1, 2, 1])?;
    director.remove(HTTP)?;
    director
        .desired
        .services
        .push(balanced(HTTP, Scheduler::Rr, &[(1, 1), (2, 1)]));
    director.plan()?;
    director.has_load(HTTP, 1, 0, 0)?;
    director.has_load(HTTP, 2, 0, 0)?;
    // The records of before are another service's, which is no longer.
    director.pass(1)?;
    director.age()?;
    director.has_load(HTTP, 1, 0, 0)?;
    director.opens_in_turn(HTTP, 40_000.., &[1, 2])
}

fn displaced() -> Result<()> {
    let sizes = TableSizes { flows4: 8, ..SIZES };
    gives_way(&mut Director::sized(sizes, cluster())?, HTTP, 8)
}

fn displaced6() -> Result<()> {
    let sizes = TableSizes { flows6: 4, ..SIZES };
    gives_way(&mut Director::sized(sizes, cluster())?, HTTP6, 4)
}

/// In tables of two buckets everybody can have any record.
fn gives_way(director: &mut Director, service: VirtualService, records: u16) -> Result<()> {
    for port in 0..records {
        director.run(LO, &flow(service, 40_000 + port).syn())?;
    }
    director.has_records(records.into())?;
    let half = u32::from(records) / 2;
    director.has_load(service, 1, 0, half)?;
    director.has_load(service, 2, 0, half)?;
    director.pass(EVICTION_GRACE_TICKS)?;
    // A flow to rs1 takes the place of one, whosever it was; then all that is left is as much.
    director.opens(flow(service, 50_000), To::Rs(1))?;
    director.has_records(records.into())?;
    let (one, two) = (director.load(service, 1)?, director.load(service, 2)?);
    ensure!(one.active == 1 && two.active == 0, "{one:?}, {two:?}");
    let all = one.inactive + two.inactive + 1;
    ensure!(all == u32::from(records), "{one:?}, {two:?}");
    Ok(())
}
