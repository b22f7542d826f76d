//! What time brings: windows close, slots come to rest, the drained and the dead make room.

use std::{cell::LazyCell, sync::Arc};

use lbx_common::{backend::Backend, flow::elapsed};

use super::{
    Event, GRACE, Leaving, Places, Plan, Tables, Write,
    allocate::Range,
    census::Census,
    event::What,
    service::{Life, Loaded, key},
};
use crate::desired::VirtualService;

impl Tables {
    /// Plans what time has brought until a census was taken.
    #[must_use]
    pub fn age(&self, census: &Census) -> Plan {
        let now = census.taken;
        let mut plan = Plan {
            tables: self.clone(),
            writes: Vec::new(),
            events: Vec::new(),
        };
        for (id, loaded) in &self.services {
            if loaded.at_rest() {
                continue;
            }
            let mut loaded = loaded.as_ref().clone();
            rest(id, &mut loaded, census, now, &mut plan.writes);
            begin_turns(id, &mut loaded, now, &mut plan.tables.places, &mut plan.writes);
            bury(id, &mut loaded, census, now, &mut plan);
            plan.tables.services.insert(*id, Arc::new(loaded));
        }
        plan.tables.free_what_left(census);
        plan
    }

    /// Keeps the numbers of services that are no longer from being given again while records name them: what a daemon
    /// must know beyond what it adopts.
    pub fn quarantine(&mut self, census: &Census) {
        let places = &mut self.places;
        for &number in &census.numbers {
            if places.services.reserve(Range::one(u32::from(number))) {
                places.leaving.push((census.taken, Leaving::Service(number)));
            }
        }
    }

    fn free_what_left(&mut self, census: &Census) {
        let places = &mut self.places;
        for (since, leaving) in std::mem::take(&mut places.leaving) {
            let still_named = matches!(leaving, Leaving::Service(number) if census.numbers.contains(&number));
            if still_named || elapsed(since, census.taken) < GRACE {
                places.leaving.push((since, leaving));
                continue;
            }
            match leaving {
                Leaving::Slots(range) => places.slots.free(range),
                Leaving::Ring(range) => places.rings.free(range),
                Leaving::Backends(range) => places.backends.free(range),
                Leaving::Counter(counter) => places.counters.free(Range::one(counter)),
                Leaving::Service(number) => places.services.free(Range::one(u32::from(number))),
            }
        }
    }
}

/// Closes windows and ends tracking.
fn rest(id: &VirtualService, loaded: &mut Loaded, census: &Census, now: u32, writes: &mut Vec<Write>) {
    let number = loaded.number;
    // In this order: what the census says of disagreement is about the owners of before.
    let mut slots = loaded
        .slots
        .come_to_rest(now, |slot| census.disagreeing.contains(&(number, slot)));
    slots.extend(loaded.slots.close_windows(now, loaded.window(id.protocol)));
    if !slots.is_empty() {
        writes.push(Write::Slots {
            base: loaded.slots_range.base,
            slots,
        });
    }
}

/// Gives a service its ring once every active flow of before has a record.
fn begin_turns(id: &VirtualService, loaded: &mut Loaded, now: u32, places: &mut Places, writes: &mut Vec<Write>) {
    let timeout = loaded.window(id.protocol);
    let over = |since: &mut u32| elapsed(*since, now) > timeout + GRACE;
    let Some(since) = loaded.hashing_since.take_if(over) else {
        return;
    };
    match places.turn_ring(loaded, now) {
        Ok(ring) => {
            writes.extend(ring);
            writes.push(Write::Service {
                key: key(id),
                value: loaded.to_service(),
            });
        }
        // The slots schedule on until there is room.
        Err(_full) => loaded.hashing_since = Some(since),
    }
}

/// Lets drained backends die and dead ones go. The dead of a real server that is to come back stay for its counters.
fn bury(id: &VirtualService, loaded: &mut Loaded, census: &Census, now: u32, plan: &mut Plan) {
    let slots = &loaded.slots;
    let in_slots = LazyCell::new(|| slots.named());
    let indices: Vec<u16> = loaded.members.keys().copied().collect();
    for index in indices {
        let Some(member) = loaded.members.get_mut(&index) else {
            continue;
        };
        let named = census.named.contains(&(loaded.number, index));
        let write = match member.life {
            Life::Up if !member.wanted && !named && slots.quiet(now) && !in_slots.contains(&index) => {
                member.life = Life::Dead { since: now };
                plan.events.push(Event {
                    service: *id,
                    what: What::Drained(member.address),
                });
                member.to_backend()
            }
            Life::Dead { since } if !named && elapsed(since, now) >= GRACE => {
                let member = *member;
                let siblings = || {
                    loaded
                        .members
                        .iter()
                        .filter(|&(&other, _)| other != index)
                        .map(|(_, m)| m)
                };
                if member.wanted && !siblings().any(|other| other.address == member.address) {
                    continue;
                }
                if !siblings().any(|other| other.counter == member.counter) {
                    plan.tables.places.leaving.push((now, Leaving::Counter(member.counter)));
                }
                loaded.members.remove(&index);
                Backend::NONE
            }
            _ => continue,
        };
        plan.writes.push(Write::Backend {
            place: loaded.backends_range.base + u32::from(index),
            value: write,
        });
    }
}
