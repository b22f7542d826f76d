//! Applies the writes of a plan, in order.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::MapError;
use lbx_common::{
    backend::Backend,
    counters::Traffic,
    load,
    lookup::VipEntry,
    maps,
    nic::{Nic, SERVER_FACING, segment_key},
    service::WORDS,
    slot::Slot,
    trace::TraceFilter,
};

use super::{Dataplane, DataplaneError, error::map_failed, mapped::MmapArray, read::BACKEND_WORDS};
use crate::tables::MapWrite;

impl Dataplane {
    /// Applies writes in order.
    ///
    /// # Errors
    /// The kernel refuses one; those before it stay applied.
    pub fn apply(&mut self, writes: &[MapWrite]) -> Result<(), DataplaneError> {
        writes.iter().try_for_each(|write| self.write(write))
    }

    fn write(&mut self, write: &MapWrite) -> Result<(), DataplaneError> {
        match write {
            MapWrite::Backend { index, value } => {
                self.write_backend(*index, value);
                Ok(())
            }
            MapWrite::Slots { base, slots } => {
                self.write_slots(*base, slots);
                Ok(())
            }
            MapWrite::Ring { base, entries } => (*base..).zip(entries).try_for_each(|(index, turn)| {
                self.maps
                    .scheduler_rings
                    .set(index, turn.to_word(), 0)
                    .map_err(map_failed(maps::RINGS))
            }),
            MapWrite::Service { number, value } => {
                store_backwards(&self.maps.services, usize::from(*number) * WORDS, &value.words());
                Ok(())
            }
            MapWrite::Vip { index, entry } => {
                let VipEntry {
                    vip_number_and_flags: value,
                    address,
                    pad,
                } = *entry;
                let words = [value, address.high_be, address.low_be, pad];
                replace(&self.maps.vips, *index as usize * words.len(), &words);
                Ok(())
            }
            MapWrite::Port { index, entry } => {
                let words = [entry.service_number_and_flags, entry.key];
                replace(&self.maps.ports, *index as usize * words.len(), &words);
                Ok(())
            }
            MapWrite::QuicId { service, id, backend } => self.write_quic_id(*service, *id, *backend),
            MapWrite::ResetServiceCounters(number) => self.reset_service(u32::from(*number)),
            MapWrite::ResetBackendCounters(counter) => self.reset_backend(*counter),
        }
    }

    fn write_quic_id(&mut self, service: u16, id: u16, backend: Option<u16>) -> Result<(), DataplaneError> {
        let key = u32::from(id) | u32::from(service) << 16;
        match backend {
            Some(index) => self.maps.quic_ids.insert(key, u32::from(index), 0),
            None => absent_is_fine(self.maps.quic_ids.remove(&key)),
        }
        .map_err(map_failed(maps::QUIC_IDS))
    }

    fn reset_backend(&mut self, counter: u32) -> Result<(), DataplaneError> {
        store_backwards(
            &self.maps.backend_loads,
            counter as usize * load::LOAD_WORDS,
            &[0; load::LOAD_WORDS],
        );
        self.maps
            .backend_stats
            .set(counter, zeros()?, 0)
            .map_err(map_failed(maps::BACKEND_STATS))
    }

    /// Sets the time of a program loaded with the test clock.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_test_clock(&mut self, nanoseconds: u64) -> Result<(), DataplaneError> {
        self.maps
            .test_clock
            .set(0, nanoseconds, 0)
            .map_err(map_failed(maps::TEST_CLOCK_NS))
    }

    /// Writes the head last: the head makes the backend visible, MAC address and state in one store.
    fn write_backend(&self, index: u32, value: &Backend) {
        store_backwards(&self.maps.backends, index as usize * BACKEND_WORDS, &value.words());
    }

    fn write_slots(&self, base: u32, slots: &[(u32, Slot)]) {
        for (slot, value) in slots {
            if let Some(word) = self.maps.slots.get((base + slot) as usize) {
                word.store(value.to_word(), Ordering::Release);
            }
        }
    }

    fn reset_service(&mut self, number: u32) -> Result<(), DataplaneError> {
        self.maps
            .ring_cursors
            .set(number, 0, 0)
            .map_err(map_failed(maps::RING_CURSORS))?;
        self.maps
            .service_stats
            .set(number, zeros()?, 0)
            .map_err(map_failed(maps::SERVICE_STATS))
    }

    /// Adds a NIC to the map of NICs and, if real servers are behind it, to the redirect map.
    ///
    /// # Errors
    /// There are more NICs than the map holds, or the NIC is gone.
    pub fn set_nic(&mut self, nic: Nic) -> Result<(), DataplaneError> {
        let ifindex = nic.ifindex;
        let segment = segment_key(ifindex, nic.vlan_tags);
        let entry = self
            .nic_entries(|word| word == segment)
            .next()
            .or_else(|| self.nic_entries(|word| word == 0).next())
            .ok_or(DataplaneError::TooManyNics)?;
        let [address, index] = nic.words();
        entry[0].store(address, Ordering::Release);
        entry[1].store(index, Ordering::Release);
        if nic.roles & SERVER_FACING == 0 {
            return Ok(());
        }
        self.maps
            .egress
            .insert(ifindex, ifindex, None, 0)
            .map_err(|error| match error {
                aya::maps::xdp::XdpMapError::MapError(source) => map_failed(maps::EGRESS)(source),
                other => map_failed(maps::EGRESS)(MapError::from(std::io::Error::other(other))),
            })
    }

    /// Removes every NIC and VLAN but these.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn retain_nics(&mut self, kept: &[Nic]) -> Result<(), DataplaneError> {
        let is_kept = |word| kept.iter().any(|nic| segment_key(nic.ifindex, nic.vlan_tags) == word);
        let mut removed = BTreeSet::new();
        for entry in self.nic_entries(|word| word != 0 && !is_kept(word)) {
            removed.insert(entry[1].swap(0, Ordering::AcqRel) as u32);
        }
        removed.retain(|&ifindex| kept.iter().all(|nic| nic.ifindex != ifindex));
        removed.into_iter().try_for_each(|ifindex| self.remove_nic(ifindex))
    }

    /// Removes a NIC and all VLANs on it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove_nic(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        for entry in self.nic_entries(|word| word as u32 == ifindex) {
            entry[1].store(0, Ordering::Release);
        }
        absent_is_fine(self.maps.egress.remove(ifindex)).map_err(map_failed(maps::EGRESS))
    }

    /// The entries of the NIC map whose second word, the [`segment_key`], matches.
    fn nic_entries(&self, matches: impl Fn(u64) -> bool) -> impl Iterator<Item = &[AtomicU64; 2]> {
        let (entries, _) = self.maps.nics.as_chunks();
        entries
            .iter()
            .filter(move |entry: &&[AtomicU64; 2]| matches(entry[1].load(Ordering::Acquire)))
    }

    /// Sets which packets are traced.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_trace_filter(&mut self, filter: TraceFilter) -> Result<(), DataplaneError> {
        self.maps
            .trace_filter
            .set(0, filter, 0)
            .map_err(map_failed(maps::TRACE_FILTER))
    }
}

/// Stores words at an index, the first one last: it makes the others visible to packets.
fn store_backwards(map: &MmapArray, index: usize, words: &[u64]) {
    if let Some(indices) = map.get(index..index + words.len()) {
        for (index, &word) in indices.iter().zip(words).rev() {
            index.store(word, Ordering::Release);
        }
    }
}

/// The same for an entry of a table that packets search: an entry to be removed is invalidated first.
fn replace(map: &MmapArray, index: usize, words: &[u64]) {
    if words[0] == 0
        && let Some(first) = map.get(index)
    {
        first.store(0, Ordering::Release);
    }
    store_backwards(map, index, words);
}

/// Zero on every CPU.
fn zeros() -> Result<aya::maps::PerCpuValues<Traffic>, DataplaneError> {
    let cpus = aya::util::nr_cpus().map_err(|(path, source)| DataplaneError::File {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    aya::maps::PerCpuValues::try_from(vec![Traffic::default(); cpus]).map_err(|source| DataplaneError::File {
        action: "make",
        path: "per-CPU values".into(),
        source,
    })
}

/// An entry to be removed may be gone already.
fn absent_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}
