//! The plan: the writes that take the loaded tables to the desired state.

mod error;
mod lookup;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lbx_common::backend::Backend;

use super::{
    Allocations, MapWrite, NextHop, NextHops, PendingFree, TableEvent, Tables,
    allocate::{Range, TableFull},
    event::TableEventKind,
    flow_policy::{FlowPolicy, hash_input_flags},
    service::{self, DesiredServer, DesiredServers, LoadedBackend, LoadedService, desired_servers},
    window::{Changes, Slots},
};
use crate::{
    desired::{DesiredState, Service, VirtualService},
    schedule::Candidate,
};

pub use self::error::PlanError;

/// The writes that take the loaded tables to the desired state.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The tables after all writes.
    pub resulting_tables: Tables,
    /// The writes, in order: nothing is referenced before it is written, and nothing is removed while it is referenced.
    pub writes: Vec<MapWrite>,
    /// The events to log.
    pub events: Vec<TableEvent>,
}

/// The capacity to allocate for so many backends: some spare, so that a backend that fails and comes back needs no new range.
pub(super) const fn capacity_for(backends: u32) -> u32 {
    backends + backends / 4 + 1
}

impl Tables {
    /// Plans the writes to the desired state with these next hops, at tick `now`. `self` stays as it is.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn plan(&self, desired: &DesiredState, next_hops: &NextHops, now: u32) -> Result<Plan, PlanError> {
        let mut planner = Planner {
            tables: self.clone(),
            writes: Vec::new(),
            events: Vec::new(),
            now,
        };
        let wanted = by_identity(desired);
        planner.rename(desired);
        planner.remove_unwanted(&wanted);
        for (&id, service) in &wanted {
            planner.update(id, service, FlowPolicy::of(service, &desired.timeouts), next_hops)?;
        }
        if !planner.tables.lookup_current {
            planner.update_lookup()?;
        }
        Ok(Plan {
            resulting_tables: planner.tables,
            writes: planner.writes,
            events: planner.events,
        })
    }

    /// The former identity of every desired service that is loaded and whose first port has changed: it is recognised by a port
    /// that it still has.
    #[must_use]
    pub fn former_identities(&self, desired: &DesiredState) -> BTreeMap<VirtualService, VirtualService> {
        let (wanted, services) = (by_identity(desired), &self.services);
        let mut renamed = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for (&id, service) in wanted.iter().filter(|(id, _)| !services.contains_key(id)) {
            let same = services.iter().find(|&(former, loaded)| {
                former.vip == id.vip
                    && former.protocol == id.protocol
                    && !wanted.contains_key(former)
                    && !taken.contains(former)
                    && service.ports.overlaps(&loaded.ports)
            });
            if let Some((&former, _)) = same {
                taken.insert(former);
                renamed.insert(id, former);
            }
        }
        renamed
    }
}

fn by_identity(desired: &DesiredState) -> BTreeMap<VirtualService, &Service> {
    let services = desired.services.iter();
    services.map(|service| (service.virtual_service, service)).collect()
}

struct Planner {
    tables: Tables,
    writes: Vec<MapWrite>,
    events: Vec<TableEvent>,
    now: u32,
}

impl Planner {
    fn emit(&mut self, service: VirtualService, kind: TableEventKind) {
        self.events.push(TableEvent { service, kind });
    }

    fn allocations(&mut self) -> &mut Allocations {
        &mut self.tables.allocations
    }

    fn free_later(&mut self, leaving: PendingFree) {
        let now = self.now;
        self.allocations().pending_free.push((now, leaving));
    }

    /// Gives services whose first port changed their new identity.
    fn rename(&mut self, desired: &DesiredState) {
        for (id, former) in self.tables.former_identities(desired) {
            if let Some(loaded) = self.tables.services.remove(&former) {
                self.tables.services.insert(id, loaded);
                self.tables.lookup_current = false;
            }
        }
    }

    fn remove_unwanted(&mut self, wanted: &BTreeMap<VirtualService, &Service>) {
        let unwanted: Vec<_> = self
            .tables
            .services
            .keys()
            .filter(|id| !wanted.contains_key(id))
            .copied()
            .collect();
        for id in unwanted {
            let Some(loaded) = self.tables.services.remove(&id) else {
                continue;
            };
            self.tables.lookup_current = false;
            for &id in loaded.backends_by_quic_id.keys() {
                self.write_quic_id(loaded.service_number, id, None);
            }
            self.free_later(PendingFree::ServiceEntry(loaded.service_number));
            self.free_later(PendingFree::Slots(loaded.slots_range));
            self.free_later(PendingFree::Ring(loaded.scheduler_ring_range));
            self.free_later(PendingFree::Backends(loaded.backends_range));
            for counter in loaded.counter_indices() {
                self.free_later(PendingFree::Counter(counter));
            }
            self.free_later(PendingFree::Service(loaded.service_number));
            self.emit(id, TableEventKind::ServiceRemoved);
        }
    }

    /// A new service with its ranges allocated and empty. Packets find it only once its entry in the service map is written.
    fn create(
        &mut self,
        id: VirtualService,
        service: &Service,
        policy: FlowPolicy,
    ) -> Result<LoadedService, TableFull> {
        let number = self.allocations().services.allocate_one()? as u16;
        let slots_range = self.allocations().slots.allocate(service::slot_count(service))?;
        let backends_range = self
            .allocations()
            .backends
            .allocate(capacity_for(desired_servers(service).len() as u32))?;
        self.writes.push(MapWrite::ResetServiceCounters(number));
        self.emit(id, TableEventKind::ServiceAdded(service.scheduler));
        let loaded = LoadedService {
            service_number: number,
            ports: service.ports.clone(),
            policy,
            hash_input_flags: hash_input_flags(service).unwrap_or_default(),
            slots_range,
            slots: Slots::from_table(&[], self.now),
            scheduler_ring_range: Range::default(),
            ring: Vec::new(),
            backends_range,
            backends: BTreeMap::new(),
            backends_by_quic_id: BTreeMap::new(),
            candidates: None,
            recording_since_tick: None,
        };
        self.write_backends(&loaded);
        Ok(loaded)
    }

    /// Updates one service to the desired state.
    fn update(
        &mut self,
        id: VirtualService,
        service: &Service,
        policy: FlowPolicy,
        next_hops: &NextHops,
    ) -> Result<(), PlanError> {
        let present = self.tables.services.get(&id).cloned();
        if let Some(loaded) = &present {
            resized(id, service, loaded)?;
            if loaded.is_up_to_date(service, &policy, next_hops, self.now) {
                return Ok(());
            }
        }
        let new = present.is_none();
        let mut loaded = match present {
            Some(loaded) => loaded.as_ref().clone(),
            None => self.create(id, service, policy)?,
        };
        if new || loaded.ports != service.ports {
            loaded.ports = service.ports.clone();
            self.tables.lookup_current = false;
        }
        let servers = desired_servers(service);
        let missing = loaded.missing_backends(&servers, next_hops);
        self.grow_backends(&mut loaded, missing.len())?;
        let before = loaded.to_service();
        let (changed, events) = loaded.update_backends(&DesiredServers::of(service), next_hops, self.now);
        for kind in events {
            self.emit(id, kind);
        }
        let (taking, leaving): (Vec<u16>, Vec<u16>) =
            changed.iter().partition(|&&index| loaded.accepts_connections(index));
        self.write_members(&loaded, &taking);
        self.add_members(id, &mut loaded, missing)?;
        self.apply_policy(id, &mut loaded, service, policy)?;
        let candidates = loaded.candidates(&servers);
        self.replace_ring(&mut loaded, &candidates)?;
        let slots = if new {
            loaded.init_slots(&candidates, self.now)
        } else {
            loaded.update_slots(&candidates, self.now)
        };
        loaded.candidates = Some(candidates);
        self.write_slots(&loaded, slots);
        if new || loaded.to_service() != before {
            self.write_service(&loaded);
        }
        self.update_quic_ids(&mut loaded, &servers);
        // Dead and draining backends are written last: slots and ring may have named only them until here.
        self.write_members(&loaded, &leaving);
        self.tables.services.insert(id, Arc::new(loaded));
        Ok(())
    }

    /// Adds a backend for every configured real server that has a next hop and no backend.
    fn add_members(
        &mut self,
        id: VirtualService,
        loaded: &mut LoadedService,
        missing: Vec<(DesiredServer, NextHop)>,
    ) -> Result<(), TableFull> {
        for (server, next_hop) in missing {
            let counter = match loaded.previous_counter_index(server.address) {
                Some(counter) => counter,
                None => {
                    let counter = self.allocations().counters.allocate_one()?;
                    self.writes.push(MapWrite::ResetBackendCounters(counter));
                    counter
                }
            };
            let index = loaded.unused_backend_index();
            let member = LoadedBackend::new(&server, next_hop, counter);
            loaded.backends.insert(index, member);
            self.write_members(loaded, &[index]);
            self.emit(
                id,
                TableEventKind::ServerUp {
                    server: server.address,
                    weight: server.weight,
                    mac: next_hop.mac,
                },
            );
        }
        Ok(())
    }

    /// Moves the backends of a service to a larger range. Their indices stay. The service is written at once: what comes later
    /// in the plan may name an index beyond the old range.
    fn grow_backends(&mut self, loaded: &mut LoadedService, more: usize) -> Result<(), TableFull> {
        let needed = (loaded.backends.len() + more) as u32;
        if needed <= loaded.backends_range.len {
            return Ok(());
        }
        let range = self.allocations().backends.allocate(capacity_for(needed))?;
        self.free_later(PendingFree::Backends(loaded.backends_range));
        loaded.backends_range = range;
        self.write_backends(loaded);
        self.write_service(loaded);
        Ok(())
    }

    /// Replaces the ring, in a range that no packet reads until the service itself is written.
    fn replace_ring(&mut self, loaded: &mut LoadedService, candidates: &[Candidate]) -> Result<(), TableFull> {
        let ring = loaded.desired_ring(candidates);
        if ring == loaded.ring {
            return Ok(());
        }
        let range = self.allocations().rings.allocate(ring.len() as u32)?;
        self.free_later(PendingFree::Ring(loaded.scheduler_ring_range));
        loaded.scheduler_ring_range = range;
        loaded.ring.clone_from(&ring);
        loaded.slots.restart_grace_period(self.now);
        if !ring.is_empty() {
            self.writes.push(MapWrite::Ring {
                base: range.base,
                entries: ring,
            });
        }
        Ok(())
    }

    /// Changes the flow policy. Slots stay: every scheduler has the same ones. Going from recorded flows to hashed
    /// ones, records may disagree with any slot. Going the other way, flows without a record stay with the slots' owners for
    /// one idle timeout: until then the mapping stays. (A TCP packet shows whether its flow is new, a datagram does
    /// not.)
    fn apply_policy(
        &mut self,
        id: VirtualService,
        loaded: &mut LoadedService,
        service: &Service,
        policy: FlowPolicy,
    ) -> Result<(), PlanError> {
        let remapped = loaded
            .set_hash_input_flags(hash_input_flags(service))
            .map_err(|_| PlanError::HashInputChanged(id))?;
        match (loaded.records_all(), policy.records_all()) {
            (true, false) => {
                loaded.recording_since_tick = None;
                let slots = loaded.slots.mark_all_has_records(self.now);
                self.write_slots(loaded, slots);
            }
            (false, true) => loaded.recording_since_tick = Some(self.now),
            _ if remapped => {
                let slots = loaded.slots.mark_all_has_records(self.now);
                self.write_slots(loaded, slots);
            }
            _ => {}
        }
        if loaded.policy.scheduler != policy.scheduler {
            self.emit(id, TableEventKind::SchedulerChanged(policy.scheduler));
        }
        loaded.policy = policy;
        Ok(())
    }

    fn write_service(&mut self, loaded: &LoadedService) {
        self.writes.push(MapWrite::Service {
            number: loaded.service_number,
            value: loaded.to_service(),
        });
    }

    /// Writes the whole range of a service's backends, so that no former entry is taken for one of them.
    fn write_backends(&mut self, loaded: &LoadedService) {
        let range = loaded.backends_range;
        self.writes.extend((0..range.len).map(|index| {
            let member = u16::try_from(index).ok().and_then(|index| loaded.backends.get(&index));
            MapWrite::Backend {
                index: range.base + index,
                value: member.map_or(Backend::NONE, LoadedBackend::to_backend),
            }
        }));
    }

    fn write_members(&mut self, loaded: &LoadedService, indices: &[u16]) {
        for index in indices {
            if let Some(member) = loaded.backends.get(index) {
                self.writes.push(MapWrite::Backend {
                    index: loaded.backends_range.base + u32::from(*index),
                    value: member.to_backend(),
                });
            }
        }
    }

    fn write_slots(&mut self, loaded: &LoadedService, slots: Changes) {
        if !slots.is_empty() {
            self.writes.push(MapWrite::Slots {
                base: loaded.slots_range.base,
                slots,
            });
        }
    }
}

/// Checks that the number of slots stays, unless the file leaves it to the weights.
fn resized(id: VirtualService, service: &Service, loaded: &LoadedService) -> Result<(), PlanError> {
    match service.slots {
        Some(wanted) if wanted != loaded.slots_range.len => Err(PlanError::SlotCountChanged {
            service: id,
            loaded: loaded.slots_range.len,
            wanted,
        }),
        _ => Ok(()),
    }
}
