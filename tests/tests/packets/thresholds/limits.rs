//! Who is full, and until when.

use anyhow::Result;
use lbx::desired::{Scheduler, Service};
use lbx_common::drops::DropReason::NoBackend;

use super::{DNS, HTTP, HTTP6, limited, owned, story};
use crate::{
    cluster::{balanced, flow},
    director::{Director, To},
    harness::Fixture,
    outcome::Counts::{Continues, Ends, Opens},
};

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    [upper(), lower()].into_iter().flatten().collect()
}

fn upper() -> Vec<Fixture> {
    use Scheduler::{Fo, Rr, Wlc};
    vec![
        story(
            "whoever has as many as it may gets no more",
            || limited(HTTP, Rr, 2, 0),
            full,
        ),
        story("over IPv6 too", || limited(HTTP6, Rr, 2, 0), full6),
        story("half-open connections count", || limited(HTTP, Rr, 1, 0), half_open),
        story("flows of UDP count", || limited(DNS, Rr, 1, 0), datagrams),
        story("who is full keeps its connections", || limited(HTTP, Rr, 1, 0), kept),
        story(
            "a limit of one real server leaves the others alone",
            one_limited,
            others,
        ),
        story("wlc passes over who is full", || limited(HTTP, Wlc, 1, 0), wlc),
        story(
            "fo goes on with the next when the heaviest is full",
            || limited(HTTP, Fo, 2, 0),
            fo,
        ),
        story("another limit counts at once", || limited(HTTP, Rr, 1, 0), raised),
        story(
            "a limit that is set later counts what there is",
            || limited(HTTP, Rr, 0, 0),
            set_later,
        ),
        story(
            "a limit of a hashed service counts from then on",
            || limited(HTTP, Scheduler::Maglev, 0, 0),
            set_on_hash,
        ),
    ]
}

fn full(director: &mut Director) -> Result<()> {
    director.opens_in_turn(HTTP, 40_000.., &[1, 2, 1, 2])?;
    director.drops(&flow(HTTP, 40_010).syn(), NoBackend)?;
    director.has_records(4)
}

fn full6(director: &mut Director) -> Result<()> {
    director.opens_in_turn(HTTP6, 40_000.., &[1, 2, 1, 2])?;
    director.drops(&flow(HTTP6, 40_010).syn(), NoBackend)
}

fn half_open(director: &mut Director) -> Result<()> {
    for (port, number) in [(40_000, 1), (40_001, 2)] {
        let flow = flow(HTTP, port);
        director.sends(flow, &flow.syn(), To::Rs(number), Opens)?;
    }
    director.drops(&flow(HTTP, 40_002).syn(), NoBackend)
}

fn datagrams(director: &mut Director) -> Result<()> {
    director.sends_in_turn(DNS, 40_000.., &[1, 2], Opens)?;
    director.sends_in_turn(DNS, 40_000.., &[1, 2], Continues)?;
    director.drops(&flow(DNS, 40_002).datagram(), NoBackend)
}

fn kept(director: &mut Director) -> Result<()> {
    director.opens_in_turn(HTTP, 40_000.., &[1, 2])?;
    let old = flow(HTTP, 40_000);
    director.drops(&flow(HTTP, 40_002).syn(), NoBackend)?;
    director.sends(old, &old.syn(), To::Rs(1), Continues)?;
    director.sends(old, &old.data(), To::Rs(1), Continues)?;
    director.sends(old, &old.fin(), To::Rs(1), Ends)
}

fn one_limited() -> Service {
    let mut service = balanced(HTTP, Scheduler::Rr, &[(1, 1), (2, 1), (3, 1)]);
    service.servers[1].upper_threshold = 1;
    service
}

fn others(director: &mut Director) -> Result<()> {
    director.opens_in_turn(HTTP, 40_000.., &[1, 2, 3, 1])?;
    // Its turn is the next one's.
    director.opens_in_turn(HTTP, 41_000.., &[3, 3, 1, 3, 3])
}

fn wlc(director: &mut Director) -> Result<()> {
    director.opens(flow(HTTP, 40_000), To::Rs(1))?;
    director.weigh(HTTP, 1, 100)?;
    director.opens(flow(HTTP, 40_001), To::Rs(2))?;
    director.drops(&flow(HTTP, 40_002).syn(), NoBackend)
}

fn fo(director: &mut Director) -> Result<()> {
    director.opens_in_turn(HTTP, 40_000.., &[1, 1, 2, 2])?;
    director.drops(&flow(HTTP, 41_000).syn(), NoBackend)
}

fn raised(director: &mut Director) -> Result<()> {
    director.opens_in_turn(HTTP, 40_000.., &[1, 2])?;
    director.drops(&flow(HTTP, 40_002).syn(), NoBackend)?;
    limit(director, 1, 4)?;
    director.opens_in_turn(HTTP, 41_000.., &[1])?;
    limit(director, 1, 0)?;
    director.opens_in_turn(HTTP, 42_000.., &[1, 1, 1, 1])
}

/// Sets the upper threshold of a real server.
fn limit(director: &mut Director, number: usize, upper: u32) -> Result<()> {
    director.service_mut(HTTP)?.servers[number - 1].upper_threshold = upper;
    director.plan()
}

fn set_later(director: &mut Director) -> Result<()> {
    director.opens_in_turn(HTTP, 40_000.., &[1, 2, 1, 2])?;
    limit(director, 1, 2)?;
    director.opens_in_turn(HTTP, 41_000.., &[2, 2, 2])
}

/// Flows without a record are not counted: IPVS would know them, lbx does as soon as they are heard of.
fn set_on_hash(director: &mut Director) -> Result<()> {
    let mut of_rs1 = (40_000..)
        .map(|port| flow(HTTP, port))
        .filter(|&flow| owned(director, flow, 1));
    let (old, new, late) = (of_rs1.next(), of_rs1.next(), of_rs1.next());
    let (Some(old), Some(new), Some(late)) = (old, new, late) else {
        unreachable!("ports do not end")
    };
    drop(of_rs1);
    director.opens(old, To::Rs(1))?;
    limit(director, 1, 2)?;
    director.has_load(HTTP, 1, 0, 0)?;
    director.sends(old, &old.data(), To::Rs(1), Continues)?;
    director.has_load(HTTP, 1, 1, 0)?;
    director.opens(new, To::Rs(1))?;
    director.opens(late, To::Rs(2))
}

fn lower() -> Vec<Fixture> {
    let of = |says, upper, lower, plays| {
        let service = move || Service {
            servers: limited(HTTP, Scheduler::Rr, upper, lower).servers[..1].to_vec(),
            ..limited(HTTP, Scheduler::Rr, upper, lower)
        };
        story(says, service, plays)
    };
    vec![
        of(
            "who was full gets more when it has fewer than the lower threshold",
            4,
            2,
            lower_reached,
        ),
        of(
            "without a lower threshold that is three quarters of the upper one",
            4,
            0,
            three_quarters,
        ),
        of(
            "who reaches the upper threshold is full even if nobody comes until it has fewer",
            4,
            2,
            unasked,
        ),
        of(
            "with a limit of one the next may come when that is gone",
            1,
            0,
            one_at_a_time,
        ),
    ]
}

/// Opens connections at rs1 from so many ports.
fn fill(director: &Director, ports: std::ops::Range<u16>) -> Result<()> {
    ports
        .into_iter()
        .try_for_each(|port| director.opens(flow(HTTP, port), To::Rs(1)))
}

/// Ends the connection of a port and forgets it.
fn end(director: &mut Director, port: u16) -> Result<()> {
    let flow = flow(HTTP, port);
    director.sends(flow, &flow.rst(), To::Rs(1), Ends)?;
    let closed = director.loaded(HTTP).policy.timeouts.closed;
    director.pass(u32::from(closed) + 1)?;
    director.age()
}

fn lower_reached(director: &mut Director) -> Result<()> {
    fill(director, 40_000..40_004)?;
    let next = flow(HTTP, 41_000);
    director.drops(&next.syn(), NoBackend)?;
    for port in [40_000, 40_001] {
        end(director, port)?;
        director.drops(&next.syn(), NoBackend)?;
    }
    end(director, 40_002)?;
    // One is left: three more may come.
    fill(director, 41_000..41_003)?;
    director.drops(&flow(HTTP, 42_000).syn(), NoBackend)
}

fn three_quarters(director: &mut Director) -> Result<()> {
    fill(director, 40_000..40_004)?;
    let next = flow(HTTP, 41_000);
    director.drops(&next.syn(), NoBackend)?;
    end(director, 40_000)?;
    director.drops(&next.syn(), NoBackend)?;
    end(director, 40_001)?;
    fill(director, 41_000..41_002)?;
    director.drops(&flow(HTTP, 42_000).syn(), NoBackend)
}

fn unasked(director: &mut Director) -> Result<()> {
    fill(director, 40_000..40_004)?;
    end(director, 40_000)?;
    director.drops(&flow(HTTP, 41_000).syn(), NoBackend)
}

fn one_at_a_time(director: &mut Director) -> Result<()> {
    for port in 40_000..40_003 {
        fill(director, port..port + 1)?;
        director.drops(&flow(HTTP, 41_000).syn(), NoBackend)?;
        end(director, port)?;
    }
    Ok(())
}
