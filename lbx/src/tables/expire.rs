//! What expires with time: windows close, slots settle, drained and dead backends are removed.

use std::{cell::LazyCell, sync::Arc};

use lbx_common::{backend::Backend, flow::elapsed, service::Service};

use super::{
    Event, GRACE, PendingFree, Plan, Tables, Write,
    allocate::Range,
    event::EventKind,
    scan::FlowScan,
    service::{BackendState, LoadedService},
};
use crate::desired::VirtualService;

impl Tables {
    /// Plans what has expired by the tick of a scan of these very tables.
    #[must_use]
    pub fn expire(&self, scan: &FlowScan) -> Plan {
        let now = scan.tick;
        let mut plan = Plan {
            tables: self.clone(),
            writes: Vec::new(),
            events: Vec::new(),
        };
        for (id, loaded) in &self.services {
            if loaded.is_settled() {
                continue;
            }
            let mut loaded = loaded.as_ref().clone();
            settle_slots(id, &mut loaded, scan, now, &mut plan.writes);
            end_hashed_transition(id, &mut loaded, now, &mut plan.writes);
            remove_drained(id, &mut loaded, scan, now, &mut plan);
            plan.tables.services.insert(*id, Arc::new(loaded));
        }
        plan.tables.free_pending(scan, &mut plan.writes);
        plan
    }

    /// Keeps the numbers of removed services from being reused while records name them. A daemon that adopts tables must do
    /// this before it plans.
    pub fn quarantine(&mut self, scan: &FlowScan) {
        let allocations = &mut self.allocations;
        for &number in &scan.services {
            if allocations.services.reserve(Range::one(u32::from(number))) {
                allocations.pending_free.push((scan.tick, PendingFree::Value(number)));
                allocations.pending_free.push((scan.tick, PendingFree::Service(number)));
            }
        }
    }

    fn free_pending(&mut self, scan: &FlowScan, writes: &mut Vec<Write>) {
        let Self {
            allocations, lookup, ..
        } = self;
        for (since, leaving) in std::mem::take(&mut allocations.pending_free) {
            let still_named = matches!(leaving, PendingFree::Service(number) if scan.services.contains(&number));
            if still_named || elapsed(since, scan.tick) < GRACE {
                allocations.pending_free.push((since, leaving));
                continue;
            }
            match leaving {
                PendingFree::Slots(range) => allocations.slots.free(range),
                PendingFree::Ring(range) => allocations.rings.free(range),
                PendingFree::Backends(range) => allocations.backends.free(range),
                PendingFree::Counter(counter) => allocations.counters.free(Range::one(counter)),
                PendingFree::Value(number) => writes.push(Write::Service {
                    number,
                    value: Service::default(),
                }),
                PendingFree::Service(number) => allocations.services.free(Range::one(u32::from(number))),
                PendingFree::Vip(number) => allocations.vips.free(Range::one(u32::from(number))),
                PendingFree::VipEntry(index) => Arc::make_mut(lookup).free_vip(index),
                PendingFree::PortEntry(index) => Arc::make_mut(lookup).free_port(index),
            }
        }
    }
}

/// Closes windows and ends tracking.
fn settle_slots(id: &VirtualService, loaded: &mut LoadedService, scan: &FlowScan, now: u32, writes: &mut Vec<Write>) {
    let number = loaded.number;
    // In this order: the scan compared records with the owners before any window closes.
    let mut slots = loaded
        .slots
        .settle(now, |slot| scan.disagreeing.contains(&(number, slot)));
    // No flow without a record: nothing but the writes to wait for. What has arrived since the counters were read met open windows,
    // and has its record.
    let timeout = if scan.without_traffic.contains(&number) {
        0
    } else {
        loaded.window(id.protocol)
    };
    slots.extend(loaded.slots.close_windows(now, timeout));
    if !slots.is_empty() {
        writes.push(Write::Slots {
            base: loaded.slots_range.base,
            slots,
        });
    }
}

/// Ends the transition of a service that hashed before, once every active flow has a record.
fn end_hashed_transition(id: &VirtualService, loaded: &mut LoadedService, now: u32, writes: &mut Vec<Write>) {
    let timeout = loaded.window(id.protocol);
    let over = |since: &mut u32| elapsed(*since, now) > timeout + GRACE;
    if loaded.recording_since.take_if(over).is_some() {
        writes.push(Write::Service {
            number: loaded.number,
            value: loaded.to_service(),
        });
    }
}

/// Marks drained backends as dead and removes dead ones. A dead backend of a real server that is still configured stays, to
/// keep its counters.
fn remove_drained(id: &VirtualService, loaded: &mut LoadedService, scan: &FlowScan, now: u32, plan: &mut Plan) {
    let slots = &loaded.slots;
    let in_slots = LazyCell::new(|| slots.referenced());
    let indices: Vec<u16> = loaded.members.keys().copied().collect();
    for index in indices {
        let Some(member) = loaded.members.get_mut(&index) else {
            continue;
        };
        let named = scan.backends.contains(&(loaded.number, index));
        let write = match member.state {
            state
                if state.is_usable()
                    && !member.configured
                    && !named
                    && slots.is_quiescent(now)
                    && !in_slots.contains(&index) =>
            {
                member.state = BackendState::Dead { since: now };
                plan.events.push(Event {
                    service: *id,
                    kind: EventKind::Drained(member.address),
                });
                member.to_backend()
            }
            BackendState::Dead { since } if !named && elapsed(since, now) >= GRACE => {
                let member = *member;
                let siblings = || {
                    loaded
                        .members
                        .iter()
                        .filter(|&(&other, _)| other != index)
                        .map(|(_, m)| m)
                };
                if member.configured && !siblings().any(|other| other.address == member.address) {
                    continue;
                }
                if !siblings().any(|other| other.counter == member.counter) {
                    plan.tables
                        .allocations
                        .pending_free
                        .push((now, PendingFree::Counter(member.counter)));
                }
                loaded.members.remove(&index);
                Backend::NONE
            }
            _ => continue,
        };
        plan.writes.push(Write::Backend {
            index: loaded.backends_range.base + u32::from(index),
            value: write,
        });
    }
}
