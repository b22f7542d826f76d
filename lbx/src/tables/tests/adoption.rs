//! What a new daemon makes of the maps of one that died.

use std::{collections::BTreeMap, net::IpAddr};

use lbx_common::{
    backend::MacAndState,
    flow::{ESTABLISHED, FlowEntry},
    ring::RingEntry,
    service::Service,
    slot::Slot,
};
use proptest::prelude::*;

use super::signals::{DATA, DATAGRAM, OPEN};
use super::{
    super::{NextHop, Tables, adopt::AdoptError, lookup::ip},
    cluster::{Change, SERVICES},
    daemon::Daemon,
    history::{cases, history, schedulers},
    model::Model,
};
use crate::desired::{
    Scheduler::{Maglev, Rr, Wrr},
    VirtualService,
};

/// Of a backend: RIP, weight, hop, counter, state, and the tick since which it is out of the file.
type Seen = (IpAddr, u16, NextHop, u32, u8, Option<u32>);

/// Of a service: its entry, slots, ring and backends.
type Whole = (Service, Vec<Slot>, Vec<RingEntry>, BTreeMap<u16, Seen>);

/// What tables have in common with those of the next daemon: all that is in the maps.
fn in_maps(tables: &Tables) -> BTreeMap<VirtualService, Whole> {
    let services = tables.services.iter().map(|(id, loaded)| {
        let members = loaded.backends.iter().map(|(&index, member)| {
            let state = MacAndState::from_word(member.to_backend().mac_and_state).state;
            (
                index,
                (
                    member.address,
                    member.weight,
                    member.next_hop,
                    member.counter_index,
                    state,
                    member.removed_since_tick,
                ),
            )
        });
        let slots = loaded.slots.as_slice().to_vec();
        (
            *id,
            (loaded.to_service(), slots, loaded.ring.clone(), members.collect()),
        )
    });
    services.collect()
}

proptest! {
    #![proptest_config(cases(80))]

    #[test]
    fn adopted_tables_are_those_of_before_and_lead_nowhere_else(schedulers in schedulers(), history in history()) {
        let mut model = Model::new(schedulers);
        for step in &history {
            model.step(step);
            let Some(tables) = &model.tables else { continue };
            let adopted = Tables::adopt(&model.kernel.image, model.now).expect("tables that can be adopted");
            prop_assert_eq!(in_maps(&adopted), in_maps(tables));
            prop_assert_eq!(adopted.vips(), tables.vips());
            let desired = model.planned.desired();
            let plan = adopted.plan(&desired, &model.planned.hops, model.now).expect("room");
            prop_assert_eq!(plan.writes.is_empty(), !adopted.is_drain_timeout_over(&desired, model.now));
        }
    }
}

#[test]
fn an_adopting_daemon_does_not_reuse_a_number_that_records_name() {
    let mut daemon = Daemon::of([Rr, Rr, Rr]);
    let number = daemon.loaded(0).service_number;
    let entry = FlowEntry {
        vip_port: daemon.cluster.id(0).port.to_be_bytes(),
        backend: 1,
        state: ESTABLISHED,
        last_seen_tick: daemon.now,
    };
    daemon.change(&[Change::Toggle(0)]);
    for port in 0..100 {
        daemon.leave_record(number, port, entry);
    }
    daemon.restart();
    daemon.change(&[Change::Toggle(0), Change::Scheduler(0, Maglev)]);
    assert_ne!(daemon.loaded(0).service_number, number);
    let servers: Vec<_> = (0..100).map(|port| daemon.packet(0, port, OPEN)).collect();
    daemon.change(&[Change::Weight(0, 3, 1)]);
    for (port, server) in (0..).zip(servers) {
        assert_eq!(
            daemon.packet(0, port, DATA),
            server,
            "a record of the former service leads nobody"
        );
    }
}

#[test]
fn a_vip_not_yet_written_by_the_former_daemon_is_written_by_the_next() {
    let mut daemon = Daemon::of([Wrr; SERVICES]);
    let vip = daemon.cluster.id(2).vip;
    assert_eq!(daemon.kinds()["vip"], 2);
    let image = &mut daemon.kernel.image;
    image.vips.retain(|_, entry| ip(entry.address) != vip);
    daemon.restart();
    daemon.plan();
    assert!(daemon.kernel.image.addresses().contains(&vip));
    assert!(daemon.kernel.image.find(&daemon.cluster.id(2)).is_some());
}

#[test]
fn an_adopted_udp_service_goes_on_waiting_for_records_of_hashed_flows() {
    let mut daemon = Daemon::of([Maglev; SERVICES]);
    daemon.change(&[Change::Scheduler(2, Rr)]);
    daemon.pass(5);
    daemon.restart();
    daemon.plan();
    assert!(daemon.writes.is_empty());
    daemon.packet(2, 1, DATAGRAM);
    assert_eq!(
        daemon.kernel.records.len(),
        1,
        "whoever comes meanwhile is recorded with the owner"
    );
    daemon.pass(20);
    assert_eq!(daemon.kinds(), BTreeMap::from([("service", 1)]));
    assert!(daemon.loaded(2).recording_since_tick.is_none());
    daemon.plan();
    assert!(daemon.writes.is_empty());
}

#[test]
fn damaged_tables_are_refused() {
    let whole = Daemon::of([Rr; SERVICES]);
    let damage = |damage: &dyn Fn(&mut Service)| {
        let mut image = whole.kernel.image.clone();
        damage(
            image
                .services
                .get_mut(&whole.loaded(0).service_number)
                .expect("a service"),
        );
        match Tables::adopt(&image, 0) {
            Err(AdoptError::Damaged { what, .. }) => what,
            Err(AdoptError::InconsistentLookup { table }) => table,
            Err(AdoptError::Read(never)) => match never {},
            Ok(_) => "nothing",
        }
    };
    let other = *whole
        .kernel
        .image
        .services
        .get(&whole.loaded(1).service_number)
        .expect("a service");
    assert_eq!(damage(&|service| service.scheduler = 99), "unknown scheduler");
    assert_eq!(
        damage(&|service| service.slots_base = other.slots_base + 1),
        "its slots overlap another service's"
    );
    assert_eq!(
        damage(&|service| service.slots_base = u32::MAX - 5),
        "its slots lie beyond the table"
    );
    assert_eq!(
        damage(&|service| service.backends_base = u32::MAX - 1),
        "its backends lie beyond the table"
    );
    assert_eq!(
        damage(&|service| service.ring_base = other.ring_base),
        "its ring overlaps another service's"
    );
    assert_eq!(
        damage(&|service| service.backends_base = other.backends_base),
        "its backends overlap another service's"
    );
    assert_eq!(damage(&|_| ()), "nothing");
}
