//! What time brings: windows close, slots come to rest, the drained and the dead make room.

use std::{collections::BTreeSet, sync::Arc};

use lbx_common::backend::Backend;

use super::{
    Event, Leaving, Plan, Tables, Write,
    census::Census,
    event::What,
    service::{Life, Loaded},
};
use crate::desired::VirtualService;

/// Ticks after which no packet can still be using what it found before: programs run for microseconds.
const GRACE: u32 = 2;

impl Tables {
    /// Plans what time has brought until tick `now`, given a census taken just before.
    #[must_use]
    pub fn age(&self, census: &Census, now: u32) -> Plan {
        let mut plan = Plan {
            tables: self.clone(),
            writes: Vec::new(),
            events: Vec::new(),
        };
        for (id, loaded) in &self.services {
            if loaded.slots.at_rest()
                && loaded
                    .members
                    .values()
                    .all(|member| member.wanted && member.life == Life::Up)
            {
                continue;
            }
            let mut loaded = loaded.as_ref().clone();
            rest(id, &mut loaded, census, now, &mut plan.writes);
            bury(id, &mut loaded, census, now, &mut plan);
            plan.tables.services.insert(*id, Arc::new(loaded));
        }
        plan.tables.free_what_left(census, now);
        plan
    }

    fn free_what_left(&mut self, census: &Census, now: u32) {
        let places = &mut self.places;
        for (since, leaving) in std::mem::take(&mut places.leaving) {
            let still_named = matches!(leaving, Leaving::Service(number) if census.numbers.contains(&number));
            if still_named || now.wrapping_sub(since) < GRACE {
                places.leaving.push((since, leaving));
                continue;
            }
            match leaving {
                Leaving::Slots(range) => places.slots.free(range),
                Leaving::Ring(range) => places.rings.free(range),
                Leaving::Backends(range) => places.backends.free(range),
                Leaving::Counter(counter) => places.counters.free(counter),
                Leaving::Service(number) => places.services.free(u32::from(number)),
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

/// Lets drained backends die and dead ones go. The dead of a real server that is to come back stay for its counters.
fn bury(id: &VirtualService, loaded: &mut Loaded, census: &Census, now: u32, plan: &mut Plan) {
    let indices: Vec<u16> = loaded.members.keys().copied().collect();
    for index in indices {
        let Some(member) = loaded.members.get_mut(&index) else {
            continue;
        };
        let named = census.named.contains(&(loaded.number, index));
        let write = match member.life {
            Life::Up if !member.wanted && !named && !loaded.slots.names(index) => {
                member.life = Life::Dead { since: now };
                plan.events.push(Event {
                    service: *id,
                    what: What::Drained(member.address),
                });
                member.to_backend()
            }
            Life::Dead { since } if !named && now.wrapping_sub(since) >= GRACE => {
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

/// The real servers a service still has without the file naming them.
#[must_use]
pub fn draining(loaded: &Loaded) -> BTreeSet<std::net::Ipv4Addr> {
    loaded
        .members
        .values()
        .filter(|member| !member.wanted && member.life == Life::Up)
        .map(|member| member.address)
        .collect()
}
