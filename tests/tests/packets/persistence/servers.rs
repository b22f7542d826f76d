//! What becomes of clients when real servers change, and when there is no room to remember them.

use anyhow::{Result, ensure};
use lbx::desired::{Scheduler, TableSizes};
use lbx_common::flow::EVICTION_GRACE_TICKS;

use super::{CLIENT, WEB, cluster, from, persistence, story};
use crate::{
    cluster::{LO, SIZES},
    director::{Director, To},
    harness::{Fixture, free_story, story_of},
    outcome::Counts::{Continues, Opens},
};

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    [servers(), room()].into_iter().flatten().collect()
}

fn servers() -> Vec<Fixture> {
    let leaving = || {
        let mut services = cluster();
        for service in &mut services {
            if let Some(persistence) = &mut service.persistence {
                persistence.persist_while_draining = false;
            }
        }
        services
    };
    vec![
        story("clients stay with a real server that drains", kept),
        story_of(
            "where it is so wanted clients leave a real server that drains",
            leaving,
            left,
        ),
        story(
            "clients of a real server that fails go to another, and stay there",
            failed,
        ),
        story(
            "clients leave a real server that is taken out of the file, and their connections stay",
            taken_out,
        ),
        story("clients stay when the scheduler changes", rescheduled),
        story("clients are remembered from when the service persists on", from_now_on),
        story("a real server that is full keeps its clients", full),
    ]
}

fn kept(director: &mut Director) -> Result<()> {
    director.opens(from(CLIENT, WEB, 40_000), To::Rs(1))?;
    director.weigh(WEB, 1, 0)?;
    director.opens(from(CLIENT, WEB, 40_001), To::Rs(1))?;
    for last in 1..5 {
        let other = from([10, 0, 0, last], WEB, 40_000);
        ensure!(director.choice(other, &other.syn())? != 1, "it drains");
    }
    Ok(())
}

fn left(director: &mut Director) -> Result<()> {
    let old = from(CLIENT, WEB, 40_000);
    director.opens(old, To::Rs(1))?;
    director.weigh(WEB, 1, 0)?;
    director.sends(old, &old.data(), To::Rs(1), Continues)?;
    let next = from(CLIENT, WEB, 40_001);
    let other = director.choice(next, &next.syn())?;
    ensure!(other != 1, "it drains");
    // There it stays, when the first is back too.
    director.weigh(WEB, 1, 1)?;
    director.opens(from(CLIENT, WEB, 40_002), To::Rs(other))?;
    director.sends(old, &old.data(), To::Rs(1), Continues)
}

fn failed(director: &mut Director) -> Result<()> {
    director.opens(from(CLIENT, WEB, 40_000), To::Rs(1))?;
    director.lose(WEB, 1)?;
    let next = from(CLIENT, WEB, 40_001);
    let other = director.choice(next, &next.syn())?;
    director.sends(next, &next.ack(), To::Rs(other), Continues)?;
    director.opens(from(CLIENT, WEB, 40_002), To::Rs(other))?;
    director.find(WEB, 1)?;
    director.opens(from(CLIENT, WEB, 40_003), To::Rs(other))
}

fn taken_out(director: &mut Director) -> Result<()> {
    let old = from(CLIENT, WEB, 40_000);
    director.opens(old, To::Rs(1))?;
    let first = director.service_mut(WEB)?.servers.remove(0);
    director.plan()?;
    director.age()?;
    director.sends(old, &old.data(), To::Rs(1), Continues)?;
    let next = from(CLIENT, WEB, 40_001);
    let other = director.choice(next, &next.syn())?;
    ensure!(other != 1, "the file no longer names it");
    director.service_mut(WEB)?.servers.insert(0, first);
    director.plan()?;
    director.opens(from(CLIENT, WEB, 40_002), To::Rs(other))?;
    director.sends(old, &old.data(), To::Rs(1), Continues)
}

fn rescheduled(director: &mut Director) -> Result<()> {
    director.opens(from(CLIENT, WEB, 40_000), To::Rs(1))?;
    for scheduler in [Scheduler::Wlc, Scheduler::Maglev, Scheduler::Rr] {
        director.reschedule(WEB, scheduler)?;
        for port in 41_000..41_003 {
            let next = from(CLIENT, WEB, port + 100 * scheduler as u16);
            director.opens(next, To::Rs(1))?;
        }
    }
    Ok(())
}

fn from_now_on(director: &mut Director) -> Result<()> {
    director.service_mut(WEB)?.persistence = None;
    director.plan()?;
    director.opens(from(CLIENT, WEB, 40_000), To::Rs(1))?;
    director.opens(from(CLIENT, WEB, 40_001), To::Rs(2))?;
    director.service_mut(WEB)?.persistence = Some(persistence(32));
    director.plan()?;
    director.opens(from(CLIENT, WEB, 40_002), To::Rs(3))?;
    director.opens(from(CLIENT, WEB, 40_003), To::Rs(3))
}

/// As in IPVS: what is bound to it comes anyway.
fn full(director: &mut Director) -> Result<()> {
    director.service_mut(WEB)?.servers[0].upper_threshold = 1;
    director.plan()?;
    director.opens(from(CLIENT, WEB, 40_000), To::Rs(1))?;
    director.opens(from(CLIENT, WEB, 40_001), To::Rs(1))?;
    for last in 1..5 {
        let other = from([10, 0, 0, last], WEB, 40_000);
        ensure!(director.choice(other, &other.syn())? != 1, "it is full");
    }
    Ok(())
}

/// Tables of two buckets, in which everybody can have any record.
fn room() -> Vec<Fixture> {
    let small = |says, plays: fn(&mut Director) -> Result<()>| {
        free_story(says, move || {
            plays(&mut Director::sized(TableSizes { flows4: 8, ..SIZES }, cluster())?)
        })
    };
    vec![
        small("a client who proved to be real is not displaced", not_displaced),
        small("a client who did not prove to be real is", displaced),
        small(
            "without room for a client its connections are served all the same",
            no_room,
        ),
    ]
}

/// A SYN of a client that never comes again.
fn knock(director: &Director, n: u8) -> Result<()> {
    director.run(LO, &from([10, 7, 7, n], WEB, 40_000).syn())?;
    Ok(())
}

fn not_displaced(director: &mut Director) -> Result<()> {
    director.opens(from(CLIENT, WEB, 40_000), To::Rs(1))?;
    for n in 0..40 {
        director.pass(EVICTION_GRACE_TICKS)?;
        knock(director, n)?;
    }
    director.opens(from(CLIENT, WEB, 40_001), To::Rs(1))
}

fn displaced(director: &mut Director) -> Result<()> {
    let first = from(CLIENT, WEB, 40_000);
    director.sends(first, &first.syn(), To::Rs(1), Opens)?;
    for n in 0..10 {
        director.pass(EVICTION_GRACE_TICKS)?;
        knock(director, n)?;
    }
    // Ten others have had the turns since.
    let next = from(CLIENT, WEB, 40_001);
    director.sends(next, &next.syn(), To::Rs(3), Opens)
}

fn no_room(director: &mut Director) -> Result<()> {
    for n in 0..4 {
        director.opens(from([10, 7, 7, n], WEB, 40_000), To::Rs(n % 3 + 1))?;
    }
    director.has_records(8)?;
    let flow = from(CLIENT, WEB, 40_000);
    director.sends(flow, &flow.syn(), To::Owner, Opens)?;
    director.sends(flow, &flow.data(), To::Owner, Continues)?;
    director.has_records(8)
}
