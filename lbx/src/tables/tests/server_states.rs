//! What checks say of real servers, by example.

use std::num::NonZeroU8;

use lbx_common::slot::{NO_BACKEND, Slot};

use super::signals::{DATA, OPEN};
use super::{
    super::{GRACE, event::TableEventKind, service::BackendState},
    cluster::{Change, SORRY, address},
    daemon::{Daemon, unresolved},
};
use crate::desired::{
    OnFailure, Scheduler,
    Scheduler::{Dh, Lc, Maglev, Rr, Sh, Wrr},
    ServerState,
};

const PORTS: std::ops::Range<u16> = 0..60;

fn set_state(server: u8, state: ServerState) -> Change {
    Change::ServerState(0, server, state)
}

fn down(server: u8, on_failure: OnFailure) -> Change {
    set_state(server, ServerState::Down(on_failure))
}

fn up(server: u8) -> Change {
    set_state(server, ServerState::Up)
}

fn of(scheduler: Scheduler) -> Daemon {
    let mut daemon = Daemon::of([scheduler, Maglev, Maglev]);
    daemon.pass(5);
    daemon
}

/// Connections that are established, by port: whose they are.
fn connect(daemon: &mut Daemon) -> Vec<Option<u8>> {
    let mut servers = Vec::new();
    for port in PORTS {
        let server = daemon.packet(0, port, OPEN);
        assert_eq!(daemon.packet(0, port, DATA), server);
        servers.push(server);
    }
    assert!(servers.contains(&Some(1)));
    servers
}

fn data(daemon: &mut Daemon) -> Vec<Option<u8>> {
    PORTS.map(|port| daemon.packet(0, port, DATA)).collect()
}

/// Whom connections get that begin now.
fn newcomers(daemon: &mut Daemon) -> Vec<Option<u8>> {
    let servers = PORTS.map(|port| daemon.packet(0, port + 1_000, OPEN)).collect();
    for port in PORTS {
        daemon.packet(0, port + 1_000, super::signals::RESET);
    }
    servers
}

/// What becomes of connections while the second real server is down, and when it is back.
fn failure(scheduler: Scheduler, on_failure: OnFailure) -> [Vec<(Option<u8>, Option<u8>)>; 2] {
    let mut daemon = of(scheduler);
    let before = connect(&mut daemon);
    daemon.change(&[down(1, on_failure)]);
    let server = address(1);
    assert_eq!(daemon.events(), [TableEventKind::ServerFailed { server, on_failure }]);
    let meanwhile = data(&mut daemon);
    assert!(
        newcomers(&mut daemon)
            .iter()
            .all(|server| matches!(server, Some(0 | 2))),
        "{scheduler}"
    );
    daemon.plan();
    assert!(daemon.writes.is_empty());
    daemon.change(&[up(1)]);
    assert!(matches!(daemon.events()[..], [TableEventKind::ServerUp { .. }]));
    assert!(newcomers(&mut daemon).contains(&Some(1)));
    let after = data(&mut daemon);
    let with = |then: Vec<Option<u8>>| before.iter().copied().zip(then).collect();
    [with(meanwhile), with(after)]
}

#[test]
fn flows_of_a_failed_server_are_rescheduled_and_stay_there() {
    for scheduler in [Maglev, Rr] {
        let [meanwhile, after] = failure(scheduler, OnFailure::Rehash);
        for ((before, then), (_, after)) in meanwhile.into_iter().zip(after) {
            assert!(then.is_some() && then != Some(1) && (before == Some(1) || then == before));
            assert_eq!(after, then, "{scheduler}");
        }
    }
}

#[test]
fn flows_of_a_failed_server_stay_with_on_failure_keep() {
    for scheduler in [Maglev, Rr] {
        for then in failure(scheduler, OnFailure::Keep) {
            assert!(then.iter().all(|(before, then)| before == then), "{scheduler}");
        }
    }
}

#[test]
fn packets_of_a_failed_server_are_dropped_with_on_failure_drop_until_it_is_back() {
    for scheduler in [Maglev, Rr] {
        let [meanwhile, after] = failure(scheduler, OnFailure::Drop);
        for (before, then) in meanwhile {
            assert_eq!(then, before.filter(|server| *server != 1), "{scheduler}");
        }
        assert!(after.iter().all(|(before, after)| before == after), "{scheduler}");
    }
}

#[test]
fn dropped_flows_outlive_their_window_and_the_daemon() {
    let mut daemon = Daemon::new();
    let before = connect(&mut daemon);
    daemon.change(&[down(1, OnFailure::Drop)]);
    let timeout = u32::from(daemon.timeouts().established);
    for _ in 0..3 {
        data(&mut daemon);
        daemon.pass(timeout - 1);
    }
    assert_eq!(daemon.slots(|slot| slot.owner == 1), 0, "the window has closed");
    daemon.restart();
    assert_eq!(daemon.loaded(0).backends[&1].state, BackendState::FailedDrop);
    daemon.plan();
    assert!(daemon.writes.is_empty());
    data(&mut daemon);
    daemon.change(&[up(1)]);
    assert_eq!(data(&mut daemon), before);
}

#[test]
fn a_server_that_never_was_up_is_no_backend_with_any_on_failure() {
    for on_failure in [OnFailure::Rehash, OnFailure::Keep, OnFailure::Drop] {
        let mut daemon = Daemon::new();
        daemon.change(&[Change::Weight(0, 3, 1), down(3, on_failure)]);
        assert!(daemon.members().len() == 3 && daemon.writes.is_empty());
        daemon.change(&[up(3)]);
        assert_eq!(daemon.members().last(), Some(&(3, 3, 1, true)));
    }
}

#[test]
fn an_unresolved_mac_address_is_a_failure() {
    let mut daemon = Daemon::new();
    let before = connect(&mut daemon);
    daemon.change(&[Change::OnFailure(0, OnFailure::Drop), Change::Lose(1)]);
    let (server, on_failure) = (address(1), OnFailure::Drop);
    assert_eq!(
        daemon.events(),
        [TableEventKind::ServerUnresolved { server, on_failure }]
    );
    assert!(data(&mut daemon).iter().all(|server| *server != Some(1)));
    daemon.change(&[Change::Answer(1, 1)]);
    assert_eq!(data(&mut daemon), before, "it has come back with another MAC address");
    daemon.change(&[Change::OnFailure(0, OnFailure::Rehash), Change::Lose(1)]);
    assert_eq!(daemon.events(), [unresolved(1)]);
}

#[test]
fn a_down_server_removed_from_the_file_drains_when_it_is_up() {
    let mut daemon = Daemon::new();
    let before = connect(&mut daemon);
    daemon.change(&[Change::OnFailure(0, OnFailure::Drop), down(1, OnFailure::Drop)]);
    daemon.change(&[Change::Remove(0, 1)]);
    assert_eq!(daemon.events(), [TableEventKind::Draining(address(1))]);
    assert!(data(&mut daemon).iter().all(|server| *server != Some(1)));
    daemon.change(&[up(1)]);
    assert_eq!(data(&mut daemon), before);
}

#[test]
fn without_fallback_no_server_takes_the_slots_of_a_down_one() {
    for scheduler in [Maglev, Sh, Dh] {
        for on_failure in [OnFailure::Rehash, OnFailure::Keep, OnFailure::Drop] {
            let mut daemon = of(scheduler);
            daemon.change(&[Change::Fallback(0)]);
            let current = |daemon: &Daemon| -> Vec<u16> {
                daemon
                    .loaded(0)
                    .slots
                    .as_slice()
                    .iter()
                    .map(|slot| slot.current)
                    .collect()
            };
            let before = current(&daemon);
            daemon.change(&[down(1, on_failure)]);
            for (before, now) in before.iter().zip(current(&daemon)) {
                assert_eq!(
                    now,
                    if *before == 1 { NO_BACKEND } else { *before },
                    "{scheduler}, {on_failure}"
                );
            }
            daemon.change(&[up(1)]);
            let back = daemon.loaded(0).usable_backend(address(1)).expect("a backend").0;
            for (before, now) in before.iter().zip(current(&daemon)) {
                assert_eq!(
                    now,
                    if *before == 1 { back } else { *before },
                    "{scheduler}, {on_failure}"
                );
            }
        }
    }
}

#[test]
fn when_all_are_down_the_sorry_server_has_new_connections() {
    for scheduler in [Maglev, Rr] {
        for (on_failure, fallback) in [
            (OnFailure::Rehash, true),
            (OnFailure::Keep, true),
            (OnFailure::Drop, false),
        ] {
            let mut daemon = of(scheduler);
            daemon.change(&[Change::Sorry(0)]);
            if !fallback {
                daemon.change(&[Change::Fallback(0)]);
            }
            let before = connect(&mut daemon);
            daemon.change(&[0, 1, 2].map(|server| down(server, on_failure)));
            assert!(newcomers(&mut daemon).iter().all(|server| *server == Some(SORRY)));
            let then = data(&mut daemon);
            match on_failure {
                OnFailure::Rehash => assert!(then.iter().all(|server| *server == Some(SORRY))),
                OnFailure::Keep => assert_eq!(then, before),
                OnFailure::Drop => assert!(then.iter().all(Option::is_none)),
            }
            daemon.change(&[0, 1, 2].map(up));
            assert!(newcomers(&mut daemon).iter().all(|server| *server != Some(SORRY)));
        }
    }
}

#[test]
fn when_all_are_down_without_a_sorry_server_new_connections_are_refused() {
    for on_failure in [OnFailure::Rehash, OnFailure::Keep, OnFailure::Drop] {
        let mut daemon = of(Maglev);
        let before = connect(&mut daemon);
        daemon.change(&[0, 1, 2].map(|server| down(server, on_failure)));
        assert!(newcomers(&mut daemon).iter().all(Option::is_none));
        let then = data(&mut daemon);
        let kept = on_failure == OnFailure::Keep;
        assert!(then == if kept { before } else { vec![None; then.len()] });
    }
}

#[test]
fn draining_servers_keep_their_flows_and_new_ones_go_to_the_sorry_server() {
    for scheduler in [Maglev, Wrr] {
        let mut daemon = of(scheduler);
        daemon.change(&[Change::Sorry(0)]);
        let before = connect(&mut daemon);
        daemon.change(&[
            set_state(0, ServerState::Draining),
            set_state(1, ServerState::Draining),
            down(2, OnFailure::Keep),
        ]);
        assert_eq!(daemon.events().len(), 1, "one has failed");
        assert!(newcomers(&mut daemon).iter().all(|server| *server == Some(SORRY)));
        assert_eq!(data(&mut daemon), before);
        daemon.restart();
        daemon.plan();
        assert!(daemon.writes.is_empty() && daemon.events.is_empty());
        daemon.change(&[up(0), up(1), up(2)]);
        assert!(newcomers(&mut daemon).iter().all(|server| *server != Some(SORRY)));
        assert_eq!(data(&mut daemon), before);
    }
}

#[test]
fn a_server_in_slow_start_gets_part_of_its_share() {
    let rising = |part| NonZeroU8::new(part).map_or(ServerState::Up, ServerState::SlowStart);
    let mut daemon = Daemon::new();
    let all = daemon.slots(|_| true);
    let mut shares = Vec::new();
    for part in [5, 25, 50, 0] {
        daemon.change(&[set_state(1, rising(part))]);
        assert!(daemon.events.is_empty(), "nothing to tell");
        shares.push(daemon.slots(|slot| slot.current == 1) * 100 / all);
    }
    // 5 of 205, 25 of 225, 50 of 250, 1 of 3.
    for (share, want) in shares.iter().zip([2usize, 11, 20, 33]) {
        assert!(share.abs_diff(want) <= 1, "{shares:?}");
    }
    let turns = |scheduler| {
        let mut daemon = of(scheduler);
        daemon.change(&[set_state(1, rising(50))]);
        let (writes, ring) = (daemon.writes.len(), daemon.ring(0));
        (writes > 0, ring)
    };
    assert_eq!(turns(Wrr), (true, vec![0, 2, 1, 0, 2]));
    for scheduler in [Rr, Lc] {
        assert_eq!(turns(scheduler), (false, vec![0, 1, 2]), "{scheduler} knows no weights");
    }
}

#[test]
fn a_service_that_waits_for_its_checks_has_no_connections_and_begins_without_windows() {
    for scheduler in [Maglev, Rr] {
        let mut daemon = Daemon::of([scheduler, Maglev, Maglev]);
        daemon.change(&[Change::Toggle(0)]);
        daemon.pass(GRACE);
        let down = |server| down(server, OnFailure::Rehash);
        daemon.change(&[
            Change::Toggle(0),
            Change::Sorry(0),
            Change::Await(0),
            down(0),
            down(1),
            down(2),
        ]);
        assert_eq!(daemon.packet(0, 1, OPEN), None, "not the sorry server's either");
        assert_eq!(
            daemon.slots(|slot| *slot == Slot::without_window(NO_BACKEND)),
            daemon.slots(|_| true)
        );
        daemon.change(&[Change::Await(0), up(0), up(1), up(2)]);
        assert_eq!(
            daemon.slots(|slot| slot.current != slot.owner || slot.current == NO_BACKEND),
            0
        );
        assert!(daemon.packet(0, 1, OPEN).is_some_and(|server| server < 3));
        let mut other = Daemon::of([scheduler, Maglev, Maglev]);
        other.pass(GRACE);
        let id = daemon.cluster.id(0);
        assert_eq!(
            daemon.kernel.image.slot_addresses(&id),
            other.kernel.image.slot_addresses(&id)
        );
        // With none up, the sorry server's.
        daemon.change(&[down(0), down(1), down(2)]);
        assert_eq!(daemon.packet(0, 2, OPEN), Some(SORRY));
    }
}
