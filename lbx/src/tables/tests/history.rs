//! Random histories.

use std::num::NonZeroU8;

use proptest::prelude::*;

use super::signals::{DATA, FINISH, ODD, OPEN, RESET};
use super::{
    cluster::{Change, SERVERS, SERVICES, SORRY},
    model::{During, Packet, Step},
};
use crate::desired::{OnFailure, Scheduler, ServerState};

/// Clients of each service.
const CLIENTS: u8 = 3;

/// So many cases, unless the environment (PROPTEST_CASES) asks for another number.
pub fn cases(cases: u32) -> ProptestConfig {
    let mut config = ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    config
}

pub fn schedulers() -> impl Strategy<Value = [Scheduler; SERVICES]> {
    [scheduler(), scheduler(), scheduler()]
}

pub fn history() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..100)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => packet().prop_map(Step::Packet),
        3 => (prop::collection::vec(change(), 0..3), during())
            .prop_map(|(changes, during)| Step::Plan { changes, during }),
        3 => (prop_oneof![4 => Just(0), 1 => Just(1)], during()).prop_map(|(late, during)| Step::Age { late, during }),
        4 => prop_oneof![3 => 1..4u32, 2 => 4..16u32, 1 => 16..40u32].prop_map(Step::Wait),
    ]
}

fn during() -> impl Strategy<Value = During> {
    let rarely = || prop_oneof![9 => Just(None), 1 => any::<u8>().prop_map(Some)];
    (prop::collection::vec((any::<u8>(), packet()), 0..4), rarely(), rarely())
        .prop_map(|(packets, slow, killed)| During { packets, slow, killed })
}

fn packet() -> impl Strategy<Value = Packet> {
    let signal = prop_oneof![
        5 => Just(OPEN),
        9 => Just(DATA),
        3 => Just(FINISH),
        1 => Just(RESET),
        1 => Just(ODD),
    ];
    (0..SERVICES, 0..CLIENTS, signal, 0..4u8).prop_map(|(service, client, signal, held)| Packet {
        service,
        client,
        signal,
        held,
    })
}

fn change() -> impl Strategy<Value = Change> {
    let service = || 0..SERVICES;
    let server = || 0..SERVERS;
    let any_server = || 0..=SORRY;
    prop_oneof![
        6 => (service(), server(), 0..4u16).prop_map(|(service, server, weight)| Change::Weight(service, server, weight)),
        3 => (service(), server()).prop_map(|(service, server)| Change::Remove(service, server)),
        3 => (service(), scheduler()).prop_map(|(service, scheduler)| Change::Scheduler(service, scheduler)),
        1 => service().prop_map(Change::Toggle),
        1 => service().prop_map(Change::Reverse),
        3 => any_server().prop_map(Change::Lose),
        4 => (any_server(), 0..2u8).prop_map(|(server, nic)| Change::Answer(server, nic)),
        1 => (0..2usize).prop_map(Change::Timeouts),
        10 => (service(), server(), state()).prop_map(|(service, server, state)| Change::ServerState(service, server, state)),
        2 => (service(), on_failure()).prop_map(|(service, on_failure)| Change::OnFailure(service, on_failure)),
        2 => (service(), prop_oneof![Just(None), (1..30u32).prop_map(Some)])
            .prop_map(|(service, seconds)| Change::DrainTimeout(service, seconds)),
        1 => service().prop_map(Change::Sorry),
        1 => service().prop_map(Change::Fallback),
        1 => service().prop_map(Change::Await),
    ]
}

fn on_failure() -> impl Strategy<Value = OnFailure> {
    prop_oneof![Just(OnFailure::Rehash), Just(OnFailure::Keep), Just(OnFailure::Drop)]
}

fn state() -> impl Strategy<Value = ServerState> {
    prop_oneof![
        5 => Just(ServerState::Up),
        1 => (1..100u8).prop_map(|part| NonZeroU8::new(part).map_or(ServerState::Up, ServerState::SlowStart)),
        1 => Just(ServerState::Draining),
        4 => on_failure().prop_map(ServerState::Down),
    ]
}

fn scheduler() -> impl Strategy<Value = Scheduler> {
    prop_oneof![
        1 => Just(Scheduler::Rr),
        1 => Just(Scheduler::Wrr),
        2 => Just(Scheduler::Maglev),
    ]
}
