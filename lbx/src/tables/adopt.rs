//! The tables of a daemon that died, read back from its maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use lbx_common::{
    backend::{self, Backend, Head, word_mac},
    service::{HASHED, Service, ServiceKey},
    slot::{self, Slot},
};

use super::{
    Hop, Tables,
    allocate::Range,
    service::{Life, Loaded, Member, virtual_service},
    window::Slots,
};
use crate::desired::Scheduler;

/// The maps, as far as they are read back.
pub trait Maps {
    /// Why a map could not be read.
    type Error;

    /// Every entry of the service map.
    ///
    /// # Errors
    /// The map cannot be read.
    fn services(&self) -> Result<Vec<(ServiceKey, Service)>, Self::Error>;
    /// Every address in the map of VIPs.
    ///
    /// # Errors
    /// The map cannot be read.
    fn vips(&self) -> Result<BTreeSet<IpAddr>, Self::Error>;
    /// The slot at a place; none beyond the table.
    fn slot(&self, place: u32) -> Option<Slot>;
    /// The backend index at a place of the ring table.
    ///
    /// # Errors
    /// The map cannot be read.
    fn ring_entry(&self, place: u32) -> Result<u16, Self::Error>;
    /// The backend at a place; none beyond the table.
    fn backend(&self, place: u32) -> Option<Backend>;
}

/// What was found cannot be adopted.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError<E> {
    /// A map could not be read.
    #[error(transparent)]
    Read(#[from] E),
    /// The tables of a service contradict each other or another's.
    #[error("the tables of service {service:?} are damaged: {what}")]
    Damaged {
        /// Its key in the map.
        service: ServiceKey,
        /// What does not fit.
        what: &'static str,
    },
}

impl Tables {
    /// Reads the tables back. Open windows start again at `now`.
    ///
    /// # Errors
    /// A map cannot be read, or what stands there contradicts itself.
    pub fn adopt<M: Maps>(maps: &M, now: u32) -> Result<Self, AdoptError<M::Error>> {
        let mut tables = Self {
            vips: maps.vips()?,
            ..Self::default()
        };
        for (key, service) in maps.services()? {
            let damaged = |what| AdoptError::Damaged { service: key, what };
            let id = virtual_service(&key).ok_or_else(|| damaged("unknown protocol"))?;
            let loaded = read_service(maps, &service, damaged, now)?;
            tables.claim(&loaded).map_err(damaged)?;
            tables.services.insert(id, Arc::new(loaded));
        }
        Ok(tables)
    }

    /// Marks the places of a service as taken.
    fn claim(&mut self, loaded: &Loaded) -> Result<(), &'static str> {
        let places = &mut self.places;
        let number = Range::one(u32::from(loaded.number));
        for (free, what) in [
            (places.services.reserve(number), "its number is another's"),
            (places.slots.reserve(loaded.slots_range), "its slots are another's"),
            (places.rings.reserve(loaded.ring_range), "its ring is another's"),
            (
                places.backends.reserve(loaded.backends_range),
                "its backends are another's",
            ),
        ] {
            if !free {
                return Err(what);
            }
        }
        for counter in loaded.counters() {
            if !places.counters.reserve(Range::one(counter)) {
                return Err("a counter is another's");
            }
        }
        Ok(())
    }
}

fn read_service<M: Maps>(
    maps: &M,
    service: &Service,
    damaged: impl Fn(&'static str) -> AdoptError<M::Error>,
    now: u32,
) -> Result<Loaded, AdoptError<M::Error>> {
    let scheduler = Scheduler::from_code(service.scheduler).ok_or_else(|| damaged("unknown scheduler"))?;
    let slots: Vec<Slot> = places(service.slots_base, service.slots_len)
        .map(|place| maps.slot(place))
        .collect::<Option<_>>()
        .ok_or_else(|| damaged("its slots lie beyond the table"))?;
    let backends: Vec<Backend> = places(service.backends_base, service.backends_len)
        .map(|place| maps.backend(place))
        .collect::<Option<_>>()
        .ok_or_else(|| damaged("its backends lie beyond the table"))?;
    let ring: Vec<u16> = places(service.ring_base, service.ring_len)
        .map(|place| maps.ring_entry(place))
        .collect::<Result<_, _>>()?;
    let members = (0..slot::NONE)
        .zip(&backends)
        .filter(|(_, backend)| Head::from_word(backend.head).state != backend::FREE)
        .map(|(index, backend)| Some((index, read_member(backend, now)?)))
        .collect::<Option<BTreeMap<u16, Member>>>()
        .ok_or_else(|| damaged("a backend has no IPv4 address"))?;
    Ok(Loaded {
        number: service.number,
        scheduler,
        timeouts: service.timeouts,
        slots_range: Range {
            base: service.slots_base,
            len: service.slots_len,
        },
        slots: Slots::adopted(slots, now),
        ring_range: Range {
            base: service.ring_base,
            len: service.ring_len,
        },
        ring,
        backends_range: Range {
            base: service.backends_base,
            len: service.backends_len,
        },
        members,
        candidates: None,
        hashed_until: (service.flags & HASHED != 0).then_some(now),
    })
}

fn places(base: u32, len: u32) -> impl Iterator<Item = u32> {
    base..base.saturating_add(len)
}

fn read_member(backend: &Backend, now: u32) -> Option<Member> {
    let Head { mac, state } = Head::from_word(backend.head);
    Some(Member {
        address: Ipv6Addr::from(backend.address).to_ipv4_mapped()?.into(),
        weight: backend.weight as u16,
        hop: Hop {
            mac,
            ifindex: backend.ifindex,
            vlan: [0; 2],
            source: word_mac(backend.source),
        },
        counter: backend.counter,
        life: if state == backend::UP {
            Life::Up
        } else {
            Life::Dead { since: now }
        },
        wanted: true,
    })
}
