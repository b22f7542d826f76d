//! Real servers that are out of the file, by example: what their checks say, and how long they may drain.

use lbx_common::backend::{self, MacAndState};

use super::signals::{DATA, DATAGRAM, OPEN};
use super::{
    super::{
        event::TableEventKind,
        flow_policy::ticks_of_seconds,
        service::{BackendState, LoadedBackend},
    },
    cluster::{Change, SERVICES, address},
    daemon::{Daemon, unresolved},
};
use crate::desired::{
    OnFailure, Scheduler,
    Scheduler::{Maglev, Rr},
    ServerState,
};

const PORTS: std::ops::Range<u16> = 0..60;

/// The UDP service of the cluster.
const UDP: usize = 2;

const SECONDS: u32 = 40;

fn of(scheduler: Scheduler) -> Daemon {
    let mut daemon = Daemon::of([scheduler; SERVICES]);
    daemon.pass(5);
    daemon
}

/// Flows of every port, by port: whose they are.
fn flows(daemon: &mut Daemon, service: usize) -> Vec<Option<u8>> {
    let signal = if service == UDP { DATAGRAM } else { DATA };
    PORTS.map(|port| daemon.packet(service, port, signal)).collect()
}

fn connect(daemon: &mut Daemon, service: usize) -> Vec<Option<u8>> {
    if service != UDP {
        for port in PORTS {
            daemon.packet(service, port, OPEN);
        }
    }
    let servers = flows(daemon, service);
    assert!(servers.contains(&Some(1)));
    servers
}

fn down(service: usize, server: u8) -> Change {
    Change::ServerState(service, server, ServerState::Down(OnFailure::Rehash))
}

fn member(daemon: &Daemon, service: usize, server: u8) -> LoadedBackend {
    let mut members = daemon.loaded(service).backends.values();
    *members
        .find(|member| member.address == address(server))
        .expect("a backend")
}

/// The state of the second real server as packets see it.
fn state(daemon: &Daemon, service: usize) -> u8 {
    MacAndState::from_word(member(daemon, service, 1).to_backend().mac_and_state).state
}

#[test]
fn on_failure_applies_to_a_real_server_that_is_out_of_the_file() {
    for (scheduler, service) in [(Rr, 0), (Maglev, 0), (Rr, UDP), (Maglev, UDP)] {
        for on_failure in [OnFailure::Rehash, OnFailure::Keep, OnFailure::Drop] {
            let mut daemon = of(scheduler);
            let before = connect(&mut daemon, service);
            daemon.change(&[Change::OnFailure(service, on_failure), Change::Remove(service, 1)]);
            assert_eq!(flows(&mut daemon, service), before);
            daemon.change(&[down(service, 1)]);
            let server = address(1);
            assert_eq!(daemon.events(), [TableEventKind::ServerFailed { server, on_failure }]);
            for (before, then) in before.iter().zip(flows(&mut daemon, service)) {
                let moved = then.is_some() && then != Some(1);
                match (on_failure, *before == Some(1)) {
                    (OnFailure::Rehash, true) => assert!(moved, "{scheduler} {then:?}"),
                    (OnFailure::Drop, true) => assert_eq!(then, None, "{scheduler}"),
                    _ => assert_eq!(then, *before, "{scheduler}"),
                }
            }
            daemon.plan();
            assert!(daemon.writes.is_empty());
            daemon.change(&[Change::ServerState(service, 1, ServerState::Up)]);
            if on_failure != OnFailure::Rehash {
                assert!(matches!(
                    daemon.events()[..],
                    [TableEventKind::ServerUp { weight: 0, .. }]
                ));
                assert_eq!(flows(&mut daemon, service), before);
            }
        }
    }
}

#[test]
fn an_unresolved_mac_address_is_a_failure_out_of_the_file_too() {
    let mut daemon = of(Rr);
    connect(&mut daemon, 0);
    daemon.change(&[Change::Remove(0, 1)]);
    daemon.change(&[Change::OnFailure(0, OnFailure::Drop), Change::Lose(1)]);
    assert_eq!(state(&daemon, 0), backend::FAILED_DROP);
    daemon.change(&[Change::OnFailure(0, OnFailure::Rehash)]);
    assert!(!member(&daemon, 0, 1).state.may_own_flows());
    let mut daemon = of(Rr);
    daemon.change(&[Change::Remove(0, 1), Change::Lose(1)]);
    assert!(daemon.events().contains(&unresolved(1)));
}

#[test]
fn one_that_was_down_when_it_was_taken_out_stays_so_and_outlives_the_daemon() {
    for (on_failure, expected) in [
        (OnFailure::Keep, backend::FAILED_KEEP),
        (OnFailure::Drop, backend::FAILED_DROP),
    ] {
        let mut daemon = of(Rr);
        connect(&mut daemon, 0);
        daemon.change(&[Change::OnFailure(0, on_failure)]);
        daemon.change(&[Change::ServerState(0, 1, ServerState::Down(on_failure))]);
        daemon.change(&[Change::Remove(0, 1)]);
        assert_eq!(state(&daemon, 0), expected);
        let before = member(&daemon, 0, 1);
        daemon.now += 3;
        daemon.restart();
        assert_eq!(member(&daemon, 0, 1), before, "the time it began to drain too");
        daemon.plan();
        assert!(daemon.writes.is_empty() && daemon.events.is_empty());
    }
}

/// Takes the second real server out of the file, with a drain timeout; gives the time that is left.
fn drain(daemon: &mut Daemon, service: usize) -> u32 {
    daemon.change(&[Change::DrainTimeout(service, Some(SECONDS)), Change::Remove(service, 1)]);
    assert_eq!(
        member(daemon, service, 1).drain_seconds_left(SECONDS, daemon.now),
        Some(SECONDS)
    );
    ticks_of_seconds(SECONDS)
}

/// Flows that never pause, for so many ticks.
fn stream(daemon: &mut Daemon, service: usize, ticks: u32, expected: &[Option<u8>]) {
    for _ in 0..ticks {
        daemon.pass(1);
        daemon.plan();
        assert_eq!(flows(daemon, service), expected);
    }
}

#[test]
fn flows_that_never_pause_are_cut_after_the_drain_timeout_and_not_before() {
    for (scheduler, service) in [(Rr, 0), (Maglev, 0), (Rr, UDP), (Maglev, UDP)] {
        let mut daemon = of(scheduler);
        let before = connect(&mut daemon, service);
        let ticks = drain(&mut daemon, service);
        stream(&mut daemon, service, ticks, &before);
        assert!(
            !daemon
                .tables
                .is_drain_timeout_over(&daemon.cluster.desired(), daemon.now)
        );
        daemon.now += 1;
        assert!(
            daemon
                .tables
                .is_drain_timeout_over(&daemon.cluster.desired(), daemon.now)
        );
        daemon.plan();
        assert_eq!(daemon.events(), [TableEventKind::DrainTimeout(address(1))]);
        assert!(
            !daemon
                .tables
                .is_drain_timeout_over(&daemon.cluster.desired(), daemon.now)
        );
        for (before, then) in before.into_iter().zip(flows(&mut daemon, service)) {
            assert!(then.is_some() && then != Some(1), "{scheduler}");
            assert!(before == Some(1) || then == before, "{scheduler}");
        }
        for _ in 0..3 {
            daemon.pass(10);
        }
        assert_eq!(daemon.loaded(service).backends.len(), 2, "its index is free again");
    }
}

#[test]
fn without_a_drain_timeout_and_with_weight_0_no_flow_is_cut() {
    for change in [Change::Remove(0, 1), Change::Weight(0, 1, 0)] {
        let mut daemon = of(Rr);
        let before = connect(&mut daemon, 0);
        if matches!(change, Change::Weight(..)) {
            daemon.change(&[Change::DrainTimeout(0, Some(SECONDS))]);
        }
        daemon.change(&[change]);
        stream(&mut daemon, 0, 2 * SECONDS, &before);
    }
}

#[test]
fn the_time_goes_on_across_a_restart_and_a_change_of_the_timeout() {
    let mut daemon = of(Rr);
    let before = connect(&mut daemon, 0);
    let ticks = drain(&mut daemon, 0);
    stream(&mut daemon, 0, ticks - 10, &before);
    daemon.restart();
    daemon.plan();
    assert!(daemon.writes.is_empty());
    assert_eq!(member(&daemon, 0, 1).drain_ticks_left(ticks, daemon.now), Some(11));
    stream(&mut daemon, 0, 10, &before);
    daemon.change(&[Change::DrainTimeout(0, Some(SECONDS + 10))]);
    stream(&mut daemon, 0, 9, &before);
    daemon.change(&[Change::DrainTimeout(0, Some(1))]);
    assert_eq!(daemon.events(), [TableEventKind::DrainTimeout(address(1))]);
}

#[test]
fn maps_of_an_older_daemon_have_no_time_and_it_starts_again() {
    let mut daemon = of(Rr);
    daemon.change(&[Change::Remove(0, 1)]);
    daemon.kernel.image.forget_removed_since();
    daemon.now += 7;
    daemon.restart();
    assert_eq!(member(&daemon, 0, 1).removed_since_tick, Some(daemon.now));
    assert_eq!(state(&daemon, 0), backend::REMOVED);
}

#[test]
fn one_that_is_put_back_into_the_file_has_all_its_time_again() {
    let mut daemon = of(Rr);
    let before = connect(&mut daemon, 0);
    let ticks = drain(&mut daemon, 0);
    stream(&mut daemon, 0, ticks, &before);
    daemon.change(&[Change::Weight(0, 1, 1)]);
    assert_eq!(member(&daemon, 0, 1).drain_seconds_left(SECONDS, daemon.now), None);
    stream(&mut daemon, 0, 5, &before);
    daemon.change(&[Change::Remove(0, 1)]);
    stream(&mut daemon, 0, ticks, &before);
    daemon.now += 1;
    daemon.plan();
    assert!(matches!(member(&daemon, 0, 1).state, BackendState::Dead { .. }));
    // Back after that it is another backend.
    daemon.change(&[Change::Weight(0, 1, 1)]);
    assert!(daemon.loaded(0).usable_backend(address(1)).is_some());
}

#[test]
fn a_service_that_loses_its_first_port_keeps_what_drains() {
    let mut daemon = of(Rr);
    drain(&mut daemon, 0);
    let before = member(&daemon, 0, 1);
    let former = daemon.cluster.id(0);
    let service = &mut daemon.cluster.services[0].service;
    service.ports = crate::desired::PortSet::from_ports([80, 8080]);
    service.virtual_service.port = 8080;
    let (desired, id) = (daemon.cluster.desired(), daemon.cluster.id(0));
    assert_eq!(daemon.tables.former_identities(&desired), [(id, former)].into());
    assert_eq!(daemon.tables.removed_servers(&desired), [(id, address(1))].into());
    daemon.plan();
    assert_eq!(member(&daemon, 0, 1), before);
    assert_eq!(daemon.tables.removed_servers(&desired), [(id, address(1))].into());
    assert_eq!(daemon.tables.draining_servers(), [(id, address(1))].into());
    assert!(daemon.tables.former_identities(&desired).is_empty());
}
