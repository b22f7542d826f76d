//! Adoption: the tables of a former daemon, read back from its maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use lbx_common::{
    backend::{self, Backend, MacAndState, mac_from_word},
    flow::TICK_MASK,
    lookup::{PRIMARY_PORT, PortEntry, VipEntry, split_port_key, strip_flags},
    ring::RingEntry,
    service::{Service, WAS_SCHEDULED_BY_HASH},
    slot::{self, Slot},
};

use super::{
    MapParameters, NextHop, PendingFree, Tables,
    allocate::Range,
    flow_policy::{FlowPolicy, HASH_INPUT_FLAGS},
    service::{BackendState, LoadedBackend, LoadedService},
    window::Slots,
};
use crate::desired::{PortSet, Protocol, VirtualService};

/// The maps, as far as they are read back.
pub trait MapReader {
    /// Why a map could not be read.
    type Error;

    /// What the maps were made with.
    fn layout(&self) -> MapParameters;
    /// Every entry of the table of VIPs that is not empty, and its index.
    fn vips(&self) -> Vec<(u32, VipEntry)>;
    /// Every entry of the table of ports that is not empty, and its index.
    fn ports(&self) -> Vec<(u32, PortEntry)>;
    /// Every QUIC server id: service number, id, backend index.
    ///
    /// # Errors
    /// The map cannot be read.
    fn quic_ids(&self) -> Result<Vec<(u16, u16, u16)>, Self::Error>;
    /// The service of a number; none beyond the table.
    fn service(&self, number: u16) -> Option<Service>;
    /// The slot at an index; none beyond the table.
    fn slot(&self, index: u32) -> Option<Slot>;
    /// The turn at an index of the ring table.
    ///
    /// # Errors
    /// The map cannot be read.
    fn ring_entry(&self, index: u32) -> Result<RingEntry, Self::Error>;
    /// The backend at an index; none beyond the table.
    fn backend(&self, index: u32) -> Option<Backend>;
}

/// What was found cannot be adopted.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError<E> {
    /// A map could not be read.
    #[error(transparent)]
    Read(#[from] E),
    /// The tables of a service contradict each other or another's.
    #[error(
        "the pinned BPF maps of service {service} are inconsistent: {what}: remove this director's directory in /sys/fs/bpf/lbx, which ends forwarding, and start again"
    )]
    Damaged {
        /// The service.
        service: VirtualService,
        /// The contradiction.
        what: &'static str,
    },
    /// The tables that services are found by contradict themselves.
    #[error(
        "the pinned BPF map of {table} is inconsistent: remove this director's directory in /sys/fs/bpf/lbx, which ends forwarding, and start again"
    )]
    InconsistentLookup {
        /// The table: VIPs or ports.
        table: &'static str,
    },
}

impl Tables {
    /// Reads the tables back. Open windows start again at `now`.
    ///
    /// # Errors
    /// A map cannot be read, or its content contradicts itself.
    pub fn adopt<M: MapReader>(maps: &M, now: u32) -> Result<Self, AdoptError<M::Error>> {
        let mut tables = Self {
            lookup_current: false,
            ..Self::new(&maps.layout())
        };
        let found = tables.read_lookup(maps, now)?;
        let quic_ids = maps.quic_ids()?;
        for (number, ports) in found {
            let Some(id) = identity(&ports) else { continue };
            let damaged = |what| AdoptError::Damaged { service: id, what };
            let service = maps
                .service(number)
                .ok_or_else(|| damaged("its number lies beyond the table"))?;
            let mut loaded = read_service(maps, &service, damaged, now)?;
            loaded.service_number = number;
            loaded.ports = PortSet::from_ports(ports.iter().map(|port| port.port));
            loaded.backends_by_quic_id = quic_ids
                .iter()
                .filter(|(of, ..)| *of == number)
                .map(|&(_, id, index)| (id, index))
                .collect();
            tables.claim(&loaded).map_err(damaged)?;
            tables.services.insert(id, Arc::new(loaded));
        }
        Ok(tables)
    }

    /// Reads the lookup tables: the ports of every service number. Ports of a VIP that is not in the table match no packet;
    /// the next plan removes them.
    fn read_lookup<M: MapReader>(
        &mut self,
        maps: &M,
        now: u32,
    ) -> Result<BTreeMap<u16, Vec<Found>>, AdoptError<M::Error>> {
        let lookup = Arc::make_mut(&mut self.lookup);
        let mut vips: BTreeMap<u16, IpAddr> = BTreeMap::new();
        for (index, entry) in maps.vips() {
            let vip = super::lookup::ip(entry.address);
            if !lookup.restore_vip(index, entry) || vips.insert(strip_flags(entry.vip_number_and_flags), vip).is_some()
            {
                return Err(AdoptError::InconsistentLookup { table: "VIPs" });
            }
        }
        let mut numbers: BTreeSet<u16> = vips.keys().copied().collect();
        let mut services: BTreeMap<u16, Vec<Found>> = BTreeMap::new();
        for (index, entry) in maps.ports() {
            if !lookup.restore_port(index, entry) {
                return Err(AdoptError::InconsistentLookup { table: "ports" });
            }
            let (vip, protocol, port) = split_port_key(entry.key);
            if numbers.insert(vip) {
                self.allocations.pending_free.push((now, PendingFree::Vip(vip)));
            }
            if let (Some(&vip), Some(protocol)) = (vips.get(&vip), Protocol::from_number(protocol)) {
                services
                    .entry(strip_flags(entry.service_number_and_flags))
                    .or_default()
                    .push(Found {
                        vip,
                        protocol,
                        port,
                        primary: entry.service_number_and_flags & PRIMARY_PORT != 0,
                    });
            }
        }
        for number in numbers {
            self.allocations.vips.reserve(Range::one(u32::from(number)));
        }
        Ok(services)
    }

    /// Reserves the ranges of a service.
    fn claim(&mut self, loaded: &LoadedService) -> Result<(), &'static str> {
        let allocations = &mut self.allocations;
        let number = Range::one(u32::from(loaded.service_number));
        for (free, what) in [
            (
                allocations.services.reserve(number),
                "its number is in use by another service",
            ),
            (
                allocations.slots.reserve(loaded.slots_range),
                "its slots overlap another service's",
            ),
            (
                allocations.rings.reserve(loaded.scheduler_ring_range),
                "its ring overlaps another service's",
            ),
            (
                allocations.backends.reserve(loaded.backends_range),
                "its backends overlap another service's",
            ),
        ] {
            if !free {
                return Err(what);
            }
        }
        for counter in loaded.counter_indices() {
            if !allocations.counters.reserve(Range::one(counter)) {
                return Err("a counter is in use by another service");
            }
        }
        Ok(())
    }
}

/// A port found in the maps.
struct Found {
    vip: IpAddr,
    protocol: Protocol,
    port: u16,
    primary: bool,
}

/// The identity of a service: its first port, or the lowest if the former daemon died before it wrote that one.
fn identity(ports: &[Found]) -> Option<VirtualService> {
    let found = ports.iter().min_by_key(|port| (!port.primary, port.port))?;
    Some(VirtualService {
        vip: found.vip,
        port: found.port,
        protocol: found.protocol,
    })
}

fn read_service<M: MapReader>(
    maps: &M,
    service: &Service,
    damaged: impl Fn(&'static str) -> AdoptError<M::Error>,
    now: u32,
) -> Result<LoadedService, AdoptError<M::Error>> {
    let policy = FlowPolicy::from_abi(service).ok_or_else(|| damaged("unknown scheduler"))?;
    let slots: Vec<Slot> = indices(service.slots_base, service.slots_len)
        .map(|index| maps.slot(index))
        .collect::<Option<_>>()
        .ok_or_else(|| damaged("its slots lie beyond the table"))?;
    let backends: Vec<Backend> = indices(service.backends_base, service.backends_capacity)
        .map(|index| maps.backend(index))
        .collect::<Option<_>>()
        .ok_or_else(|| damaged("its backends lie beyond the table"))?;
    let ring: Vec<RingEntry> = indices(service.ring_base, service.ring_len)
        .map(|index| maps.ring_entry(index))
        .collect::<Result<_, _>>()?;
    let members = (0..slot::NO_BACKEND)
        .zip(&backends)
        .filter(|(_, backend)| MacAndState::from_word(backend.mac_and_state).state != backend::FREE)
        .map(|(index, backend)| (index, read_member(backend, index == service.sorry_server, now)))
        .collect();
    Ok(LoadedService {
        service_number: 0,
        ports: PortSet::All,
        policy,
        hash_input_flags: service.flags & HASH_INPUT_FLAGS,
        slots_range: Range {
            base: service.slots_base,
            len: service.slots_len,
        },
        slots: Slots::from_map(slots, now),
        scheduler_ring_range: Range {
            base: service.ring_base,
            len: service.ring_len,
        },
        ring,
        backends_range: Range {
            base: service.backends_base,
            len: service.backends_capacity,
        },
        backends: members,
        backends_by_quic_id: BTreeMap::new(),
        candidates: None,
        recording_since_tick: (service.flags & WAS_SCHEDULED_BY_HASH != 0).then_some(now),
    })
}

fn indices(base: u32, len: u32) -> impl Iterator<Item = u32> {
    base..base.saturating_add(len)
}

fn read_member(backend: &Backend, sorry: bool, now: u32) -> LoadedBackend {
    let MacAndState { mac, state } = MacAndState::from_word(backend.mac_and_state);
    LoadedBackend {
        address: IpAddr::V6(Ipv6Addr::from(backend.address)).to_canonical(),
        weight: backend.weight as u16,
        upper_threshold: backend.upper_threshold,
        lower_threshold: backend.lower_threshold,
        sorry,
        next_hop: NextHop {
            mac,
            ifindex: backend.ifindex,
            source: mac_from_word(backend.source_mac),
            vlan_tags: [backend.vlan_tags.outer, backend.vlan_tags.inner],
        },
        counter_index: backend.counter_index,
        state: match state {
            backend::FAILED_KEEP => BackendState::FailedKeep,
            backend::FAILED_DROP => BackendState::FailedDrop,
            backend::DRAINING if backend.weight > 0 => BackendState::Draining,
            state if backend::may_have_connections(state) => BackendState::Up,
            _ => BackendState::Dead { since: now },
        },
        // An older daemon has left no tick: the drain timeout starts again.
        removed_since_tick: match (backend.removed_since, state) {
            (0, backend::REMOVED) => Some(now),
            (0, _) => None,
            (tick, _) => Some((tick - 1) & TICK_MASK),
        },
    }
}
