//! Who gets what is too much for those who are full.

use anyhow::Result;
use lbx::desired::{HashOptions, Persistence, Scheduler, Service};
use lbx_common::drops::DropReason::NoBackend;

use super::{HTTP, limited, owned, story};
use crate::{
    cluster::{Flow, flow, server_of},
    director::{Director, To},
    harness::{Fixture, story_of},
    outcome::Counts::{Continues, Ends},
};

/// The number of the sorry server.
const SORRY: u8 = 4;

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    [sorry(), hashed()].into_iter().flatten().collect()
}

fn with_sorry(service: Service) -> Service {
    Service {
        sorry_server: Some(server_of(service.virtual_service.vip, SORRY)),
        ..service
    }
}

fn sorry() -> Vec<Fixture> {
    use Scheduler::{Rr, Wlc};
    let persistent = || Service {
        persistence: Some(Persistence {
            timeout_seconds: 300,
            prefix: 32,
            persist_while_draining: true,
        }),
        ..with_sorry(limited(HTTP, Rr, 1, 0))
    };
    vec![
        story(
            "when all are full the sorry server gets what is new",
            || with_sorry(limited(HTTP, Rr, 1, 0)),
            apologise,
        ),
        story("with wlc too", || with_sorry(limited(HTTP, Wlc, 1, 0)), apologise),
        story(
            "when all drain the sorry server gets what is new",
            || with_sorry(limited(HTTP, Rr, 0, 0)),
            all_drain,
        ),
        story(
            "when all are lost the sorry server gets everything",
            || with_sorry(limited(HTTP, Rr, 0, 0)),
            all_lost,
        ),
        story(
            "while anybody else can, the sorry server gets nothing",
            || with_sorry(limited(HTTP, Wlc, 0, 0)),
            unneeded,
        ),
        story(
            "a sorry server that is lost helps nobody",
            || with_sorry(limited(HTTP, Rr, 1, 0)),
            lost,
        ),
        story_of(
            "a client that the sorry server got is not kept there",
            move || vec![persistent()],
            not_kept,
        ),
    ]
}

fn apologise(director: &mut Director) -> Result<()> {
    director.opens_in_turn(HTTP, 40_000.., &[1, 2, SORRY, SORRY, SORRY])?;
    let sorry = flow(HTTP, 40_002);
    let old = flow(HTTP, 40_000);
    director.sends(old, &old.rst(), To::Rs(1), Ends)?;
    director.pass(u32::from(director.loaded(HTTP).policy.timeouts.closed) + 1)?;
    director.age()?;
    director.sends(sorry, &sorry.data(), To::Rs(SORRY), Continues)?;
    director.opens_in_turn(HTTP, 41_000.., &[1, SORRY])
}

fn all_drain(director: &mut Director) -> Result<()> {
    let old = flow(HTTP, 40_000);
    director.opens(old, To::Rs(1))?;
    for number in [1, 2] {
        director.weigh(HTTP, number, 0)?;
    }
    director.opens_in_turn(HTTP, 41_000.., &[SORRY, SORRY])?;
    director.sends(old, &old.data(), To::Rs(1), Continues)?;
    director.weigh(HTTP, 2, 1)?;
    director.opens_in_turn(HTTP, 42_000.., &[2, 2])?;
    let sorry = flow(HTTP, 41_000);
    director.sends(sorry, &sorry.data(), To::Rs(SORRY), Continues)
}

fn all_lost(director: &mut Director) -> Result<()> {
    let old = flow(HTTP, 40_000);
    director.opens(old, To::Rs(1))?;
    for number in [1, 2] {
        director.lose(HTTP, number)?;
    }
    director.opens_in_turn(HTTP, 41_000.., &[SORRY, SORRY])?;
    // It will answer with a RST.
    director.sends(old, &old.data(), To::Rs(SORRY), Continues)?;
    director.find(HTTP, 1)?;
    director.opens_in_turn(HTTP, 42_000.., &[1, 1])
}

fn unneeded(director: &mut Director) -> Result<()> {
    director.lose(HTTP, 1)?;
    director.opens_in_turn(HTTP, 40_000.., &[2, 2, 2])
}

fn lost(director: &mut Director) -> Result<()> {
    director.lose(HTTP, SORRY)?;
    director.opens_in_turn(HTTP, 40_000.., &[1, 2])?;
    director.drops(&flow(HTTP, 41_000).syn(), NoBackend)
}

fn not_kept(director: &mut Director) -> Result<()> {
    let client = [192, 168, 1, 11];
    director.opens(flow(HTTP, 40_000), To::Rs(1))?;
    director.opens(flow(HTTP, 40_000).from([192, 168, 1, 12]), To::Rs(2))?;
    director.opens(flow(HTTP, 40_000).from(client), To::Rs(SORRY))?;
    let old = flow(HTTP, 40_000);
    director.sends(old, &old.rst(), To::Rs(1), Ends)?;
    director.pass(u32::from(director.loaded(HTTP).policy.timeouts.closed) + 1)?;
    director.age()?;
    director.opens(flow(HTTP, 40_001).from(client), To::Rs(1))
}

/// A hash leads to one real server: with fallback another takes over when that is full.
fn hashed() -> Vec<Fixture> {
    let hashing = |scheduler, fallback| {
        move || Service {
            hash_options: HashOptions {
                include_port: true,
                fallback,
            },
            ..limited(HTTP, scheduler, 1, 0)
        }
    };
    vec![
        story(
            "mh with fallback goes on with another when one is full",
            hashing(Scheduler::Mh, true),
            fallback,
        ),
        story(
            "sh with fallback goes on with another when one is full",
            hashing(Scheduler::Sh, true),
            fallback,
        ),
        story(
            "maglev goes on with another when one is full",
            hashing(Scheduler::Maglev, true),
            fallback,
        ),
        story(
            "mh without fallback drops what is for one that is full",
            hashing(Scheduler::Mh, false),
            no_fallback,
        ),
        story(
            "sh without fallback drops what is for one that is full",
            hashing(Scheduler::Sh, false),
            no_fallback,
        ),
        story(
            "mh without fallback leaves what is for one that is full to the sorry server",
            move || with_sorry(hashing(Scheduler::Mh, false)()),
            sorry_instead,
        ),
    ]
}

/// Three flows that hash to rs1.
fn of_rs1(director: &Director) -> [Flow; 3] {
    let mut ports = 40_000..;
    std::array::from_fn(|_| {
        loop {
            let flow = flow(HTTP, ports.next().expect("there are enough ports"));
            if owned(director, flow, 1) {
                break flow;
            }
        }
    })
}

fn fallback(director: &mut Director) -> Result<()> {
    let [one, two, three] = of_rs1(director);
    director.opens(one, To::Rs(1))?;
    director.opens(two, To::Rs(2))?;
    director.sends(one, &one.data(), To::Rs(1), Continues)?;
    director.sends(two, &two.data(), To::Rs(2), Continues)?;
    director.drops(&three.syn(), NoBackend)
}

fn no_fallback(director: &mut Director) -> Result<()> {
    let [one, two, _] = of_rs1(director);
    let other = director.flow_of(HTTP, 2, true)?;
    director.opens(one, To::Rs(1))?;
    director.drops(&two.syn(), NoBackend)?;
    director.opens(other, To::Rs(2))?;
    director.sends(one, &one.data(), To::Rs(1), Continues)
}

fn sorry_instead(director: &mut Director) -> Result<()> {
    let [one, two, _] = of_rs1(director);
    director.opens(one, To::Rs(1))?;
    director.opens(two, To::Rs(SORRY))?;
    director.sends(two, &two.data(), To::Rs(SORRY), Continues)
}
