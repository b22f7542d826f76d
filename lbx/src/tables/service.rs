//! One service as loaded, and its own part of a plan.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use lbx_common::{
    address::Address,
    flow::FlowKey,
    hash,
    ring::RingEntry,
    service::{self as abi, HASH_VIP, WAS_SCHEDULED_BY_HASH},
    slot,
};

pub use super::members::{BackendState, DesiredServer, DesiredServers, LoadedBackend, desired_servers};
use super::{
    NextHop, NextHops,
    allocate::Range,
    event::TableEventKind,
    flow_policy::{FlowPolicy, HASH_INPUT_FLAGS, hash_input_flags},
    lookup::address,
    slow_start,
    window::{Changes, Slots},
};
use crate::{
    desired::{self, PortSet, Protocol},
    schedule::{Candidate, eligible, maglev, ring},
};

/// A service as it is in the maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedService {
    /// Service number.
    pub service_number: u16,
    /// Its ports.
    pub ports: PortSet,
    /// How it handles its flows.
    pub policy: FlowPolicy,
    /// What is hashed to find its slots, as long as flows without a record depend on it.
    pub hash_input_flags: u32,
    /// The range of its slots in the slot table.
    pub slots_range: Range,
    /// The slots themselves.
    pub slots: Slots,
    /// The range of its ring; empty where the slots schedule.
    pub scheduler_ring_range: Range,
    /// The ring: backends in the order in which the scheduler visits them.
    pub ring: Vec<RingEntry>,
    /// The range of its backends, with spare capacity.
    pub backends_range: Range,
    /// Its backends by index.
    pub backends: BTreeMap<u16, LoadedBackend>,
    /// Backend indices by QUIC server id.
    pub backends_by_quic_id: BTreeMap<u16, u16>,
    /// The backends that slots and ring schedule new connections to, in the order of the file; none where that is not known:
    /// adopted from a former daemon.
    pub candidates: Option<Vec<Candidate>>,
    /// The tick since which it records every flow, where it did not before: some of its flows have no record yet.
    pub recording_since_tick: Option<u32>,
}

impl LoadedService {
    /// The service as the map holds it.
    #[must_use]
    pub fn to_service(&self) -> abi::Service {
        let hashed = if self.recording_since_tick.is_some() {
            WAS_SCHEDULED_BY_HASH
        } else {
            0
        };
        abi::Service {
            flags: self.policy.flags | self.hash_input_flags | hashed,
            scheduler: self.policy.scheduler as u8,
            persistence_prefix: self.policy.persistence_prefix_len,
            sorry_server: self.sorry().unwrap_or(slot::NO_BACKEND),
            slots_base: self.slots_range.base,
            slots_len: self.slots_range.len,
            ring_base: self.scheduler_ring_range.base,
            ring_len: self.scheduler_ring_range.len,
            backends_base: self.backends_range.base,
            backends_capacity: self.backends_range.len,
            timeouts: self.policy.timeouts,
            pad: [0; 2],
        }
    }

    /// Whether every flow gets a record.
    #[must_use]
    pub const fn records_all(&self) -> bool {
        self.policy.records_all()
    }

    /// The slot of a flow with the service's VIP.
    #[must_use]
    pub fn slot_of(&self, vip: IpAddr, client: Address, client_port: [u8; 2], vip_port: [u8; 2]) -> u32 {
        let tuple = match self.hash_input_flags {
            0 => hash::tuple_word(client, client_port, vip_port),
            HASH_VIP => hash::tuple_word(address(vip), [0; 2], [0; 2]),
            _ => hash::tuple_word(client, [0; 2], [0; 2]),
        };
        hash::slot(tuple, self.slots_range.len)
    }

    /// The slot of the flow of a record.
    #[must_use]
    pub fn slot_of_record(&self, vip: IpAddr, key: FlowKey, vip_port: [u8; 2]) -> u32 {
        self.slot_of(vip, key.client, key.client_port, vip_port)
    }

    /// The index of the sorry server, if it gets connections.
    fn sorry(&self) -> Option<u16> {
        let sorry = |member: &LoadedBackend| member.sorry && member.accepts_connections();
        self.backends
            .iter()
            .find(|(_, member)| sorry(member))
            .map(|(&index, _)| index)
    }

    /// How long an idle flow without a record keeps its owner, in ticks.
    #[must_use]
    pub fn window_ticks(&self, protocol: Protocol) -> u32 {
        u32::from(match protocol {
            Protocol::Tcp => self.policy.timeouts.established,
            Protocol::Udp => self.policy.timeouts.udp,
        })
    }

    /// Whether nothing of it will expire. Dead backends of configured real servers may stay.
    #[must_use]
    pub fn has_nothing_to_expire(&self) -> bool {
        let mut addresses = BTreeSet::new();
        self.slots.has_nothing_to_expire()
            && self.recording_since_tick.is_none()
            && self
                .backends
                .values()
                .all(|member| member.is_configured() && addresses.insert(member.address))
    }

    /// The counters of its backends. A backend shares the counter of a dead one of the same real server.
    #[must_use]
    pub fn counter_indices(&self) -> BTreeSet<u32> {
        self.backends.values().map(|member| member.counter_index).collect()
    }

    /// The backend of an address that may own flows.
    #[must_use]
    pub fn usable_backend(&self, address: IpAddr) -> Option<(u16, &LoadedBackend)> {
        let (&index, member) = self
            .backends
            .iter()
            .find(|(_, member)| member.address == address && member.state.may_own_flows())?;
        Some((index, member))
    }

    /// The backends that may own flows, by address.
    fn usable_by_address(&self) -> BTreeMap<IpAddr, (u16, &LoadedBackend)> {
        self.backends
            .iter()
            .filter(|(_, member)| member.state.may_own_flows())
            .map(|(&index, member)| (member.address, (index, member)))
            .collect()
    }

    /// Whether the backend of an index may own flows.
    #[must_use]
    pub fn may_own_flows(&self, index: u16) -> bool {
        self.backends
            .get(&index)
            .is_some_and(|member| member.state.may_own_flows())
    }

    /// Whether the backend of an index gets new connections.
    #[must_use]
    pub fn accepts_connections(&self, index: u16) -> bool {
        self.backends
            .get(&index)
            .is_some_and(LoadedBackend::accepts_connections)
    }

    /// The lowest index not used by any backend, dead ones included.
    #[must_use]
    pub fn unused_backend_index(&self) -> u16 {
        let together = (0..).zip(self.backends.keys()).take_while(|&(n, &index)| n == index);
        together.count() as u16
    }

    /// The counter of a dead backend of this address: a real server that comes back goes on counting.
    #[must_use]
    pub fn previous_counter_index(&self, address: IpAddr) -> Option<u32> {
        self.backends
            .values()
            .find(|member| member.address == address)
            .map(|member| member.counter_index)
    }

    /// Whether a plan would change nothing, which is true of nearly all services where there are thousands.
    #[must_use]
    pub fn is_up_to_date(
        &self,
        service: &desired::Service,
        policy: &FlowPolicy,
        next_hops: &NextHops,
        now: u32,
    ) -> bool {
        let wanted = desired_servers(service);
        let all = DesiredServers::of(service);
        let settled = |member: &LoadedBackend| {
            let mut after = *member;
            after.update(&all, next_hops, now, &mut Vec::new());
            after == *member
        };
        self.policy == *policy
            && hash_input_flags(service).is_none_or(|mapping| mapping == self.hash_input_flags)
            && self.ports == service.ports
            && self.backends.values().all(settled)
            && self.missing_backends(&wanted, next_hops).is_empty()
            && self.candidates == Some(self.candidates(&wanted))
            && self.backends_by_quic_id == self.desired_backends_by_quic_id(&wanted)
    }

    /// The configured real servers that are not down, have a next hop, and no backend yet or a dead one.
    #[must_use]
    pub fn missing_backends(&self, wanted: &[DesiredServer], next_hops: &NextHops) -> Vec<(DesiredServer, NextHop)> {
        let usable = self.usable_by_address();
        wanted
            .iter()
            .filter(|server| server.failure_action().is_none() && !usable.contains_key(&server.address))
            .filter_map(|server| Some((*server, *next_hops.get(&server.address)?)))
            .collect()
    }

    /// Updates the existing backends to the desired state; returns the indices that changed in the map, and the events.
    pub fn update_backends(
        &mut self,
        all: &DesiredServers<'_>,
        next_hops: &NextHops,
        now: u32,
    ) -> (Vec<u16>, Vec<TableEventKind>) {
        let mut changed = Vec::new();
        let mut events = Vec::new();
        for (&index, member) in &mut self.backends {
            let before = member.to_backend();
            member.update(all, next_hops, now, &mut events);
            if member.to_backend() != before {
                changed.push(index);
            }
        }
        (changed, events)
    }

    /// The real servers that get new connections, in the order of the file: those that are up and have a weight. Without
    /// fallback those that are down keep their slots. If none is up, the sorry server.
    #[must_use]
    pub fn candidates(&self, wanted: &[DesiredServer]) -> Vec<Candidate> {
        let usable = self.usable_by_address();
        let claim = |server: &DesiredServer, weight| eligible::SchedulableServer {
            address: server.address,
            weight,
            backend_index: usable
                .get(&server.address)
                .and_then(|(index, member)| (member.state == BackendState::Up).then_some(*index)),
        };
        let shares = slow_start::effective_weights(wanted, self.policy.scheduler);
        let all = wanted.iter().zip(shares).map(|(server, share)| claim(server, share));
        let candidates = eligible::eligible_candidates(self.policy.has_fallback(), all);
        if candidates
            .iter()
            .any(|candidate| candidate.backend_index != slot::NO_BACKEND)
        {
            return candidates;
        }
        let sorry = wanted
            .iter()
            .filter(|server| server.sorry)
            .map(|server| claim(server, 1));
        eligible::eligible_candidates(true, sorry)
    }

    /// The backend index of every configured QUIC server id.
    #[must_use]
    pub fn desired_backends_by_quic_id(&self, wanted: &[DesiredServer]) -> BTreeMap<u16, u16> {
        let usable = self.usable_by_address();
        wanted
            .iter()
            .filter_map(|server| Some((server.quic_server_id?, usable.get(&server.address)?.0)))
            .collect()
    }

    /// Initialises the slots of a new service, which no packet can find yet.
    pub fn init_slots(&mut self, candidates: &[Candidate], now: u32) -> Changes {
        self.slots = Slots::from_table(&maglev::table(candidates, self.slots_range.len), now);
        self.slots.all_as_changes()
    }

    /// Updates the slots to new candidates.
    pub fn update_slots(&mut self, candidates: &[Candidate], now: u32) -> Changes {
        let table = maglev::table(candidates, self.slots_range.len);
        let members = &self.backends;
        let usable = |index: u16| members.get(&index).is_some_and(|member| member.state.may_own_flows());
        self.slots.set_current(&table, usable, now)
    }

    /// The ring of the candidates: turns, or each once with its weight; empty where the slots schedule and no backend has
    /// a connection limit.
    #[must_use]
    pub fn desired_ring(&self, candidates: &[Candidate]) -> Vec<RingEntry> {
        let FlowPolicy { scheduler, flags, .. } = self.policy;
        if scheduler.hashes() && flags & abi::HAS_CONNECTION_LIMITS == 0 {
            return Vec::new();
        }
        ring::ring_for_scheduler(scheduler, candidates)
    }

    /// Switches to another mapping, if it differs; returns whether it did.
    ///
    /// # Errors
    /// Flows without a record depend on the mapping there is.
    pub fn set_hash_input_flags(&mut self, mapping: Option<u32>) -> Result<bool, HashInputInUse> {
        let Some(mapping) = mapping.filter(|&mapping| mapping != self.hash_input_flags) else {
            return Ok(false);
        };
        if !self.records_all() || self.recording_since_tick.is_some() {
            return Err(HashInputInUse);
        }
        self.hash_input_flags = mapping & HASH_INPUT_FLAGS;
        Ok(true)
    }
}

/// The mapping cannot change while flows without a record depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashInputInUse;

/// The number of slots a new service gets.
#[must_use]
pub fn slot_count(service: &desired::Service) -> u32 {
    let by_weights = || maglev::table_size(service.servers.iter().map(|server| server.weight));
    service.slots.unwrap_or_else(by_weights)
}
