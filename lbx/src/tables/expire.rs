//! What expires with time: windows close, slots settle, drained and dead backends are removed.

use std::{cell::LazyCell, sync::Arc};

use lbx_common::{backend::Backend, flow::elapsed_ticks, service::Service};

use super::{
    GRACE, MapWrite, PendingFree, Plan, TableEvent, Tables,
    allocate::Range,
    event::TableEventKind,
    scan::FlowScanResult,
    service::{BackendState, LoadedService},
};
use crate::desired::VirtualService;

impl Tables {
    /// Plans what has expired by the tick of a scan of these very tables.
    #[must_use]
    pub fn plan_expiry(&self, scan: &FlowScanResult) -> Plan {
        let now = scan.tick;
        let mut plan = Plan {
            resulting_tables: self.clone(),
            writes: Vec::new(),
            events: Vec::new(),
        };
        for (id, loaded) in &self.services {
            if loaded.has_nothing_to_expire() {
                continue;
            }
            let mut loaded = loaded.as_ref().clone();
            settle_slots(id, &mut loaded, scan, now, &mut plan.writes);
            end_hashed_transition(id, &mut loaded, now, &mut plan.writes);
            remove_drained(id, &mut loaded, scan, now, &mut plan);
            plan.resulting_tables.services.insert(*id, Arc::new(loaded));
        }
        plan.resulting_tables.free_pending(scan, &mut plan.writes);
        plan
    }

    /// Keeps the numbers of removed services from being reused while records name them. A daemon that adopts tables must do
    /// this before it plans.
    pub fn quarantine_service_numbers(&mut self, scan: &FlowScanResult) {
        let allocations = &mut self.allocations;
        for &number in &scan.referenced_services {
            if allocations.services.reserve(Range::one(u32::from(number))) {
                allocations
                    .pending_free
                    .push((scan.tick, PendingFree::ServiceEntry(number)));
                allocations.pending_free.push((scan.tick, PendingFree::Service(number)));
            }
        }
    }

    fn free_pending(&mut self, scan: &FlowScanResult, writes: &mut Vec<MapWrite>) {
        let Self {
            allocations, lookup, ..
        } = self;
        for (since, leaving) in std::mem::take(&mut allocations.pending_free) {
            let still_named =
                matches!(leaving, PendingFree::Service(number) if scan.referenced_services.contains(&number));
            if still_named || elapsed_ticks(since, scan.tick) < GRACE {
                allocations.pending_free.push((since, leaving));
                continue;
            }
            match leaving {
                PendingFree::Slots(range) => allocations.slots.free(range),
                PendingFree::Ring(range) => allocations.rings.free(range),
                PendingFree::Backends(range) => allocations.backends.free(range),
                PendingFree::Counter(counter) => allocations.counters.free(Range::one(counter)),
                PendingFree::ServiceEntry(number) => writes.push(MapWrite::Service {
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
fn settle_slots(
    id: &VirtualService,
    loaded: &mut LoadedService,
    scan: &FlowScanResult,
    now: u32,
    writes: &mut Vec<MapWrite>,
) {
    let number = loaded.service_number;
    // In this order: the scan compared records with the owners before any window closes.
    let mut slots = loaded.slots.clear_has_records(now, |slot| {
        scan.slots_with_disagreeing_records.contains(&(number, slot))
    });
    // No flow without a record: nothing but the writes to wait for. What has arrived since the counters were read met open windows,
    // and has its record.
    let timeout = if scan.services_without_traffic.contains(&number) {
        0
    } else {
        loaded.window_ticks(id.protocol)
    };
    slots.extend(loaded.slots.close_windows(now, timeout));
    if !slots.is_empty() {
        writes.push(MapWrite::Slots {
            base: loaded.slots_range.base,
            slots,
        });
    }
}

/// Ends the transition of a service that hashed before, once every active flow has a record.
fn end_hashed_transition(id: &VirtualService, loaded: &mut LoadedService, now: u32, writes: &mut Vec<MapWrite>) {
    let timeout = loaded.window_ticks(id.protocol);
    let over = |since: &mut u32| elapsed_ticks(*since, now) > timeout + GRACE;
    if loaded.recording_since_tick.take_if(over).is_some() {
        writes.push(MapWrite::Service {
            number: loaded.service_number,
            value: loaded.to_service(),
        });
    }
}

/// Marks drained backends as dead and removes dead ones. A dead backend of a real server that is still configured stays, to
/// keep its counters.
fn remove_drained(id: &VirtualService, loaded: &mut LoadedService, scan: &FlowScanResult, now: u32, plan: &mut Plan) {
    let slots = &loaded.slots;
    let in_slots = LazyCell::new(|| slots.referenced_backends());
    let indices: Vec<u16> = loaded.backends.keys().copied().collect();
    for index in indices {
        let Some(member) = loaded.backends.get_mut(&index) else {
            continue;
        };
        let named = scan.referenced_backends.contains(&(loaded.service_number, index));
        let write = match member.state {
            state
                if state.may_own_flows()
                    && !member.is_configured()
                    && !named
                    && slots.is_grace_period_over(now)
                    && !in_slots.contains(&index) =>
            {
                member.state = BackendState::Dead { since: now };
                plan.events.push(TableEvent {
                    service: *id,
                    kind: TableEventKind::Drained(member.address),
                });
                member.to_backend()
            }
            BackendState::Dead { since } if !named && elapsed_ticks(since, now) >= GRACE => {
                let member = *member;
                let siblings = || {
                    loaded
                        .backends
                        .iter()
                        .filter(|&(&other, _)| other != index)
                        .map(|(_, m)| m)
                };
                if member.is_configured() && !siblings().any(|other| other.address == member.address) {
                    continue;
                }
                if !siblings().any(|other| other.counter_index == member.counter_index) {
                    plan.resulting_tables
                        .allocations
                        .pending_free
                        .push((now, PendingFree::Counter(member.counter_index)));
                }
                loaded.backends.remove(&index);
                Backend::NONE
            }
            _ => continue,
        };
        plan.writes.push(MapWrite::Backend {
            index: loaded.backends_range.base + u32::from(index),
            value: write,
        });
    }
}
