//! The plan: from what is loaded to what is wanted.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use lbx_common::backend::Backend;

use super::{
    Event, Hop, Hops, Leaving, Places, Tables, Write,
    allocate::{Full, Range},
    event::What,
    service::{self, Life, Loaded, Member, key},
    window::{Changes, Slots},
};
use crate::{
    desired::{Desired, Protocol, RealServer, Service, VirtualService},
    schedule::Candidate,
};

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

/// Room for so many backends: a few more than there are, so that whoever fails and comes back needs no other place.
pub(super) const fn room(backends: u32) -> u32 {
    backends + backends / 4 + 1
}

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
        for (&id, service) in &wanted {
            planner.update(id, service, timeouts, hops)?;
        }
        planner.follow_vips(wanted.keys().map(|service| service.vip).collect());
        Ok(Plan {
            tables: planner.tables,
            writes: planner.writes,
            events: planner.events,
        })
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

    fn follow_vips(&mut self, wanted: BTreeSet<IpAddr>) {
        let before = std::mem::replace(&mut self.tables.vips, wanted);
        let after = &self.tables.vips;
        self.writes.extend(after.difference(&before).copied().map(Write::Vip));
        self.writes
            .extend(before.difference(after).copied().map(Write::RemoveVip));
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
            for counter in loaded.counters() {
                self.leave(Leaving::Counter(counter));
            }
            self.leave(Leaving::Service(loaded.number));
            self.tell(id, What::ServiceRemoved);
        }
    }

    /// A service with places and nothing in them. It becomes one only when its entry in the service map is written.
    fn create(&mut self, id: VirtualService, service: &Service) -> Result<Loaded, Full> {
        let number = self.places().services.take_one()? as u16;
        let slots_range = self.places().slots.take(service::slot_count(service))?;
        let backends_range = self.places().backends.take(room(service.servers.len() as u32))?;
        self.writes.push(Write::ResetService(number));
        self.tell(id, What::ServiceAdded(service.scheduler));
        let loaded = Loaded {
            number,
            scheduler: service.scheduler,
            timeouts: service::ticks(&crate::desired::Timeouts::default()),
            slots_range,
            slots: Slots::resting(&[], self.now),
            ring_range: Range::default(),
            ring: Vec::new(),
            backends_range,
            members: BTreeMap::new(),
            candidates: None,
            hashed_until: None,
        };
        self.write_backends(&loaded);
        Ok(loaded)
    }

    /// Brings one service to what is wanted.
    fn update(
        &mut self,
        id: VirtualService,
        service: &Service,
        timeouts: lbx_common::service::Timeouts,
        hops: &Hops,
    ) -> Result<(), Full> {
        let standing = self.tables.services.get(&id).cloned();
        if standing
            .as_ref()
            .is_some_and(|loaded| loaded.fits(service, timeouts, hops))
        {
            return Ok(());
        }
        let new = standing.is_none();
        let mut loaded = match standing {
            Some(loaded) => loaded.as_ref().clone(),
            None => self.create(id, service)?,
        };
        let missing = loaded.missing(&service.servers, hops);
        self.make_room(id, &mut loaded, missing.len())?;
        let before = loaded.to_service();
        let (changed, told) = loaded.settle_members(&service.servers, hops, self.now);
        for what in told {
            self.tell(id, what);
        }
        let (living, dead): (Vec<u16>, Vec<u16>) = changed.iter().partition(|&&index| loaded.usable(index));
        self.write_members(&loaded, &living);
        self.add_members(id, &mut loaded, missing)?;
        loaded.timeouts = timeouts;
        self.reschedule(id, &mut loaded, service);
        let candidates = loaded.candidates(&service.servers);
        self.turn_ring(&mut loaded, &candidates)?;
        let slots = if new {
            loaded.begin(&candidates, self.now)
        } else {
            loaded.follow(&candidates, self.now)
        };
        loaded.candidates = Some(candidates);
        self.write_slots(&loaded, slots);
        if new || loaded.to_service() != before {
            self.write_service(id, &loaded);
        }
        // The dead come last: until here slots and ring may have led to them.
        self.write_members(&loaded, &dead);
        self.tables.services.insert(id, Arc::new(loaded));
        Ok(())
    }

    /// Gives every wanted real server that has a hop and no backend a backend.
    fn add_members(
        &mut self,
        id: VirtualService,
        loaded: &mut Loaded,
        missing: Vec<(RealServer, Hop)>,
    ) -> Result<(), Full> {
        for (RealServer { address, weight, .. }, hop) in missing {
            let counter = match loaded.former_counter(address) {
                Some(counter) => counter,
                None => {
                    let counter = self.places().counters.take_one()?;
                    self.writes.push(Write::ResetBackend(counter));
                    counter
                }
            };
            let index = loaded.free_index();
            let member = Member {
                address,
                weight,
                hop,
                counter,
                life: Life::Up,
                wanted: true,
            };
            loaded.members.insert(index, member);
            self.write_members(loaded, &[index]);
            self.tell(
                id,
                What::ServerUp {
                    server: address,
                    weight,
                    mac: hop.mac,
                },
            );
        }
        Ok(())
    }

    /// Moves the backends of a service to where there is room for more. Indices stay. Packets follow at once: what comes
    /// later in the plan may name an index the old place has no room for.
    fn make_room(&mut self, id: VirtualService, loaded: &mut Loaded, more: usize) -> Result<(), Full> {
        let needed = (loaded.members.len() + more) as u32;
        if needed <= loaded.backends_range.len {
            return Ok(());
        }
        let range = self.places().backends.take(room(needed))?;
        self.leave(Leaving::Backends(loaded.backends_range));
        loaded.backends_range = range;
        self.write_backends(loaded);
        self.write_service(id, loaded);
        Ok(())
    }

    /// Gives the service another ring, in places no packet looks at until the service itself is written.
    fn turn_ring(&mut self, loaded: &mut Loaded, candidates: &[Candidate]) -> Result<(), Full> {
        let ring = loaded.due_ring(candidates);
        if ring == loaded.ring {
            return Ok(());
        }
        let range = self.places().rings.take(ring.len() as u32)?;
        self.leave(Leaving::Ring(loaded.ring_range));
        loaded.ring_range = range;
        loaded.ring.clone_from(&ring);
        loaded.slots.stir(self.now);
        if !ring.is_empty() {
            self.writes.push(Write::Ring {
                base: range.base,
                entries: ring,
            });
        }
        Ok(())
    }

    /// Changes the scheduler. Slots stay: every scheduler has the same ones. Going from recorded flows to hashed ones,
    /// records may disagree with any slot. Going the other way, flows without a record stay with the slots' owners: those of
    /// TCP show by their packets that they are not new, those of UDP get one idle timeout.
    fn reschedule(&mut self, id: VirtualService, loaded: &mut Loaded, service: &Service) {
        if loaded.scheduler == service.scheduler {
            return;
        }
        match (loaded.records_all(), service.records_all()) {
            (true, false) => {
                loaded.hashed_until = None;
                let slots = loaded.slots.track_all(self.now);
                self.write_slots(loaded, slots);
            }
            (false, true) if id.protocol == Protocol::Udp => loaded.hashed_until = Some(self.now),
            _ => {}
        }
        loaded.scheduler = service.scheduler;
        self.tell(id, What::Rescheduled(service.scheduler));
    }

    fn write_service(&mut self, id: VirtualService, loaded: &Loaded) {
        self.writes.push(Write::Service {
            key: key(&id),
            value: loaded.to_service(),
        });
    }

    /// All places of a service's backends: whoever was there before must not be taken for one of them.
    fn write_backends(&mut self, loaded: &Loaded) {
        let range = loaded.backends_range;
        self.writes.extend((0..range.len).map(|index| {
            let member = u16::try_from(index).ok().and_then(|index| loaded.members.get(&index));
            Write::Backend {
                place: range.base + index,
                value: member.map_or(Backend::NONE, Member::to_backend),
            }
        }));
    }

    fn write_members(&mut self, loaded: &Loaded, indices: &[u16]) {
        for index in indices {
            if let Some(member) = loaded.members.get(index) {
                self.writes.push(Write::Backend {
                    place: loaded.backends_range.base + u32::from(*index),
                    value: member.to_backend(),
                });
            }
        }
    }

    fn write_slots(&mut self, loaded: &Loaded, slots: Changes) {
        if !slots.is_empty() {
            self.writes.push(Write::Slots {
                base: loaded.slots_range.base,
                slots,
            });
        }
    }
}
