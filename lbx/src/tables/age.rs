//! What time brings: windows close, slots come to rest, the drained and the dead make room.

use std::{cell::LazyCell, sync::Arc};

use lbx_common::{backend::Backend, flow::elapsed, service::Service};

use super::{
    Event, GRACE, Leaving, Plan, Tables, Write,
    allocate::Range,
    census::Census,
    event::What,
    service::{Life, Loaded},
};
use crate::desired::VirtualService;

impl Tables {
    /// Plans what time has brought until a census of these very tables was taken.
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
            forget_hashing(id, &mut loaded, now, &mut plan.writes);
            bury(id, &mut loaded, census, now, &mut plan);
            plan.tables.services.insert(*id, Arc::new(loaded));
        }
        plan.tables.free_what_left(census, &mut plan.writes);
        plan
    }

    /// Keeps the numbers of services that are no longer from being given again while records name them: what a daemon
    /// must know beyond what it adopts.
    pub fn quarantine(&mut self, census: &Census) {
        let places = &mut self.places;
        for &number in &census.numbers {
            if places.services.reserve(Range::one(u32::from(number))) {
                places.leaving.push((census.taken, Leaving::Value(number)));
                places.leaving.push((census.taken, Leaving::Service(number)));
            }
        }
    }

    fn free_what_left(&mut self, census: &Census, writes: &mut Vec<Write>) {
        let Self { places, lookup, .. } = self;
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
                Leaving::Value(number) => writes.push(Write::Service {
                    number,
                    value: Service::default(),
                }),
                Leaving::Service(number) => places.services.free(Range::one(u32::from(number))),
                Leaving::Vip(number) => places.vips.free(Range::one(u32::from(number))),
                Leaving::VipPlace(place) => Arc::make_mut(lookup).free_vip(place),
                Leaving::PortPlace(place) => Arc::make_mut(lookup).free_port(place),
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

/// Ends the time in which a service that hashed before does not yet know all its flows.
fn forget_hashing(id: &VirtualService, loaded: &mut Loaded, now: u32, writes: &mut Vec<Write>) {
    let timeout = loaded.window(id.protocol);
    let over = |since: &mut u32| elapsed(*since, now) > timeout + GRACE;
    if loaded.hashed_until.take_if(over).is_some() {
        writes.push(Write::Service {
            number: loaded.number,
            value: loaded.to_service(),
        });
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
            life if life.is_usable() && !member.wanted && !named && slots.quiet(now) && !in_slots.contains(&index) => {
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
