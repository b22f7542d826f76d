//! Real servers that fail their checks: what becomes of the flows they have, and who gets new ones.

use anyhow::{Result, ensure};
use lbx::desired::{OnFailure, Persistence, Scheduler, ServerState, Service, VirtualService};
use lbx_common::{drops::DropReason, slot};
use lbx_tests::lab::VIP;

use crate::{
    cluster::{Flow, balanced, flow, tcp, udp},
    director::{Director, To},
    harness::{Fixture, story_of},
    outcome::Counts::{Continues, Ends, Opens},
};

/// rr.
const TURNS: VirtualService = tcp(VIP, 80);
/// maglev.
const HASHED: VirtualService = tcp(VIP, 443);
/// maglev, and the slots of one that is down lead nowhere.
const STIFF: VirtualService = tcp(VIP, 444);
/// rr, and clients persist.
const PERSISTENT: VirtualService = tcp(VIP, 8_080);
/// rr, with rs4 as the sorry server.
const SORRY: VirtualService = tcp(VIP, 81);
/// maglev, likewise.
const SORRY_HASHED: VirtualService = tcp(VIP, 445);
/// rr.
const DATAGRAMS: VirtualService = udp(VIP, 53);

const REHASH: ServerState = ServerState::Down(OnFailure::Rehash);
const KEEP: ServerState = ServerState::Down(OnFailure::Keep);
const DROP: ServerState = ServerState::Down(OnFailure::Drop);

fn cluster() -> Vec<Service> {
    let of = |id, scheduler| balanced(id, scheduler, &[(1, 1), (2, 1), (3, 1)]);
    let mut stiff = of(STIFF, Scheduler::Maglev);
    stiff.hash_options.fallback = false;
    let mut persistent = of(PERSISTENT, Scheduler::Rr);
    persistent.persistence = Some(Persistence {
        timeout_seconds: 300,
        prefix: 32,
        persist_while_draining: true,
    });
    let sorry = |id, scheduler| Service {
        sorry_server: Some(lbx_tests::lab::rip(4).into()),
        ..of(id, scheduler)
    };
    vec![
        of(TURNS, Scheduler::Rr),
        of(HASHED, Scheduler::Maglev),
        stiff,
        persistent,
        sorry(SORRY, Scheduler::Rr),
        sorry(SORRY_HASHED, Scheduler::Maglev),
        of(DATAGRAMS, Scheduler::Rr),
    ]
}

fn story(says: &'static str, plays: fn(&mut Director) -> Result<()>) -> Fixture {
    story_of(says, cluster, plays)
}

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    vec![
        story("rehash: recorded flows go elsewhere and stay there", rehash_recorded),
        story("rehash: flows without record follow the hash", rehash_hashed),
        story("keep: recorded flows stay, new ones go elsewhere", keep_recorded),
        story("keep: flows without record stay, new ones go elsewhere", keep_hashed),
        story(
            "keep: a client that persists goes elsewhere with new connections",
            keep_persistent,
        ),
        story("drop: recorded flows are dropped until it is back", drop_recorded),
        story("drop: flows without record are dropped until it is back", drop_hashed),
        story(
            "drop: a client that persists goes elsewhere with new connections",
            drop_persistent,
        ),
        story("drop: datagrams of a flow are dropped until it is back", drop_datagrams),
        story(
            "without fallback nobody takes over what hashes to one that is down",
            stiff,
        ),
        story("when all are down the sorry server has new connections", all_down),
        story("where too few are up those that are keep what they have", resting),
    ]
}

/// Checks that new connections go to others than the n-th real server.
fn is_avoided(director: &Director, service: VirtualService, number: u8) -> Result<()> {
    for port in 50_000..50_012 {
        let new = flow(service, port);
        ensure!(director.choice(new, &new.syn())? != number, "it is down");
    }
    Ok(())
}

/// Checks that some new connections go to the n-th real server.
fn is_chosen(director: &Director, service: VirtualService, number: u8) -> Result<()> {
    for port in 51_000..51_100 {
        let new = flow(service, port);
        if director.choice(new, &new.syn())? == number {
            return Ok(());
        }
    }
    anyhow::bail!("it is up and gets nothing")
}

/// A flow that the second real server has, of a service that goes by turns.
fn recorded(director: &Director, service: VirtualService) -> Result<Flow> {
    let (first, second) = (flow(service, 40_000), flow(service, 40_001).from([10, 1, 2, 3]));
    director.opens(first, To::Rs(1))?;
    director.opens(second, To::Rs(2))?;
    Ok(second)
}

fn rehash_recorded(director: &mut Director) -> Result<()> {
    let old = recorded(director, TURNS)?;
    director.stand(TURNS, 2, REHASH)?;
    let other = director.choice(old, &old.data())?;
    ensure!(other != 2, "it is down");
    is_avoided(director, TURNS, 2)?;
    director.stand(TURNS, 2, ServerState::Up)?;
    director.sends(old, &old.data(), To::Rs(other), Continues)?;
    is_chosen(director, TURNS, 2)
}

fn rehash_hashed(director: &mut Director) -> Result<()> {
    let old = director.flow_of(HASHED, 2, true)?;
    director.stand(HASHED, 2, REHASH)?;
    let other = director.choice(old, &old.data())?;
    ensure!(other != 2, "it is down");
    director.stand(HASHED, 2, ServerState::Up)?;
    director.sends(old, &old.data(), To::Rs(other), Continues)
}

fn keep_recorded(director: &mut Director) -> Result<()> {
    let old = recorded(director, TURNS)?;
    director.stand(TURNS, 2, KEEP)?;
    director.sends(old, &old.data(), To::Rs(2), Continues)?;
    is_avoided(director, TURNS, 2)?;
    director.stand(TURNS, 2, ServerState::Up)?;
    director.sends(old, &old.fin(), To::Rs(2), Ends)?;
    is_chosen(director, TURNS, 2)
}

fn keep_hashed(director: &mut Director) -> Result<()> {
    let old = director.flow_of(HASHED, 2, true)?;
    director.stand(HASHED, 2, KEEP)?;
    director.sends(old, &old.data(), To::Rs(2), Continues)?;
    is_avoided(director, HASHED, 2)
}

fn keep_persistent(director: &mut Director) -> Result<()> {
    let old = recorded(director, PERSISTENT)?;
    director.stand(PERSISTENT, 2, KEEP)?;
    director.sends(old, &old.data(), To::Rs(2), Continues)?;
    let next = flow(PERSISTENT, 40_002).from([10, 1, 2, 3]);
    let other = director.choice(next, &next.syn())?;
    ensure!(other != 2, "it is down");
    director.stand(PERSISTENT, 2, ServerState::Up)?;
    let last = flow(PERSISTENT, 40_003).from([10, 1, 2, 3]);
    director.opens(last, To::Rs(other))
}

fn drop_recorded(director: &mut Director) -> Result<()> {
    let old = recorded(director, TURNS)?;
    director.stand(TURNS, 2, DROP)?;
    director.drops(&old.data(), DropReason::NoBackend)?;
    director.drops(&old.ack(), DropReason::NoBackend)?;
    is_avoided(director, TURNS, 2)?;
    director.stand(TURNS, 2, ServerState::Up)?;
    director.sends(old, &old.data(), To::Rs(2), Continues)?;
    is_chosen(director, TURNS, 2)
}

fn drop_hashed(director: &mut Director) -> Result<()> {
    let old = director.flow_of(HASHED, 2, true)?;
    director.stand(HASHED, 2, DROP)?;
    director.has_records(0)?;
    director.drops(&old.data(), DropReason::NoBackend)?;
    // So it is known whose it is when the slot has another owner.
    director.has_records(1)?;
    is_avoided(director, HASHED, 2)?;
    director.pass(600)?;
    director.drops(&old.data(), DropReason::NoBackend)?;
    director.pass(600)?;
    director.age()?;
    ensure!(
        director.slot(old).owner == director.slot(old).current,
        "its window has closed"
    );
    director.drops(&old.data(), DropReason::NoBackend)?;
    director.stand(HASHED, 2, ServerState::Up)?;
    director.sends(old, &old.data(), To::Rs(2), Continues)
}

fn drop_persistent(director: &mut Director) -> Result<()> {
    let old = recorded(director, PERSISTENT)?;
    director.stand(PERSISTENT, 2, DROP)?;
    director.drops(&old.data(), DropReason::NoBackend)?;
    let next = flow(PERSISTENT, 40_002).from([10, 1, 2, 3]);
    ensure!(director.choice(next, &next.syn())? != 2, "it is down");
    director.stand(PERSISTENT, 2, ServerState::Up)?;
    director.sends(old, &old.data(), To::Rs(2), Continues)
}

fn drop_datagrams(director: &mut Director) -> Result<()> {
    let (first, old) = (flow(DATAGRAMS, 40_000), flow(DATAGRAMS, 40_001));
    director.sends(first, &first.datagram(), To::Rs(1), Opens)?;
    director.sends(old, &old.datagram(), To::Rs(2), Opens)?;
    director.stand(DATAGRAMS, 2, DROP)?;
    director.drops(&old.datagram(), DropReason::NoBackend)?;
    director.stand(DATAGRAMS, 2, ServerState::Up)?;
    director.sends(old, &old.datagram(), To::Rs(2), Continues)
}

fn stiff(director: &mut Director) -> Result<()> {
    let old = director.flow_of(STIFF, 2, true)?;
    let other = director.flow_of(STIFF, 3, true)?;
    for state in [KEEP, DROP, REHASH] {
        director.stand(STIFF, 2, state)?;
        ensure!(director.slot(old).current == slot::NO_BACKEND, "nobody takes over");
        director.drops(&old.syn(), DropReason::NoBackend)?;
        director.sends(other, &other.data(), To::Rs(3), Continues)?;
        director.stand(STIFF, 2, ServerState::Up)?;
        director.sends(old, &old.syn(), To::Rs(2), Opens)?;
        director.sends(old, &old.rst(), To::Rs(2), Ends)?;
    }
    Ok(())
}

fn all_down(director: &mut Director) -> Result<()> {
    for service in [SORRY, SORRY_HASHED] {
        let old = flow(service, 40_000);
        let server = director.choice(old, &old.syn())?;
        director.sends(old, &old.data(), To::Rs(server), Continues)?;
        for number in 1..=3 {
            director.stand(service, number, KEEP)?;
        }
        director.sends(old, &old.data(), To::Rs(server), Continues)?;
        director.opens(flow(service, 40_001), To::Rs(4))?;
        for number in 1..=3 {
            director.stand(service, number, DROP)?;
        }
        director.drops(&old.data(), DropReason::NoBackend)?;
        director.opens(flow(service, 40_002), To::Rs(4))?;
        for number in 1..=3 {
            director.stand(service, number, ServerState::Up)?;
        }
        director.sends(old, &old.data(), To::Rs(server), Continues)?;
        is_avoided(director, service, 4)?;
    }
    Ok(())
}

fn resting(director: &mut Director) -> Result<()> {
    let old = recorded(director, SORRY)?;
    director.stand(SORRY, 1, REHASH)?;
    director.stand(SORRY, 2, ServerState::Draining)?;
    director.stand(SORRY, 3, ServerState::Draining)?;
    director.sends(old, &old.data(), To::Rs(2), Continues)?;
    director.opens(flow(SORRY, 40_002), To::Rs(4))
}
