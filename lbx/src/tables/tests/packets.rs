//! The packet rules in plain Rust: what lbx-ebpf/src/pick.rs does, over an [`Image`] and records without a limit.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

use lbx_common::{
    address::Address,
    backend::{self, Backend, MacAndState},
    flow::{self, FlowEntry, FlowEvent, FlowKey},
    hash,
    service::{RECORD_ALL, Service, WAS_SCHEDULED_BY_HASH},
    slot::{NO_BACKEND, Slot},
};

use super::signals::{DATAGRAM, OPEN};
use super::{
    super::{
        MapWrite, Tables,
        scan::{FlowScanResult, FlowScanner, RecordAction},
    },
    image::Image,
};
use crate::desired::VirtualService;

/// A client's end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Client {
    pub address: [u8; 4],
    pub port: [u8; 2],
}

/// Maps and records.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    pub image: Image,
    pub records: HashMap<(FlowKey, [u8; 2]), FlowEntry>,
    /// Packets forwarded by service number, since the service was made.
    pub forwarded: HashMap<u16, u64>,
}

/// A packet under way: service and slot are read, the rest is to come.
#[derive(Clone, Copy, Debug)]
pub struct UnderWay {
    client: Client,
    vip_port: [u8; 2],
    signal: FlowEvent,
    number: u16,
    service: Service,
    slot: Slot,
    now: u32,
}

impl UnderWay {
    fn key(&self) -> (FlowKey, [u8; 2]) {
        let key = FlowKey {
            client: Address::from_ipv4(self.client.address),
            client_port: self.client.port,
            service: self.number,
        };
        (key, self.vip_port)
    }

    /// The client's port.
    pub fn port(&self) -> u16 {
        u16::from_be_bytes(self.client.port)
    }

    fn records_all(&self) -> bool {
        self.service.flags & RECORD_ALL != 0
    }
}

impl Kernel {
    /// A packet arrives; none if it is for nobody.
    pub fn begin(&self, id: &VirtualService, client: Client, signal: FlowEvent, now: u32) -> Option<UnderWay> {
        let (number, service) = self.image.find(id)?;
        let vip_port = id.port.to_be_bytes();
        let tuple = hash::tuple_word(Address::from_ipv4(client.address), client.port, vip_port);
        let slot = hash::slot(tuple, service.slots_len);
        Some(UnderWay {
            client,
            vip_port,
            signal,
            number,
            service,
            slot: self.image.slot_of(&service, slot),
            now,
        })
    }

    /// Where it goes; none if it is dropped.
    pub fn finish(&mut self, packet: &UnderWay) -> Option<IpAddr> {
        let target = self.select(packet);
        if target.is_some() {
            *self.forwarded.entry(packet.number).or_default() += 1;
        }
        target
    }

    /// Carries out one write of a plan.
    pub fn apply(&mut self, write: &MapWrite) {
        if let MapWrite::ResetServiceCounters(number) = write {
            self.forwarded.remove(number);
        }
        self.image.apply(write);
    }

    /// Carries out writes and checks the maps after each.
    pub fn apply_all(&mut self, writes: &[MapWrite]) {
        for write in writes {
            self.apply(write);
            if let Err(wrong) = self.image.check() {
                panic!("{wrong}\nafter {write:?}\nof {writes:#?}");
            }
        }
    }

    fn select(&mut self, packet: &UnderWay) -> Option<IpAddr> {
        let slot = packet.slot;
        if !packet.records_all() && !slot.has_records {
            return self.reach(packet, slot.current);
        }
        let mut stale = false;
        let opens = packet.signal == OPEN;
        if let Some(entry) = self.records.get_mut(&packet.key()) {
            let over = opens && flow::is_closing(entry.state);
            if !over && !entry.expired(packet.now, &packet.service.timeouts) {
                let next = entry.after_packet(packet.signal, packet.now);
                let index = entry.backend;
                if self.usable(packet, index) {
                    self.records.insert(packet.key(), next);
                    return self.reach(packet, index);
                }
            }
            stale = true;
        }
        let all_known = packet.records_all() && packet.service.flags & WAS_SCHEDULED_BY_HASH == 0;
        let new = opens || (all_known && packet.signal == DATAGRAM);
        let preferred = if new { self.schedule(packet) } else { slot.owner };
        if new && preferred == NO_BACKEND {
            return None;
        }
        let usable = |index: &u16| self.usable(packet, *index);
        let target = [preferred, slot.current, slot.owner].into_iter().find(usable)?;
        let owner = if usable(&slot.owner) { slot.owner } else { target };
        let is_settled = !packet.records_all() && target == slot.owner && slot.current == slot.owner;
        if !is_settled && self.remember(packet, target) {
            return self.reach(packet, target);
        }
        if stale {
            self.records.remove(&packet.key());
        }
        self.reach(packet, owner)
    }

    /// Whether the service a packet was for is still the one of its key.
    pub fn stands(&self, id: &VirtualService, packet: &UnderWay) -> bool {
        self.image.find(id).is_some_and(|(number, _)| number == packet.number)
    }

    /// Whether a flow has what it needs to stay where its last packet went: a record, or a service that hashes.
    pub fn holds(&self, packet: &UnderWay) -> bool {
        !packet.records_all() || self.records.contains_key(&packet.key())
    }

    fn schedule(&mut self, packet: &UnderWay) -> u16 {
        let service = &packet.service;
        if service.ring_len == 0 {
            return packet.slot.current;
        }
        let cursor = self.image.cursors.entry(packet.number).or_default();
        let turn = *cursor % u64::from(service.ring_len);
        *cursor += 1;
        self.image.turn_of(service, turn as u32)
    }

    /// Writes a record; false where none may be had.
    fn remember(&mut self, packet: &UnderWay, backend: u16) -> bool {
        let Some(state) = flow::first_state(packet.signal) else {
            return false;
        };
        let entry = FlowEntry {
            vip_port: packet.vip_port,
            backend,
            state,
            last_seen_tick: packet.now,
        };
        self.records.insert(packet.key(), entry);
        true
    }

    /// Whether flows may be of an index.
    fn usable(&self, packet: &UnderWay, index: u16) -> bool {
        let backend = self.image.backend_of(&packet.service, index);
        backend
            .is_some_and(|backend| backend::may_have_connections(MacAndState::from_word(backend.mac_and_state).state))
    }

    /// The address at an index, if packets may go there.
    fn reach(&self, packet: &UnderWay, index: u16) -> Option<IpAddr> {
        let backend = self.image.backend_of(&packet.service, index)?;
        backend::may_receive_packets(MacAndState::from_word(backend.mac_and_state).state).then(|| address(&backend))
    }

    /// The look at all records that the data plane takes for the daemon.
    pub fn sweep(&mut self, tables: &Tables, now: u32) -> FlowScanResult {
        let mut taker = FlowScanner::new(tables, now);
        self.records
            .retain(|(key, _), entry| taker.visit(*key, *entry) == RecordAction::Keep);
        taker.finish()
    }

    /// The same, and the counters of services with open windows.
    pub fn sweep_and_count(&mut self, tables: &Tables, now: u32) -> FlowScanResult {
        let services = tables.services.values();
        let waiting = services.filter(|service| service.slots.has_open_windows());
        let numbers = waiting.map(|service| service.service_number);
        FlowScanResult {
            services_without_traffic: numbers.filter(|number| !self.forwarded.contains_key(number)).collect(),
            ..self.sweep(tables, now)
        }
    }

    /// Live records that disagree with their slot although nobody looks for them: whoever tracks the slot next revives them.
    pub fn unseen_records(&self, now: u32) -> Vec<(FlowKey, FlowEntry, Slot)> {
        let by_number: HashMap<u16, Service> = self.image.services.clone();
        self.records
            .iter()
            .filter_map(|((key, vip_port), entry)| {
                let service = by_number.get(&key.service)?;
                let tuple = hash::tuple_word(key.client, key.client_port, *vip_port);
                let slot = self.image.slot_of(service, hash::slot(tuple, service.slots_len));
                let backend = self.image.backend_of(service, entry.backend)?;
                let astray = service.flags & RECORD_ALL == 0
                    && !slot.has_records
                    && entry.backend != slot.owner
                    && backend::may_have_connections(MacAndState::from_word(backend.mac_and_state).state)
                    && !entry.expired(now, &service.timeouts);
                astray.then_some((*key, *entry, slot))
            })
            .collect()
    }
}

/// RIP of a backend.
pub fn address(backend: &Backend) -> IpAddr {
    Ipv6Addr::from(backend.address)
        .to_ipv4_mapped()
        .expect("an IPv4 address")
        .into()
}
