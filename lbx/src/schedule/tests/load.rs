use std::cmp::{Ordering, Reverse};

use lbx_common::{
    flow::{CLOSED, CLOSING, EMPTY, ESTABLISHED, HALF_OPEN},
    load::{BackendLoad, increment_of_state},
    service::scheduler,
};
use proptest::prelude::*;

use super::{candidates, walk};
use crate::{desired::Scheduler, schedule::ring};

const SCHEDULERS: [Scheduler; 6] = [
    Scheduler::Lc,
    Scheduler::Wlc,
    Scheduler::Sed,
    Scheduler::Nq,
    Scheduler::Fo,
    Scheduler::Ovf,
];

/// A real server of the model.
#[derive(Clone, Copy, Debug)]
struct Server {
    place: usize,
    weight: u128,
    active: u128,
    inactive: u128,
}

/// Less of `a` for the weight than of `b`.
fn by_weight((a, x): (u128, &Server), (b, y): (u128, &Server)) -> Ordering {
    (a * y.weight).cmp(&(b * x.weight))
}

/// Whom a scheduler is to take: those it may take, sorted by what it goes by, the first of the file among equals.
fn expected(scheduler: Scheduler, servers: &[Server]) -> Option<usize> {
    let all = |server: &Server| server.active * 256 + server.inactive;
    let delay = |server: &Server| server.active + 1;
    let mut servers = servers.to_vec();
    match scheduler {
        Scheduler::Lc => servers.sort_by_key(all),
        Scheduler::Wlc => servers.sort_by(|a, b| by_weight((all(a), a), (all(b), b))),
        Scheduler::Sed => servers.sort_by(|a, b| by_weight((delay(a), a), (delay(b), b))),
        Scheduler::Nq if servers.iter().any(|server| server.active == 0) => {
            servers.retain(|server| server.active == 0);
        }
        Scheduler::Nq => return expected(Scheduler::Sed, &servers),
        Scheduler::Fo => servers.sort_by_key(|server| Reverse(server.weight)),
        Scheduler::Ovf => {
            servers.retain(|server| server.active <= server.weight);
            return expected(Scheduler::Fo, &servers);
        }
        other => panic!("{other} does not go by load"),
    }
    servers.first().map(|server| server.place)
}

/// What becomes of a connection: one more, or one of those there are goes on to its next state.
#[derive(Clone, Copy, Debug)]
enum Step {
    Begin,
    GoOn(prop::sample::Index),
    Fail(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Begin),
        4 => any::<prop::sample::Index>().prop_map(Step::GoOn),
        1 => any::<prop::sample::Index>().prop_map(Step::Fail),
    ]
}

fn next(state: u8) -> u8 {
    match state {
        HALF_OPEN => ESTABLISHED,
        ESTABLISHED => CLOSING,
        _ => EMPTY,
    }
}

/// The words as the program keeps them, and connections (place, state) as they are.
struct World {
    words: Vec<u64>,
    connections: Vec<(usize, u8)>,
}

impl World {
    fn change(&mut self, connection: usize, state: u8) {
        let (place, before) = self.connections[connection];
        let difference = increment_of_state(state).wrapping_sub(increment_of_state(before));
        self.words[place] = self.words[place].wrapping_add(difference);
        self.connections[connection].1 = state;
        self.connections.retain(|(_, state)| *state != EMPTY);
    }

    fn servers(&self, weights: &[u16]) -> Vec<Server> {
        let count = |place: usize, active: bool| {
            let is = |(at, state): &&(usize, u8)| *at == place && (*state == ESTABLISHED) == active;
            self.connections.iter().filter(is).count() as u128
        };
        let server = |(place, weight): (usize, &u16)| Server {
            place,
            weight: (*weight).into(),
            active: count(place, true),
            inactive: count(place, false),
        };
        weights.iter().enumerate().map(server).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_connection_goes_where_the_model_says(
        scheduler in prop::sample::select(&SCHEDULERS[..]),
        weights in prop::collection::vec(1..6u16, 1..7),
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let ring = ring::ring_for_scheduler(scheduler, &candidates(&weights));
        let mut world = World { words: vec![0; weights.len()], connections: Vec::new() };
        for step in steps {
            match step {
                Step::Begin => {
                    let loads: Vec<_> = world.words.iter().copied().map(BackendLoad::from_word).collect();
                    let chosen = walk(scheduler, &ring, &loads).map(usize::from);
                    prop_assert_eq!(chosen, expected(scheduler, &world.servers(&weights)));
                    if let Some(place) = chosen {
                        world.connections.push((place, EMPTY));
                        world.change(world.connections.len() - 1, HALF_OPEN);
                    }
                }
                Step::GoOn(index) if !world.connections.is_empty() => {
                    let connection = index.index(world.connections.len());
                    world.change(connection, next(world.connections[connection].1));
                }
                Step::Fail(index) if !world.connections.is_empty() => {
                    world.change(index.index(world.connections.len()), CLOSED);
                }
                Step::GoOn(_) | Step::Fail(_) => {}
            }
        }
    }

    #[test]
    fn great_loads_and_weights_are_compared_exactly(
        scheduler in prop::sample::select(&SCHEDULERS[..]),
        servers in prop::collection::vec((1..=u16::MAX, 0..=i32::MAX as u32, 0..=i32::MAX as u32), 1..9),
    ) {
        let weights: Vec<_> = servers.iter().map(|server| server.0).collect();
        let loads: Vec<_> = servers.iter().map(|&(_, active, inactive)| BackendLoad { active, inactive }).collect();
        let model: Vec<_> = servers
            .iter()
            .enumerate()
            .map(|(place, &(weight, active, inactive))| Server {
                place,
                weight: weight.into(),
                active: active.into(),
                inactive: inactive.into(),
            })
            .collect();
        let chosen = walk(scheduler, &ring::ring_for_scheduler(scheduler, &candidates(&weights)), &loads);
        prop_assert_eq!(chosen.map(usize::from), expected(scheduler, &model));
    }
}

#[test]
fn the_codes_are_those_the_program_knows() {
    let codes = [
        scheduler::RR,
        scheduler::WRR,
        scheduler::MAGLEV,
        scheduler::LC,
        scheduler::WLC,
        scheduler::SED,
        scheduler::NQ,
        scheduler::SH,
        scheduler::MH,
        scheduler::FO,
        scheduler::OVF,
        scheduler::DH,
        scheduler::P2C,
    ];
    assert_eq!(Scheduler::ALL.map(|scheduler| scheduler as u8), codes);
}

/// Connections that nobody ends: how many each has after so many.
fn filled(scheduler: Scheduler, weights: &[u16], connections: usize) -> Vec<u32> {
    let ring = ring::ring_for_scheduler(scheduler, &candidates(weights));
    let mut loads = vec![BackendLoad::default(); weights.len()];
    for _ in 0..connections {
        if let Some(index) = walk(scheduler, &ring, &loads) {
            loads[usize::from(index)].active += 1;
        }
    }
    loads.iter().map(|load| load.active).collect()
}

#[test]
fn connections_that_stay_fill_up_as_the_name_says() {
    assert_eq!(filled(Scheduler::Lc, &[1, 2, 7], 30), [10, 10, 10]);
    assert_eq!(filled(Scheduler::Wlc, &[1, 2, 7], 30), [3, 6, 21]);
    assert_eq!(
        filled(Scheduler::Sed, &[1, 10], 9),
        [0, 9],
        "nine are served at once by the fast one"
    );
    assert_eq!(filled(Scheduler::Nq, &[1, 10], 9), [1, 8]);
    assert_eq!(filled(Scheduler::Fo, &[1, 2, 7], 30), [0, 0, 30]);
    assert_eq!(
        filled(Scheduler::Ovf, &[5, 10, 5], 14),
        [3, 11, 0],
        "full is one above the weight"
    );
    assert_eq!(
        filled(Scheduler::Ovf, &[5, 10, 5], 30),
        [6, 11, 6],
        "then nobody takes any"
    );
}
