//! The maps in plain memory: takes the writes of a plan one by one and says what would be wrong with them at each step.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    convert::Infallible,
    net::IpAddr,
};

use lbx_common::{
    backend::{self, Backend, MacAndState},
    lookup::{PortEntry, VipEntry, port_key, split_port_key, strip_flags},
    maps,
    ring::RingEntry,
    service::Service,
    slot::{NO_BACKEND, Slot},
};

use super::super::{MapParameters, MapWrite, adopt, lookup};
use crate::desired::VirtualService;

/// What stands in the maps; indices never written are as the kernel makes them, all zero.
#[derive(Clone, Debug, Default)]
pub struct Image {
    pub services: HashMap<u16, Service>,
    pub vips: BTreeMap<u32, VipEntry>,
    pub ports: BTreeMap<u32, PortEntry>,
    slots: Vec<Slot>,
    rings: Vec<RingEntry>,
    backends: Vec<Backend>,
    pub cursors: HashMap<u16, u64>,
    /// Counters that were set to zero, in order.
    pub resets: Vec<u32>,
}

impl Image {
    /// Carries out one write.
    pub fn apply(&mut self, write: &MapWrite) {
        match write {
            MapWrite::Backend { index, value } => {
                assert!(*index < maps::MAX_BACKENDS);
                put(&mut self.backends, *index, *value, Backend::NONE);
            }
            MapWrite::Ring { base, entries } => {
                assert!(base + entries.len() as u32 <= maps::MAX_RING_ENTRIES);
                for (index, entry) in (*base..).zip(entries) {
                    put(&mut self.rings, index, *entry, RingEntry::from_word(0));
                }
            }
            MapWrite::Slots { base, slots } => {
                for (slot, value) in slots {
                    assert!(base + slot < maps::DEFAULT_SLOTS);
                    put(&mut self.slots, base + slot, *value, Slot::from_word(0));
                }
            }
            MapWrite::Service { number, value } => {
                self.services.insert(*number, *value);
            }
            MapWrite::Vip { index, entry } => {
                self.vips.remove(index);
                if entry.vip_number_and_flags != 0 {
                    self.vips.insert(*index, *entry);
                }
            }
            MapWrite::Port { index, entry } => {
                self.ports.remove(index);
                if entry.service_number_and_flags != 0 {
                    self.ports.insert(*index, *entry);
                }
            }
            MapWrite::QuicId { .. } => {}
            MapWrite::ResetServiceCounters(number) => {
                assert!(
                    !self.reachable().contains(number),
                    "the number of a service that packets know begins anew"
                );
                self.cursors.insert(*number, 0);
            }
            MapWrite::ResetBackendCounters(counter) => self.resets.push(*counter),
        }
    }

    /// Carries out all writes and looks at the whole after each.
    /// Everything packets can reach must stand: slots and ring entries name nobody or a backend that is up, an untracked
    /// slot has one master, and no two services share an index.
    pub fn check(&self) -> Result<(), String> {
        let mut taken = Taken::default();
        for number in self.reachable() {
            let wrong = |what: String| Err(format!("service {number}: {what}"));
            let Some(service) = self.services.get(&number) else {
                return wrong("has a port and no value".to_owned());
            };
            if !taken.add(service) {
                return wrong(format!(
                    "shares an index or number, or lies beyond a table: {service:?}"
                ));
            }
            for index in 0..service.slots_len {
                let slot = self.slot_of(service, index);
                if !self.good(service, slot.current, backend::may_receive_packets)
                    || !self.good(service, slot.owner, backend::may_have_connections)
                {
                    return wrong(format!("slot {index} leads nowhere: {slot:?}"));
                }
                if slot.current != slot.owner && !slot.has_records {
                    return wrong(format!("slot {index} has two masters and is not has_records: {slot:?}"));
                }
            }
            for turn in 0..service.ring_len {
                let index = self.turn_of(service, turn);
                if index == NO_BACKEND || !self.good(service, index, backend::may_receive_packets) {
                    return wrong(format!("turn {turn} leads nowhere: {index}"));
                }
            }
        }
        Ok(())
    }

    fn good(&self, service: &Service, index: u16, is_good: impl Fn(u8) -> bool) -> bool {
        index == NO_BACKEND
            || self
                .backend_of(service, index)
                .is_some_and(|backend| is_good(MacAndState::from_word(backend.mac_and_state).state))
    }

    /// Makes the backends those of a daemon that did not note when they were taken out of the file.
    pub fn forget_removed_since(&mut self) {
        self.backends.iter_mut().for_each(|backend| backend.removed_since = 0);
    }

    /// A slot of a service.
    pub fn slot_of(&self, service: &Service, slot: u32) -> Slot {
        self.slots[(service.slots_base + slot) as usize]
    }

    /// The backend index whose turn it is in the ring of a service.
    pub fn turn_of(&self, service: &Service, turn: u32) -> u16 {
        self.rings[(service.ring_base + turn) as usize].backend_index
    }

    /// The service that packets for a port find.
    pub fn find(&self, id: &VirtualService) -> Option<(u16, Service)> {
        let vip = self.vips.values().find(|entry| lookup::ip(entry.address) == id.vip)?;
        let key = port_key(
            strip_flags(vip.vip_number_and_flags),
            id.protocol.number(),
            id.port.to_be_bytes(),
        );
        let port = self.ports.values().find(|entry| entry.key == key)?;
        let number = strip_flags(port.service_number_and_flags);
        Some((number, *self.services.get(&number)?))
    }

    /// The numbers of all services that packets find.
    fn reachable(&self) -> BTreeSet<u16> {
        let vips: BTreeSet<u16> = self
            .vips
            .values()
            .map(|entry| strip_flags(entry.vip_number_and_flags))
            .collect();
        let ports = self
            .ports
            .values()
            .filter(|entry| vips.contains(&split_port_key(entry.key).0));
        ports.map(|entry| strip_flags(entry.service_number_and_flags)).collect()
    }

    /// The VIPs that packets find.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.vips.values().map(|entry| lookup::ip(entry.address)).collect()
    }

    /// What stands at a backend index of a service.
    pub fn backend_of(&self, service: &Service, index: u16) -> Option<Backend> {
        (u32::from(index) < service.backends_capacity)
            .then(|| {
                self.backends
                    .get(service.backends_base as usize + usize::from(index))
                    .copied()
            })
            .flatten()
    }

    /// The slots of a service by RIP.
    pub fn slot_addresses(&self, id: &VirtualService) -> Vec<Option<[u8; 16]>> {
        let (_, service) = self.find(id).expect("a service");
        (0..service.slots_len)
            .map(|index| self.slot_of(&service, index).current)
            .map(|index| Some(self.backend_of(&service, index)?.address))
            .collect()
    }
}

/// Writes at an index of a table that grows as far as it is written.
fn put<T: Clone>(table: &mut Vec<T>, index: u32, value: T, empty: T) {
    let index = index as usize;
    if table.len() <= index {
        table.resize(index + 1, empty);
    }
    table[index] = value;
}

/// Allocations that services hold.
#[derive(Default)]
struct Taken {
    slots: BTreeMap<u32, u32>,
    rings: BTreeMap<u32, u32>,
    backends: BTreeMap<u32, u32>,
}

impl Taken {
    fn add(&mut self, service: &Service) -> bool {
        disjoint(
            &mut self.slots,
            service.slots_base,
            service.slots_len,
            maps::DEFAULT_SLOTS,
        ) && disjoint(
            &mut self.rings,
            service.ring_base,
            service.ring_len,
            maps::MAX_RING_ENTRIES,
        ) && disjoint(
            &mut self.backends,
            service.backends_base,
            service.backends_capacity,
            maps::MAX_BACKENDS,
        )
    }
}

/// Adds a range to ranges by their bases; false where it meets another or the end.
fn disjoint(ranges: &mut BTreeMap<u32, u32>, base: u32, len: u32, capacity: u32) -> bool {
    if len == 0 {
        return true;
    }
    let end = base + len;
    let meets = ranges
        .range(..end)
        .next_back()
        .is_some_and(|(start, length)| start + length > base);
    ranges.insert(base, len);
    !meets && end <= capacity
}

impl adopt::MapReader for Image {
    type Error = Infallible;

    fn layout(&self) -> MapParameters {
        MapParameters::default()
    }

    fn vips(&self) -> Vec<(u32, VipEntry)> {
        self.vips.iter().map(|(&index, &entry)| (index, entry)).collect()
    }

    fn ports(&self) -> Vec<(u32, PortEntry)> {
        self.ports.iter().map(|(&index, &entry)| (index, entry)).collect()
    }

    fn quic_ids(&self) -> Result<Vec<(u16, u16, u16)>, Infallible> {
        Ok(Vec::new())
    }

    fn service(&self, number: u16) -> Option<Service> {
        Some(self.services.get(&number).copied().unwrap_or_default())
    }

    fn slot(&self, index: u32) -> Option<Slot> {
        (index < maps::DEFAULT_SLOTS).then(|| self.slots.get(index as usize).copied().unwrap_or(Slot::from_word(0)))
    }

    fn ring_entry(&self, index: u32) -> Result<RingEntry, Infallible> {
        Ok(self
            .rings
            .get(index as usize)
            .copied()
            .unwrap_or(RingEntry::from_word(0)))
    }

    fn backend(&self, index: u32) -> Option<Backend> {
        (index < maps::MAX_BACKENDS).then(|| self.backends.get(index as usize).copied().unwrap_or(Backend::NONE))
    }
}
