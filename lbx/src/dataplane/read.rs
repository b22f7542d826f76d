//! Tables, counters and flows read back.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use lbx_common::{
    backend::Backend,
    counters::Traffic,
    drops::DropReason,
    maps,
    service::{Service, ServiceKey},
    slot::Slot,
};

use super::{
    Dataplane, DataplaneError,
    maps::{failed, sum},
};
use crate::tables::{
    Tables,
    adopt::{self, AdoptError},
    census::{Census, Taker, Verdict},
};

/// Words of a backend.
pub(super) const BACKEND_WORDS: usize = size_of::<Backend>() / size_of::<u64>();

impl Dataplane {
    /// The tables as they stand in the maps, at tick `now`.
    ///
    /// # Errors
    /// A map cannot be read, or contradicts another.
    pub fn read_tables(&self, now: u32) -> Result<Tables, AdoptError<DataplaneError>> {
        let mut tables = Tables::adopt(self, now)?;
        tables.quarantine(&self.sweep(&tables, now));
        Ok(tables)
    }

    /// Counts all flows at tick `now` and erases the records nobody needs any more.
    #[must_use]
    pub fn sweep(&self, tables: &Tables, now: u32) -> Census {
        let mut taker = Taker::new(tables, now);
        for record in self.maps.flows.chunks_exact(2) {
            let [a, b] = record else { continue };
            let mut entry = b.load(Ordering::Acquire);
            if entry == 0 {
                continue;
            }
            // Both words of one moment. A record in use changes about once a tick: to leave it out then would let its slot
            // come to rest against it.
            let key = loop {
                let key = a.load(Ordering::Acquire);
                let again = b.load(Ordering::Acquire);
                if again == entry {
                    break key;
                }
                entry = again;
            };
            if taker.visit(key, entry) == Verdict::Erase {
                let _changed_meanwhile = b.compare_exchange(entry, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
        taker.finish()
    }

    /// Records the flow table has room for.
    #[must_use]
    pub fn flow_capacity(&self) -> usize {
        self.maps.flows.len() / 2
    }

    /// What a service number has carried.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn service_traffic(&self, number: u16) -> Result<Traffic, DataplaneError> {
        sum(&self.maps.service_stats, maps::SERVICE_STATS, u32::from(number))
    }

    /// What a backend counter has carried.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn backend_traffic(&self, counter: u32) -> Result<Traffic, DataplaneError> {
        sum(&self.maps.backend_stats, maps::BACKEND_STATS, counter)
    }

    /// Packets dropped for a reason.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn drops(&self, reason: DropReason) -> Result<u64, DataplaneError> {
        sum(&self.maps.drops, maps::DROPS, reason.index())
    }
}

impl adopt::Maps for Dataplane {
    type Error = DataplaneError;

    fn services(&self) -> Result<Vec<(ServiceKey, Service)>, DataplaneError> {
        self.maps
            .services
            .iter()
            .collect::<Result<_, _>>()
            .map_err(failed(maps::SERVICES))
    }

    fn vips(&self) -> Result<BTreeSet<IpAddr>, DataplaneError> {
        let vips = self.maps.vips.keys().map(|vip| vip.map(IpAddr::from));
        vips.collect::<Result<_, _>>().map_err(failed(maps::VIPS))
    }

    fn slot(&self, place: u32) -> Option<Slot> {
        let word: &AtomicU64 = self.maps.slots.get(place as usize)?;
        Some(Slot::from_word(word.load(Ordering::Acquire)))
    }

    fn ring_entry(&self, place: u32) -> Result<u16, DataplaneError> {
        let entry = self.maps.rings.get(&place, 0).map_err(failed(maps::RINGS))?;
        Ok(entry as u16)
    }

    fn backend(&self, place: u32) -> Option<Backend> {
        let start = place as usize * BACKEND_WORDS;
        let words = self.maps.backends.get(start..start + BACKEND_WORDS)?;
        let mut values = [0; BACKEND_WORDS];
        for (value, word) in values.iter_mut().zip(words) {
            *value = word.load(Ordering::Acquire);
        }
        Some(Backend::from_words(values))
    }
}
