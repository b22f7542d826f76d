//! The plan: from what is loaded to what is wanted.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use lbx_common::{backend::Backend, slot};

use super::{
    Event, Hops, Leaving, Places, Tables, Write,
    allocate::{Full, Range},
    event::What,
    service::{self, Life, Loaded, Member, key},
    window::Slots,
};
use crate::desired::{Desired, RealServer, Service, VirtualService};

/// The way from what is loaded to what is wanted.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What will be loaded once all writes are done.
    pub tables: Tables,
    /// The writes, in order: nothing is pointed to before it stands, and nothing goes while it is pointed to.
    pub writes: Vec<Write>,
    /// What there is to tell.
    pub events: Vec<Event>,
}

/// Room for backends a service gets beyond those it starts with.
const SPARE_BACKENDS: u32 = 8;

impl Tables {
    /// Plans the way to the desired state with the hops there are, at tick `now`. `self` is left as it is.
    ///
    /// # Errors
    /// A table has no room for what is wanted.
    pub fn plan(&self, desired: &Desired, hops: &Hops, now: u32) -> Result<Plan, Full> {
        let mut planner = Planner {
            tables: self.clone(),
            writes: Vec::new(),
            events: Vec::new(),
            now,
        };
        let wanted: BTreeMap<VirtualService, &Service> = desired
            .services
            .iter()
            .map(|service| (service.virtual_service, service))
            .collect();
        let timeouts = service::ticks(&desired.timeouts);
        planner.remove_unwanted(&wanted);
        let before = self.vips();
        let after: BTreeSet<Ipv4Addr> = wanted.keys().map(|service| service.vip).collect();
        for (&id, service) in &wanted {
            let loaded = match planner.tables.services.get(&id) {
                Some(loaded) => loaded.as_ref().clone(),
                None => planner.create(id, service)?,
            };
            planner.update(id, loaded, service, timeouts, hops)?;
        }
        planner
            .writes
            .extend(after.difference(&before).map(|&vip| Write::Vip(vip)));
        planner
            .writes
            .extend(before.difference(&after).map(|&vip| Write::RemoveVip(vip)));
        Ok(Plan {
            tables: planner.tables,
            writes: planner.writes,
            events: planner.events,
        })
    }

    /// The VIPs of all loaded services.
    #[must_use]
    pub fn vips(&self) -> BTreeSet<Ipv4Addr> {
        self.services.keys().map(|service| service.vip).collect()
    }
}

struct Planner {
    tables: Tables,
    writes: Vec<Write>,
    events: Vec<Event>,
    now: u32,
}

impl Planner {
    fn tell(&mut self, service: VirtualService, what: What) {
        self.events.push(Event { service, what });
    }

    fn places(&mut self) -> &mut Places {
        &mut self.tables.places
    }

    fn leave(&mut self, leaving: Leaving) {
        let now = self.now;
        self.places().leaving.push((now, leaving));
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
            self.writes.push(Write::RemoveService(key(&id)));
            self.leave(Leaving::Slots(loaded.slots_range));
            self.leave(Leaving::Ring(loaded.ring_range));
            self.leave(Leaving::Backends(loaded.backends_range));
            let counters: BTreeSet<u32> = loaded.members.values().map(|member| member.counter).collect();
            for counter in counters {
                self.leave(Leaving::Counter(counter));
            }
            self.leave(Leaving::Service(loaded.number));
            self.tell(id, What::ServiceRemoved);
        }
    }

    /// A service with places and nothing in them: everybody's owner is nobody.
    fn create(&mut self, id: VirtualService, service: &Service) -> Result<Loaded, Full> {
        let number = self.places().services.take()? as u16;
        let slots_range = self.places().slots.take(service::slot_count(service))?;
        let servers = service.servers.len() as u32;
        let backends_range = self.places().backends.take(2 * servers + SPARE_BACKENDS)?;
        let slots = Slots::resting(&vec![slot::NONE; slots_range.len as usize], self.now);
        self.writes.push(Write::ResetService(number));
        self.writes.push(Write::Slots {
            base: slots_range.base,
            slots: (0..).zip(slots.as_slice().iter().copied()).collect(),
        });
        // Whoever was there before must not be taken for a backend of this service.
        self.writes.extend((0..backends_range.len).map(|index| Write::Backend {
            place: backends_range.base + index,
            value: Backend::NONE,
        }));
        self.tell(id, What::ServiceAdded(service.scheduler));
        Ok(Loaded {
            number,
            scheduler: service.scheduler,
            timeouts: service::ticks(&crate::desired::Timeouts::default()),
            slots_range,
            slots,
            ring_range: Range::default(),
            ring: Vec::new(),
            backends_range,
            members: BTreeMap::new(),
        })
    }

    /// Brings one service to what is wanted.
    fn update(
        &mut self,
        id: VirtualService,
        mut loaded: Loaded,
        service: &Service,
        timeouts: lbx_common::service::Timeouts,
        hops: &Hops,
    ) -> Result<(), Full> {
        let new = !self.tables.services.contains_key(&id);
        let before = loaded.to_service();
        loaded.timeouts = timeouts;
        let (changed, told) = loaded.settle_members(&service.servers, hops, self.now);
        for what in told {
            self.tell(id, what);
        }
        let dead = |loaded: &Loaded, index: &u16| !loaded.usable(*index);
        for &index in changed.iter().filter(|index| !dead(&loaded, index)) {
            self.write_member(&loaded, index);
        }
        self.add_members(id, &mut loaded, &service.servers, hops)?;
        self.reschedule(id, &mut loaded, service);
        let candidates = loaded.candidates(&service.servers);
        self.turn_ring(&mut loaded, service::ring(service.scheduler, &candidates))?;
        let slots = loaded.follow(&candidates, self.now);
        self.write_slots(&loaded, slots);
        if new || loaded.to_service() != before {
            self.writes.push(Write::Service {
                key: key(&id),
                value: loaded.to_service(),
            });
        }
        // The dead come last: until here slots and ring may have led to them.
        for &index in changed.iter().filter(|index| dead(&loaded, index)) {
            self.write_member(&loaded, index);
        }
        self.tables.services.insert(id, Arc::new(loaded));
        Ok(())
    }

    /// Gives every wanted real server that has a hop and no backend a backend.
    fn add_members(
        &mut self,
        id: VirtualService,
        loaded: &mut Loaded,
        wanted: &[RealServer],
        hops: &Hops,
    ) -> Result<(), Full> {
        for server in wanted {
            let Some(&hop) = hops.get(&server.address) else {
                continue;
            };
            if loaded.up(server.address).is_some() {
                continue;
            }
            let counter = match loaded.former_counter(server.address) {
                Some(counter) => counter,
                None => {
                    let counter = self.places().counters.take()?;
                    self.writes.push(Write::ResetBackend(counter));
                    counter
                }
            };
            let index = loaded.free_index();
            if u32::from(index) >= loaded.backends_range.len {
                self.enlarge(loaded)?;
            }
            let member = Member {
                address: server.address,
                weight: server.weight,
                hop,
                counter,
                life: Life::Up,
                wanted: true,
            };
            loaded.members.insert(index, member);
            self.write_member(loaded, index);
            self.tell(
                id,
                What::ServerUp {
                    server: server.address,
                    weight: server.weight,
                    mac: hop.mac,
                },
            );
        }
        Ok(())
    }

    /// Moves the backends of a service to a place with twice the room. Indices stay.
    fn enlarge(&mut self, loaded: &mut Loaded) -> Result<(), Full> {
        let len = loaded.backends_range.len * 2 + SPARE_BACKENDS;
        let range = self.places().backends.take(len)?;
        self.leave(Leaving::Backends(loaded.backends_range));
        loaded.backends_range = range;
        for index in 0..range.len {
            let member = u16::try_from(index).ok().and_then(|index| loaded.members.get(&index));
            self.writes.push(Write::Backend {
                place: range.base + index,
                value: member.map_or(Backend::NONE, Member::to_backend),
            });
        }
        Ok(())
    }

    /// Changes the scheduler. Slots stay: every scheduler has the same ones. Going from recorded flows to hashed ones,
    /// records may disagree with any slot.
    fn reschedule(&mut self, id: VirtualService, loaded: &mut Loaded, service: &Service) {
        if loaded.scheduler == service.scheduler {
            return;
        }
        if loaded.scheduler.records_all() && !service.scheduler.records_all() {
            let slots = loaded.slots.track_all(self.now);
            self.write_slots(loaded, slots);
        }
        loaded.scheduler = service.scheduler;
        self.tell(id, What::Rescheduled(service.scheduler));
    }

    /// Gives the service another ring, in places no packet looks at until the service itself is written.
    fn turn_ring(&mut self, loaded: &mut Loaded, ring: Vec<u16>) -> Result<(), Full> {
        if ring == loaded.ring {
            return Ok(());
        }
        let range = self.places().rings.take(ring.len() as u32)?;
        self.leave(Leaving::Ring(loaded.ring_range));
        loaded.ring_range = range;
        loaded.ring.clone_from(&ring);
        if !ring.is_empty() {
            self.writes.push(Write::Ring {
                base: range.base,
                entries: ring,
            });
        }
        Ok(())
    }

    fn write_member(&mut self, loaded: &Loaded, index: u16) {
        if let Some(member) = loaded.members.get(&index) {
            self.writes.push(Write::Backend {
                place: loaded.backends_range.base + u32::from(index),
                value: member.to_backend(),
            });
        }
    }

    fn write_slots(&mut self, loaded: &Loaded, slots: super::window::Changes) {
        if !slots.is_empty() {
            self.writes.push(Write::Slots {
                base: loaded.slots_range.base,
                slots,
            });
        }
    }
}
