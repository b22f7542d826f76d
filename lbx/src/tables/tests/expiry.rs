//! What time brings, by example.

use lbx_common::{flow::TICK_MASK, slot::Slot};

use super::signals::{DATA, FINISH, OPEN, RESET};
use super::{
    super::{GRACE, event::TableEventKind, scan::FlowScanResult},
    cluster::{Change, SERVICES, address},
    daemon::Daemon,
};
use crate::desired::Scheduler::{Maglev, Rr};

fn open(slot: &Slot) -> bool {
    slot.current != slot.owner
}

#[test]
fn a_window_closes_after_one_timeout_and_the_slots_settle() {
    let mut daemon = Daemon::new();
    let timeout = u32::from(daemon.timeouts().established);
    daemon.change(&[Change::Weight(0, 3, 1)]);
    let moved = daemon.slots(open);
    daemon.pass(timeout + GRACE);
    assert_eq!(
        daemon.slots(open),
        moved,
        "the writes were done a moment after the plan was made"
    );
    daemon.pass(1);
    assert_eq!((daemon.slots(open), daemon.slots(|slot| slot.has_records)), (0, moved));
    daemon.pass(GRACE);
    assert_eq!(daemon.slots(|slot| slot.has_records), 0);
    daemon.pass(1);
    assert!(daemon.writes.is_empty(), "a service at rest is left alone");
}

#[test]
fn without_traffic_a_window_closes_once_packets_have_seen_it_open() {
    let mut daemon = Daemon::new();
    daemon.change(&[Change::Weight(0, 3, 1)]);
    let moved = daemon.slots(open);
    daemon.pass_with_counters(GRACE);
    assert_eq!(
        daemon.slots(open),
        moved,
        "a packet under way may have seen the slots before"
    );
    daemon.pass_with_counters(1);
    assert_eq!((daemon.slots(open), daemon.slots(|slot| slot.has_records)), (0, moved));
    daemon.pass_with_counters(GRACE);
    assert_eq!(daemon.slots(|slot| slot.has_records), 0);
}

#[test]
fn one_packet_before_or_in_a_window_keeps_it_open() {
    for before in [true, false] {
        let mut daemon = Daemon::new();
        let timeout = u32::from(daemon.timeouts().established);
        if before {
            daemon.packet(0, 1, OPEN);
        }
        daemon.change(&[Change::Weight(0, 3, 1)]);
        if !before {
            daemon.packet(0, 1, OPEN);
        }
        let moved = daemon.slots(open);
        daemon.pass_with_counters(timeout + GRACE);
        assert_eq!(daemon.slots(open), moved);
        daemon.pass_with_counters(1);
        assert_eq!(daemon.slots(open), 0);
    }
}

/// The first packet arrives between the reading of the counters and the end of the window.
#[test]
fn a_connection_that_begins_while_the_window_closes_stays() {
    let mut daemon = Daemon::new();
    daemon.change(&[Change::Weight(0, 3, 1)]);
    daemon.now += GRACE + 1;
    let scan = daemon.kernel.sweep_and_count(&daemon.tables, daemon.now);
    let went: Vec<_> = (0..200).map(|port| daemon.packet(0, port, OPEN)).collect();
    // And connections that another director has had until now.
    let came: Vec<_> = (200..400).map(|port| daemon.packet(0, port, DATA)).collect();
    daemon.expire(&scan);
    assert_eq!(daemon.slots(open), 0);
    for _ in 0..3 {
        let now: Vec<_> = (0..400).map(|port| daemon.packet(0, port, DATA)).collect();
        assert_eq!(now, [went.clone(), came.clone()].concat());
        daemon.pass_with_counters(GRACE);
    }
}

#[test]
fn a_service_that_is_made_again_has_had_no_traffic() {
    let mut daemon = Daemon::new();
    daemon.packet(0, 1, OPEN);
    daemon.change(&[Change::Toggle(0)]);
    daemon.pass(100);
    daemon.pass(GRACE);
    daemon.change(&[Change::Toggle(0)]);
    daemon.change(&[Change::Weight(0, 3, 1)]);
    assert!(daemon.slots(open) > 0);
    daemon.pass_with_counters(GRACE + 1);
    assert_eq!(daemon.slots(open), 0);
}

#[test]
fn a_slot_stays_tracked_for_a_record_that_disagrees() {
    let mut daemon = Daemon::of([Rr, Rr, Rr]);
    for port in 0..30 {
        daemon.packet(0, port, OPEN);
    }
    daemon.change(&[Change::Scheduler(0, Maglev)]);
    daemon.pass(GRACE);
    let has_records = daemon.slots(|slot| slot.has_records);
    assert!(
        (5..30).contains(&has_records),
        "two of three connections are not where the hash says: {has_records}"
    );
    for port in 0..30 {
        daemon.packet(0, port, RESET);
    }
    daemon.pass(u32::from(daemon.timeouts().closed) + 1);
    assert_eq!(daemon.slots(|slot| slot.has_records), 0);
}

#[test]
fn a_drained_server_is_removed_once_nothing_names_it() {
    let mut daemon = Daemon::new();
    let timeout = u32::from(daemon.timeouts().established);
    daemon.change(&[Change::Remove(0, 1)]);
    daemon.pass(timeout + GRACE + 1);
    assert!(
        daemon.members()[1].3,
        "its windows have closed just now: a packet under way may still write a record"
    );
    daemon.pass(GRACE);
    assert_eq!(daemon.events(), [TableEventKind::Drained(address(1))]);
    assert!(!daemon.members()[1].3);
    daemon.pass(GRACE);
    assert_eq!(daemon.members(), [(0, 0, 1, true), (2, 2, 1, true)]);
}

#[test]
fn a_draining_server_stays_until_its_last_connection_ends() {
    let mut daemon = Daemon::of([Rr, Maglev, Maglev]);
    let port = (0..3)
        .find(|&port| daemon.packet(0, port, OPEN) == Some(1))
        .expect("its turn");
    daemon.packet(0, port, DATA);
    daemon.change(&[Change::Remove(0, 1)]);
    for _ in 0..5 {
        daemon.pass(10);
        assert_eq!(daemon.packet(0, port, DATA), Some(1));
    }
    daemon.packet(0, port, FINISH);
    for _ in 0..5 {
        daemon.pass(10);
    }
    assert_eq!(daemon.members().len(), 2);
}

#[test]
fn a_dead_backend_of_a_configured_server_stays_until_it_is_back() {
    let mut daemon = Daemon::new();
    daemon.change(&[Change::Lose(1)]);
    daemon.pass(100);
    daemon.pass(100);
    assert_eq!(daemon.members()[1], (1, 1, 1, false), "for its counters");
    daemon.change(&[Change::Answer(1, 0)]);
    daemon.pass(100);
    assert_eq!(daemon.members(), [(0, 0, 1, true), (2, 2, 1, true), (3, 1, 1, true)]);
    daemon.change(&[Change::Lose(1), Change::Remove(0, 1)]);
    daemon.pass(100);
    assert_eq!(
        daemon.members().len(),
        2,
        "nobody waits for a server the file no longer names"
    );
}

#[test]
fn a_dead_backend_stays_while_a_record_names_it() {
    let mut daemon = Daemon::new();
    daemon.change(&[Change::Lose(1), Change::Remove(0, 1)]);
    daemon.now += 100;
    let scan = FlowScanResult {
        tick: daemon.now,
        referenced_backends: [(daemon.loaded(0).service_number, 1)].into(),
        ..FlowScanResult::default()
    };
    daemon.expire(&scan);
    assert_eq!(daemon.members().len(), 3, "whoever got the index would get the flow");
    daemon.pass(0);
    assert_eq!(daemon.members().len(), 2);
}

#[test]
fn the_clock_may_wrap_while_windows_are_open() {
    let mut daemon = Daemon::new();
    daemon.now = TICK_MASK - 3;
    daemon.change(&[Change::Weight(0, 3, 1)]);
    let moved = daemon.slots(open);
    daemon.now = 0;
    daemon.pass(1);
    assert_eq!(daemon.slots(open), moved);
    daemon.pass(20);
    assert_eq!(daemon.slots(open), 0);
}

#[test]
fn after_everything_is_removed_everything_is_free() {
    let mut daemon = Daemon::of([Rr; SERVICES]);
    daemon.packet(0, 1, OPEN);
    daemon.change(&[0, 1, 2].map(Change::Toggle));
    daemon.pass(GRACE);
    daemon.pass(GRACE);
    assert_eq!(daemon.tables.allocations, super::super::Tables::default().allocations);
}
