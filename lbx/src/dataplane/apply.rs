//! The writes of a plan, carried out in order.

use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::MapError;
use lbx_common::{
    backend::Backend,
    counters::Traffic,
    maps,
    nic::{Nic, SERVERS},
    slot::Slot,
    trace::TraceFilter,
};

use super::{Dataplane, DataplaneError, maps::failed, read::BACKEND_WORDS};
use crate::tables::{Write, service::map_address};

impl Dataplane {
    /// Carries out writes in their order.
    ///
    /// # Errors
    /// The kernel refuses one; those before it stand.
    pub fn apply(&mut self, writes: &[Write]) -> Result<(), DataplaneError> {
        writes.iter().try_for_each(|write| self.write(write))
    }

    fn write(&mut self, write: &Write) -> Result<(), DataplaneError> {
        match write {
            Write::Backend { place, value } => {
                self.write_backend(*place, value);
                Ok(())
            }
            Write::Slots { base, slots } => {
                self.write_slots(*base, slots);
                Ok(())
            }
            Write::Ring { base, entries } => (*base..).zip(entries).try_for_each(|(place, &entry)| {
                self.maps
                    .rings
                    .set(place, u32::from(entry), 0)
                    .map_err(failed(maps::RINGS))
            }),
            Write::Service { key, value } => self.maps.services.insert(key, value, 0).map_err(failed(maps::SERVICES)),
            Write::RemoveService(key) => absent_is_fine(self.maps.services.remove(key)).map_err(failed(maps::SERVICES)),
            Write::Vip(vip) => self
                .maps
                .vips
                .insert(map_address(*vip), 1, 0)
                .map_err(failed(maps::VIPS)),
            Write::RemoveVip(vip) => {
                absent_is_fine(self.maps.vips.remove(&map_address(*vip))).map_err(failed(maps::VIPS))
            }
            Write::ResetService(number) => self.reset_service(u32::from(*number)),
            Write::ResetBackend(counter) => {
                let zero = zeros()?;
                self.maps
                    .backend_stats
                    .set(*counter, zero, 0)
                    .map_err(failed(maps::BACKEND_STATS))
            }
        }
    }

    /// Everything but the head first: the head makes the backend visible, MAC address and state in one store.
    fn write_backend(&self, place: u32, value: &Backend) {
        let start = place as usize * BACKEND_WORDS;
        let Some(words) = self.maps.backends.get(start..start + BACKEND_WORDS) else {
            return;
        };
        for (word, value) in words.iter().zip(value.words()).skip(1) {
            word.store(value, Ordering::Relaxed);
        }
        words[0].store(value.head, Ordering::Release);
    }

    fn write_slots(&self, base: u32, slots: &[(u32, Slot)]) {
        for (slot, value) in slots {
            if let Some(word) = self.maps.slots.get((base + slot) as usize) {
                word.store(value.to_word(), Ordering::Release);
            }
        }
    }

    fn reset_service(&mut self, number: u32) -> Result<(), DataplaneError> {
        self.maps.cursors.set(number, 0, 0).map_err(failed(maps::CURSORS))?;
        self.maps
            .service_stats
            .set(number, zeros()?, 0)
            .map_err(failed(maps::SERVICE_STATS))
    }

    /// Tells the program about a NIC, and the kernel that frames may be redirected to it.
    ///
    /// # Errors
    /// There are more NICs than the map holds, or the NIC is gone.
    pub fn set_nic(&mut self, nic: Nic) -> Result<(), DataplaneError> {
        let ifindex = nic.ifindex;
        let entry = self
            .nic_entry(ifindex)
            .or_else(|| self.nic_entry(0))
            .ok_or(DataplaneError::TooManyNics)?;
        let [address, index] = nic.words();
        entry[0].store(address, Ordering::Release);
        entry[1].store(index, Ordering::Release);
        if nic.roles & SERVERS == 0 {
            return Ok(());
        }
        self.maps
            .egress
            .insert(ifindex, ifindex, None, 0)
            .map_err(|error| match error {
                aya::maps::xdp::XdpMapError::MapError(source) => failed(maps::EGRESS)(source),
                other => failed(maps::EGRESS)(MapError::from(std::io::Error::other(other))),
            })
    }

    /// Forgets a NIC.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove_nic(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        if let Some(entry) = self.nic_entry(ifindex) {
            entry[1].store(0, Ordering::Release);
        }
        absent_is_fine(self.maps.egress.remove(ifindex)).map_err(failed(maps::EGRESS))
    }

    /// The words of a NIC's entry; of the first free one for index 0.
    fn nic_entry(&self, ifindex: u32) -> Option<&[AtomicU64; 2]> {
        let (entries, _) = self.maps.nics.as_chunks();
        entries
            .iter()
            .find(|entry: &&[AtomicU64; 2]| entry[1].load(Ordering::Acquire) as u32 == ifindex)
    }

    /// Says what is traced.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_trace_filter(&mut self, filter: TraceFilter) -> Result<(), DataplaneError> {
        self.maps
            .trace_filter
            .set(0, filter, 0)
            .map_err(failed(maps::TRACE_FILTER))
    }
}

/// Zero on every CPU.
fn zeros() -> Result<aya::maps::PerCpuValues<Traffic>, DataplaneError> {
    let cpus = aya::util::nr_cpus().map_err(|(path, source)| DataplaneError::File {
        path: path.to_owned(),
        source,
    })?;
    aya::maps::PerCpuValues::try_from(vec![Traffic::default(); cpus]).map_err(|source| DataplaneError::File {
        path: "per-CPU values".into(),
        source,
    })
}

/// What is to be removed may be gone already.
fn absent_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}
