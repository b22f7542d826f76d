//! Tables, counters and flows read back.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering},
};

use lbx_common::{
    address::Address,
    backend::Backend,
    counters::Traffic,
    drops::DropReason,
    flow::{FlowEntry, FlowKey, KEY_WORDS4, KEY_WORDS6},
    load::{self, BackendLoad},
    lookup::{PortEntry, VipEntry},
    maps,
    ring::RingEntry,
    routed_replies::{OVER_IPV4, OVER_IPV6, RoutedReplies},
    service::Service,
    slot::Slot,
};

use super::{Dataplane, DataplaneError, error::map_failed, mapped::MmapArray, maps::sum};
use crate::tables::{
    MapParameters, Tables,
    adopt::{self, AdoptError},
    scan::{FlowScanResult, FlowScanner, RecordAction},
};

/// Words of a backend.
pub(super) const BACKEND_WORDS: usize = size_of::<Backend>() / size_of::<u64>();

impl Dataplane {
    /// Empty tables, for new maps.
    #[must_use]
    pub fn empty_tables(&self) -> Tables {
        Tables::new(&adopt::MapReader::layout(self))
    }

    /// The tables as they are in the maps, at tick `now`.
    ///
    /// # Errors
    /// A map cannot be read, or contradicts another.
    pub fn read_tables(&self, now: u32) -> Result<Tables, AdoptError<DataplaneError>> {
        let mut tables = Tables::adopt(self, now)?;
        tables.quarantine_service_numbers(&self.sweep_flows(&tables, now));
        Ok(tables)
    }

    /// Counts all flows at tick `now`, erases expired records and re-arms templates of which a connection lives.
    #[must_use]
    pub fn sweep_flows(&self, tables: &Tables, now: u32) -> FlowScanResult {
        let mut scanner = FlowScanner::new(tables, now);
        let mut expiring = Vec::new();
        if scanner.expects_templates() {
            self.for_each_record(|word, key, entry| {
                if scanner.add_expiring_template(key, entry) {
                    expiring.push((word, key, entry));
                }
            });
        }
        self.for_each_record(|word, key, entry| {
            let action = scanner.visit(key, entry);
            self.execute_action(&scanner, action, word, key, entry);
        });
        for (word, key, entry) in expiring {
            let action = scanner.template_action(key, entry);
            self.execute_action(&scanner, action, word, key, entry);
        }
        scanner.finish()
    }

    /// Visits all records that are not empty: the word of the entry, the key, the entry.
    fn for_each_record<'m>(&'m self, mut visit: impl FnMut(&'m AtomicU64, FlowKey, FlowEntry)) {
        let (records, _) = self.maps.flows4.as_chunks::<{ KEY_WORDS4 + 1 }>();
        for [key, word] in records {
            if let Some((key, entry)) = read_record(word, || FlowKey::from_word(key.load(Ordering::Acquire))) {
                visit(word, key, entry);
            }
        }
        let (records, _) = self.maps.flows6.as_chunks::<{ KEY_WORDS6 + 1 }>();
        for [high, low, rest, word] in records {
            let key = || FlowKey::from_words([high, low, rest].map(|word| word.load(Ordering::Acquire)));
            if let Some((key, entry)) = read_record(word, key) {
                visit(word, key, entry);
            }
        }
    }

    /// Replaces or erases a record, if it has not changed since: then it is newer.
    fn execute_action(
        &self,
        scanner: &FlowScanner<'_>,
        action: RecordAction,
        word: &AtomicU64,
        key: FlowKey,
        entry: FlowEntry,
    ) {
        let after = match action {
            RecordAction::Keep => return,
            RecordAction::Erase => 0,
            RecordAction::Rearm(re_armed) => re_armed.to_word(),
        };
        let replaced = word.compare_exchange(entry.to_word(), after, Ordering::AcqRel, Ordering::Relaxed);
        // Erasing a record takes it off its backend's load too.
        if replaced.is_ok()
            && action == RecordAction::Erase
            && let Some(counter) = scanner.counter_index(key, entry)
            && let Some(load) = self.maps.backend_loads.get(counter as usize * load::LOAD_WORDS)
        {
            load.fetch_sub(load::increment_of_state(entry.state), Ordering::Relaxed);
        }
    }

    /// Capacity of the flow tables in records: IPv4, IPv6.
    #[must_use]
    pub fn flow_capacity(&self) -> (usize, usize) {
        (
            self.maps.flows4.len() / (KEY_WORDS4 + 1),
            self.maps.flows6.len() / (KEY_WORDS6 + 1),
        )
    }

    /// Connections of a backend counter, as the program counts them.
    #[must_use]
    pub fn backend_load(&self, counter: u32) -> BackendLoad {
        let word = self.maps.backend_loads.get(counter as usize * load::LOAD_WORDS);
        BackendLoad::from_word(word.map_or(0, |word| word.load(Ordering::Relaxed)))
    }

    /// Traffic of a service number.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn service_traffic(&self, number: u16) -> Result<Traffic, DataplaneError> {
        sum(&self.maps.service_stats, maps::SERVICE_STATS, u32::from(number))
    }

    /// The numbers of services with open windows that have not forwarded a packet since they were made.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn open_window_services_without_traffic(&self, tables: &Tables) -> Result<HashSet<u16>, DataplaneError> {
        let mut without = HashSet::new();
        for service in tables
            .services
            .values()
            .filter(|service| service.slots.has_open_windows())
        {
            if self.service_traffic(service.service_number)?.packets == 0 {
                without.insert(service.service_number);
            }
        }
        Ok(without)
    }

    /// Traffic of a backend counter.
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
        const IN_DROPS: u32 = DropReason::IN_DROPS as u32;
        match reason.index().checked_sub(IN_DROPS) {
            None => sum(&self.maps.drops, maps::DROPS, reason.index()),
            Some(index) => sum(&self.maps.more_drops, maps::MORE_DROPS, index),
        }
    }

    /// Replies from VIPs that real servers route through this host, as each CPU has seen them: over IPv4, over IPv6.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn routed_replies(&self) -> Result<[Vec<RoutedReplies>; 2], DataplaneError> {
        let read = |family| {
            let values = self.maps.routed_replies.get(&family, 0);
            values
                .map(|values| values.to_vec())
                .map_err(map_failed(maps::ROUTED_REPLIES))
        };
        Ok([read(OVER_IPV4)?, read(OVER_IPV6)?])
    }
}

impl adopt::MapReader for Dataplane {
    type Error = DataplaneError;

    fn layout(&self) -> MapParameters {
        MapParameters {
            seed: self.constants.seed,
            slot_capacity: self.constants.sizes.slots,
            port_bucket_count: self.constants.sizes.ports,
        }
    }

    fn vips(&self) -> Vec<(u32, VipEntry)> {
        let (entries, _) = self.maps.vips.as_chunks();
        let entries = (0..).zip(entries).map(|(index, entry): (u32, &[AtomicU64; 4])| {
            let [value, high, low, _] = entry.each_ref().map(|word| word.load(Ordering::Acquire));
            let address = Address {
                high_be: high,
                low_be: low,
            };
            (
                index,
                VipEntry {
                    vip_number_and_flags: value,
                    address,
                    pad: 0,
                },
            )
        });
        entries.filter(|(_, entry)| entry.vip_number_and_flags != 0).collect()
    }

    fn ports(&self) -> Vec<(u32, PortEntry)> {
        let (entries, _) = self.maps.ports.as_chunks();
        let entries = (0..).zip(entries).map(|(index, entry): (u32, &[AtomicU64; 2])| {
            let [value, key] = entry.each_ref().map(|word| word.load(Ordering::Acquire));
            (
                index,
                PortEntry {
                    service_number_and_flags: value,
                    key,
                },
            )
        });
        entries
            .filter(|(_, entry)| entry.service_number_and_flags != 0)
            .collect()
    }

    fn quic_ids(&self) -> Result<Vec<(u16, u16, u16)>, DataplaneError> {
        let ids = self.maps.quic_ids.iter();
        ids.map(|entry| entry.map(|(key, index)| ((key >> 16) as u16, key as u16, index as u16)))
            .collect::<Result<_, _>>()
            .map_err(map_failed(maps::QUIC_IDS))
    }

    fn service(&self, number: u16) -> Option<Service> {
        let words = read_words(&self.maps.services, u32::from(number))?;
        Some(Service::from_words(words))
    }

    fn slot(&self, index: u32) -> Option<Slot> {
        let word: &AtomicU64 = self.maps.slots.get(index as usize)?;
        Some(Slot::from_word(word.load(Ordering::Acquire)))
    }

    fn ring_entry(&self, index: u32) -> Result<RingEntry, DataplaneError> {
        let entry = self
            .maps
            .scheduler_rings
            .get(&index, 0)
            .map_err(map_failed(maps::RINGS))?;
        Ok(RingEntry::from_word(entry))
    }

    fn backend(&self, index: u32) -> Option<Backend> {
        read_words(&self.maps.backends, index).map(Backend::from_words)
    }
}

/// Key and entry of one moment; none where the record is empty. A record in use changes about once a tick; skipping it then would let
/// its slot settle although the record disagrees.
fn read_record(word: &AtomicU64, read_key: impl Fn() -> FlowKey) -> Option<(FlowKey, FlowEntry)> {
    let mut before = word.load(Ordering::Acquire);
    if before == 0 {
        return None;
    }
    loop {
        let key = read_key();
        let again = word.load(Ordering::Acquire);
        if again == before {
            return Some((key, FlowEntry::from_word(before)));
        }
        before = again;
    }
}

/// The words of an entry.
fn read_words<const N: usize>(map: &MmapArray, index: u32) -> Option<[u64; N]> {
    let start = index as usize * N;
    let words = map.get(start..start + N)?;
    let mut values = [0; N];
    for (value, word) in values.iter_mut().zip(words) {
        *value = word.load(Ordering::Acquire);
    }
    Some(values)
}
