//! Plans by example.

use std::collections::BTreeMap;

use lbx_common::{maps, slot::NO_BACKEND};

use super::signals::{DATA, OPEN};
use super::{
    super::{Tables, allocate::TableFull, event::TableEventKind, plan::PlanError},
    cluster::{Change, Cluster, SERVICES, address, hop, real_server},
    daemon::{Daemon, kind, unresolved},
};
use crate::desired::{
    Protocol,
    Scheduler::{Maglev, Rr, Wrr},
};

#[test]
fn a_service_is_written_whole_before_packets_find_it() {
    let daemon = Daemon::of([Wrr, Maglev, Maglev]);
    let kinds: Vec<_> = daemon.writes.iter().map(kind).collect();
    let first: Vec<_> = kinds.iter().take_while(|kind| **kind != "service").collect();
    assert_eq!(*first[0], "reset service");
    assert_eq!(first[first.len() - 2..], [&"ring", &"slots"]);
    assert_eq!(kinds[kinds.len() - 2..], ["vip", "vip"], "two services share a VIP");
    assert_eq!(daemon.members(), [(0, 0, 1, true), (1, 1, 1, true), (2, 2, 1, true)]);
    assert_eq!(daemon.ring(0), [0, 1, 2]);
    assert_eq!(
        daemon.slots(|slot| slot.has_records || slot.current != slot.owner),
        0,
        "nobody has a record yet"
    );
}

#[test]
fn an_unchanged_service_is_not_written() {
    let mut daemon = Daemon::of([Rr, Wrr, Maglev]);
    daemon.plan();
    assert!(daemon.writes.is_empty() && daemon.events.is_empty());
    daemon.change(&[Change::Timeouts(1)]);
    assert_eq!(daemon.kinds(), BTreeMap::from([("service", 3)]));
}

#[test]
fn an_added_server_takes_slots_and_leaves_their_owners() {
    let mut daemon = Daemon::new();
    daemon.change(&[Change::Weight(0, 3, 1)]);
    assert_eq!(daemon.members().last(), Some(&(3, 3, 1, true)));
    let moved = daemon.slots(|slot| slot.current == 3);
    assert!((180..195).contains(&moved), "a quarter of 751: {moved}");
    assert_eq!(daemon.slots(|slot| slot.owner == 3), 0);
    assert_eq!(daemon.slots(|slot| (slot.current != slot.owner) != slot.has_records), 0);
}

#[test]
fn a_removed_server_drains() {
    let mut daemon = Daemon::new();
    daemon.change(&[Change::Remove(0, 1)]);
    assert_eq!(daemon.events(), [TableEventKind::Draining(address(1))]);
    assert_eq!(daemon.members()[1], (1, 1, 0, true));
    assert_eq!(daemon.slots(|slot| slot.current == 1), 0);
    assert!(daemon.slots(|slot| slot.owner == 1) > 0);
    daemon.change(&[Change::Weight(0, 1, 1)]);
    assert_eq!(daemon.members()[1], (1, 1, 1, true), "it is the same backend again");
    assert_eq!(daemon.slots(|slot| slot.current != slot.owner), 0);
}

#[test]
fn a_weight_moves_slots_and_the_ring() {
    let mut daemon = Daemon::of([Wrr, Maglev, Maglev]);
    daemon.change(&[Change::Weight(0, 0, 3)]);
    assert_eq!(daemon.ring(0), [0, 1, 0, 2, 0]);
    let what = TableEventKind::WeightChanged {
        server: address(0),
        from: 1,
        to: 3,
    };
    assert_eq!(daemon.events(), [what]);
    assert_eq!(
        daemon.kinds(),
        BTreeMap::from([("backend", 1), ("ring", 1), ("service", 1), ("slots", 1)])
    );
}

#[test]
fn a_mac_address_moves_without_anything_else() {
    let mut daemon = Daemon::new();
    daemon.change(&[Change::Answer(1, 7)]);
    assert_eq!(daemon.kinds(), BTreeMap::from([("backend", 1)]));
    assert_eq!(daemon.mac(1), hop(1, 7).mac);
    assert!(matches!(daemon.events()[..], [TableEventKind::MacChanged { .. }]));
}

#[test]
fn a_server_that_returns_is_another_backend_with_the_same_counter() {
    let mut daemon = Daemon::new();
    let counter = daemon.loaded(0).backends[&1].counter_index;
    daemon.change(&[Change::Lose(1)]);
    assert_eq!(daemon.events(), [unresolved(1)]);
    assert_eq!(
        daemon.writes.last().map(kind),
        Some("backend"),
        "the dead are written last"
    );
    assert_eq!(
        daemon.slots(|slot| slot.current == 1 || slot.owner == 1),
        0,
        "there is nothing to keep"
    );
    daemon.change(&[Change::Answer(1, 0)]);
    assert_eq!(
        daemon.members()[1..],
        [(1, 1, 1, false), (2, 2, 1, true), (3, 1, 1, true)]
    );
    assert_eq!(daemon.loaded(0).backends[&3].counter_index, counter);
    assert!(!daemon.kinds().contains_key("reset backend"));
}

#[test]
fn a_server_that_never_answered_is_no_backend() {
    let mut daemon = Daemon::new();
    daemon.change(&[Change::Lose(4), Change::Weight(0, 4, 1)]);
    assert_eq!(daemon.members().len(), 3);
    assert!(daemon.writes.is_empty());
}

#[test]
fn from_recording_to_hashing_every_slot_is_tracked_first() {
    let mut daemon = Daemon::of([Rr, Maglev, Maglev]);
    daemon.change(&[Change::Scheduler(0, Maglev)]);
    let kinds: Vec<_> = daemon.writes.iter().map(kind).collect();
    assert_eq!(kinds, ["slots", "service"]);
    assert_eq!(daemon.slots(|slot| !slot.has_records), 0);
    assert_eq!(daemon.events(), [TableEventKind::SchedulerChanged(Maglev)]);
}

#[test]
fn from_hashing_to_recording_the_slots_stay() {
    let mut daemon = Daemon::new();
    daemon.change(&[Change::Scheduler(0, Rr)]);
    assert_eq!(daemon.kinds(), BTreeMap::from([("ring", 1), ("service", 1)]));
    assert_eq!(daemon.ring(0), [0, 1, 2]);
}

#[test]
fn vips_go_with_their_last_service() {
    let mut daemon = Daemon::of([Rr; SERVICES]);
    daemon.change(&[Change::Toggle(0)]);
    assert_eq!(daemon.kinds(), BTreeMap::from([("remove port", 1)]));
    daemon.change(&[Change::Toggle(1)]);
    assert_eq!(daemon.kinds(), BTreeMap::from([("remove port", 1), ("remove vip", 1)]));
    assert_eq!(daemon.tables.vips(), [daemon.cluster.id(2).vip].into());
}

#[test]
fn a_number_is_not_reused_while_a_record_names_it() {
    let mut daemon = Daemon::of([Rr, Rr, Rr]);
    assert_eq!(daemon.loaded(0).service_number, 0);
    daemon.packet(0, 1, OPEN);
    let entry = *daemon.kernel.records.values().next().expect("a record");
    daemon.change(&[Change::Toggle(0)]);
    daemon.pass(5);
    daemon.leave_record(0, 1, entry);
    daemon.pass(5);
    daemon.change(&[Change::Toggle(0)]);
    assert_eq!(
        daemon.loaded(0).service_number,
        3,
        "a record named the former one when last seen"
    );
    daemon.pass(5);
    daemon.change(&[Change::Toggle(1)]);
    daemon.change(&[Change::Toggle(1)]);
    assert_eq!(daemon.loaded(1).service_number, 0);
}

#[test]
fn backends_move_to_a_larger_range() {
    let mut daemon = Daemon::new();
    let before = daemon.loaded(0).backends_range;
    assert_eq!(before.len, 4);
    daemon.change(&[Change::Weight(0, 3, 1), Change::Weight(0, 4, 1)]);
    let after = daemon.loaded(0).backends_range;
    assert!(after.len > before.len && after.base >= before.base + before.len);
    assert_eq!(daemon.members().len(), 5);
    assert_eq!(
        daemon.kinds()["service"],
        1,
        "packets follow at once, and that is all the service has to tell"
    );
}

#[test]
fn when_all_drain_old_connections_stay_and_new_ones_are_refused() {
    for scheduler in [Maglev, Wrr] {
        let mut daemon = Daemon::of([scheduler, Maglev, Maglev]);
        let server = daemon.packet(0, 1, OPEN);
        assert!(server.is_some());
        daemon.change(&[0, 1, 2].map(|server| Change::Weight(0, server, 0)));
        assert_eq!(daemon.slots(|slot| slot.current == NO_BACKEND), daemon.slots(|_| true));
        assert_eq!(daemon.ring(0), [0u8; 0]);
        assert_eq!(daemon.packet(0, 1, DATA), server);
        assert_eq!(daemon.packet(0, 2, OPEN), None);
    }
}

#[test]
fn the_order_of_the_file_does_not_matter_to_the_slots() {
    let mut straight = Daemon::new();
    let mut reversed = Daemon::new();
    straight.change(&[Change::Weight(0, 3, 2), Change::Weight(0, 4, 3)]);
    reversed.change(&[Change::Weight(0, 4, 3), Change::Weight(0, 3, 2), Change::Reverse(0)]);
    let key = straight.cluster.id(0);
    assert_eq!(
        straight.kernel.image.slot_addresses(&key),
        reversed.kernel.image.slot_addresses(&key)
    );
}

#[test]
fn a_full_table_is_an_error_and_changes_nothing() {
    let mut cluster = Cluster::new([Maglev; SERVICES]);
    let service = &mut cluster.services[0].service;
    service.servers = vec![real_server(0, 65_535), real_server(1, 1)];
    let mut desired = cluster.desired();
    let service = desired.services[0].clone();
    desired.services = (0..maps::DEFAULT_SLOTS / 65_537)
        .map(|port| {
            let mut service = service.clone();
            service.virtual_service.port = 1 + port as u16;
            service
        })
        .collect();
    let hops = Default::default();
    let loaded = Tables::default()
        .plan(&desired, &hops, 0)
        .expect("just enough room")
        .resulting_tables;
    let mut udp = service;
    udp.virtual_service.protocol = Protocol::Udp;
    desired.services.push(udp);
    let before = loaded.clone();
    let full = loaded.plan(&desired, &hops, 1).expect_err("no room for another");
    assert!(
        matches!(
            full,
            PlanError::Full(TableFull {
                table: "slots",
                wanted: 65_537,
                ..
            })
        ),
        "{full}"
    );
    assert!(loaded.services == before.services && loaded.allocations == before.allocations);
}

#[test]
fn ten_thousand_services_fit() {
    let cluster = Cluster::new([Maglev, Wrr, Rr]);
    let mut desired = cluster.desired();
    let services = std::mem::take(&mut desired.services);
    desired.services = (1..=10_000)
        .map(|port| {
            let mut service = services[usize::from(port % 2)].clone();
            service.virtual_service.port = port;
            service
        })
        .collect();
    let plan = Tables::default()
        .plan(&desired, &cluster.hops, 0)
        .expect("room for all");
    assert_eq!(plan.resulting_tables.services.len(), 10_000);
    let again = plan
        .resulting_tables
        .plan(&desired, &cluster.hops, 0)
        .expect("room for all");
    assert!(again.writes.is_empty());
}
