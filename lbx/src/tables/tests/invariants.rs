//! What holds at the end of every history.

use lbx_common::slot::NO_BACKEND;
use proptest::prelude::*;

use super::{
    super::{
        Tables,
        allocate::{Range, RangeAllocator},
        service::BackendState,
    },
    cluster::{Change, Cluster, Fate, SERVICES},
    history::{cases, history, schedulers},
    model::{During, Model, Step},
};
use crate::schedule::maglev;

/// Longer than any timeout.
const LONG: u32 = 50;

/// Long silence: everything that time can bring comes.
fn silence(model: &mut Model) {
    for _ in 0..4 {
        model.wait(LONG);
        model.expire(0, &During::default());
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn after_a_long_silence_everything_rests(schedulers in schedulers(), history in history()) {
        let mut model = Model::new(schedulers);
        for step in &history {
            model.step(step);
        }
        model.step(&Step::Plan { changes: vec![], during: During::default() });
        silence(&mut model);
        let tables = model.tables.as_ref().expect("a daemon");
        prop_assert!(model.kernel.records.is_empty());
        for (id, loaded) in &tables.services {
            prop_assert!(loaded.has_nothing_to_expire());
            let candidates = loaded.candidates.as_deref().expect("a plan was made");
            let table = maglev::table(candidates, loaded.slots_range.len);
            for (slot, wanted) in loaded.slots.as_slice().iter().zip(table) {
                prop_assert!(!slot.has_records && slot.current == wanted && slot.owner == wanted, "{slot:?} for {wanted}");
            }
            let hops = &model.cluster.hops;
            let service = (0..SERVICES).find(|service| model.cluster.id(*service) == *id).expect("a service");
            let wanted = super::super::service::desired_servers(&model.cluster.services[service].service);
            let fails = |address| wanted.iter().any(|server| server.address == address && server.failure_action().is_some());
            let settled = loaded.backends.values().all(|member| {
                let well = matches!(member.state, BackendState::Up | BackendState::Draining);
                let held = (member.state == BackendState::FailedDrop) <= (model.cluster.fate(service, member.address) == Fate::FailedDrop);
                let fits = well == (hops.contains_key(&member.address) && !fails(member.address));
                member.is_configured() && held && fits
            });
            prop_assert!(settled, "backends that should be gone, or dead");
            prop_assert_eq!(loaded.ring.is_empty(), candidates.is_empty() || !loaded.records_all());
        }
        shares_follow_weights(tables);
        let leave: Vec<Change> = (0..SERVICES)
            .filter(|service| model.cluster.services[*service].on)
            .map(Change::Toggle)
            .collect();
        model.step(&Step::Plan { changes: leave, during: During::default() });
        silence(&mut model);
        let tables = model.tables.as_ref().expect("a daemon");
        prop_assert_eq!(&tables.allocations, &Tables::default().allocations);
        prop_assert!(model.kernel.image.vips.is_empty() && model.kernel.image.ports.is_empty());
    }

    #[test]
    fn two_directors_with_the_same_file_agree_at_rest(schedulers in schedulers(), history in history()) {
        let mut first = Model::new(schedulers);
        for step in &history {
            first.step(step);
        }
        first.step(&Step::Plan { changes: vec![], during: During::default() });
        // The other one starts with the file the first has come to, in another order, on slots of the same size.
        let mut second = Model::new(schedulers);
        let sizes = |model: &Model| -> Vec<_> { model.tables.iter().flat_map(|t| t.services.values()).map(|l| l.slots_range.len).collect() };
        second.cluster = Cluster { timeouts: second.cluster.timeouts, ..first.cluster.clone() };
        let reverse = (0..SERVICES).map(Change::Reverse).collect();
        second.step(&Step::Plan { changes: reverse, during: During::default() });
        prop_assume!(sizes(&first) == sizes(&second));
        silence(&mut first);
        silence(&mut second);
        for service in (0..SERVICES).filter(|service| first.cluster.services[*service].on) {
            let id = first.cluster.id(service);
            prop_assert_eq!(first.kernel.image.slot_addresses(&id), second.kernel.image.slot_addresses(&id));
        }
    }

    #[test]
    fn ranges_never_overlap_and_nothing_is_lost(steps in prop::collection::vec((1..12u32, any::<prop::sample::Index>()), 1..80)) {
        const CAPACITY: u32 = 60;
        let mut ranges = RangeAllocator::new("places", CAPACITY);
        let mut taken: Vec<Range> = Vec::new();
        for (len, pick) in steps {
            let free = |place: &u32| !taken.iter().any(|range| (range.base..range.base + range.len).contains(place));
            let fits = (0..=CAPACITY - len).find(|base| (*base..base + len).all(|place| free(&place)));
            match ranges.allocate(len) {
                Ok(range) => {
                    prop_assert_eq!(Some(range.base), fits, "the lowest gap that is long enough");
                    prop_assert!(!ranges.clone().reserve(range));
                    taken.push(range);
                }
                Err(_) => prop_assert_eq!(fits, None),
            }
            if len % 2 == 0 && !taken.is_empty() {
                ranges.free(taken.swap_remove(pick.index(taken.len())));
            }
        }
        for range in taken {
            ranges.free(range);
        }
        prop_assert_eq!(ranges, RangeAllocator::new("places", CAPACITY));
    }
}

/// As far as the size a service was made with allows: its weights may have grown since.
fn shares_follow_weights(tables: &Tables) {
    for loaded in tables.services.values() {
        let candidates = loaded.candidates.as_deref().expect("a plan was made");
        let total: f64 = candidates.iter().map(|candidate| f64::from(candidate.weight)).sum();
        for candidate in candidates
            .iter()
            .filter(|candidate| candidate.backend_index != NO_BACKEND)
        {
            let slots = loaded.slots.as_slice();
            let share = slots
                .iter()
                .filter(|slot| slot.current == candidate.backend_index)
                .count() as f64
                / slots.len() as f64;
            let want = f64::from(candidate.weight) / total;
            assert!((share - want).abs() < 0.02, "{share} for {want}");
        }
        let nobody = loaded.slots.as_slice().iter().any(|slot| slot.current == NO_BACKEND);
        let keep_their_slots = candidates.iter().any(|candidate| candidate.backend_index == NO_BACKEND);
        assert_eq!(nobody, candidates.is_empty() || keep_their_slots);
    }
}
