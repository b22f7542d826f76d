//! The loaded tables, and the one path by which they change.
//!
//! [`Tables`] mirrors the maps of the kernel program. Start, reload, a neighbour's new MAC address, a drain:
//! everything goes through [`Tables::plan`], a pure function of the loaded and the desired state. It returns the writes
//! that take one to the other, in an order that is safe at every step, and the events to log. [`Tables::plan_expiry`] plans
//! what only time brings: it closes windows and frees what is no longer used.
//!
//! - [`allocate`]: ranges of the flat tables
//! - [`lookup`]: VIPs and ports, by which packets find services
//! - [`service`]: one service as loaded, and its own part of the plan; [`flow_policy`]: scheduler, flags and
//!   timeouts; [`members`]: its real servers; [`slow_start`]: reduced weights after coming up
//! - [`plan`]: all services
//! - [`draining`]: real servers that are out of the file
//! - [`window`]: slots from a change until they are settled
//! - [`expire`]: what expires with time
//! - [`adopt`]: the tables of a former daemon
//! - [`scan`]: flows counted from their records, expired records found; [`templates`]: clients that persist as long as a connection
//!   of theirs lives
//! - [`mod@write`], [`event`]: what a plan consists of

pub mod adopt;
pub mod allocate;
pub mod draining;
pub mod event;
pub mod expire;
pub mod flow_policy;
pub mod lookup;
pub mod members;
pub mod plan;
pub mod scan;
pub mod service;
pub mod slow_start;
pub mod templates;
pub mod window;
pub mod write;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use lbx_common::maps;

use crate::{
    desired::VirtualService,
    tables::{
        allocate::{Range, RangeAllocator},
        lookup::LookupTables,
        service::LoadedService,
    },
};

pub use self::{event::TableEvent, plan::Plan, write::MapWrite};

/// Next hop of a real server, resolved from route and neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The real server's MAC address.
    pub mac: [u8; 6],
    /// The NIC it is reached by.
    pub ifindex: u32,
    /// The VLAN tags that lead there, outer and inner: 12 bits of VLAN id, bit 15 for a tag of IEEE 802.1ad; 0: none.
    pub vlan_tags: [u16; 2],
    /// MAC address that frames are sent from: that of the NIC, or of the VLAN device on it.
    pub source: [u8; 6],
}

/// Ticks after which no packet can still be using what it found before: programs run for microseconds, and the writes of
/// a plan are done soon after it was made.
const GRACE: u32 = 2;

/// The next hops of all real servers that are resolved.
pub type NextHops = BTreeMap<IpAddr, NextHop>;

/// What the maps were made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapParameters {
    /// Seed of all bucket hashes.
    pub seed: u64,
    /// Capacity of the slot table.
    pub slot_capacity: u32,
    /// Buckets of ports: a power of two.
    pub port_bucket_count: u32,
}

impl Default for MapParameters {
    fn default() -> Self {
        Self {
            seed: 0,
            slot_capacity: maps::DEFAULT_SLOTS,
            port_bucket_count: maps::DEFAULT_PORT_ENTRIES,
        }
    }
}

/// A mirror of the maps. Cloning is cheap: what is large is shared until one of the copies changes it.
#[derive(Clone, Debug)]
pub struct Tables {
    /// Every loaded service.
    pub services: BTreeMap<VirtualService, Arc<LoadedService>>,
    /// VIPs and ports, by which packets find them.
    pub lookup: Arc<LookupTables>,
    /// Whether `lookup` agrees with `services`.
    lookup_current: bool,
    allocations: Allocations,
}

/// Allocations in the flat tables.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Allocations {
    slots: RangeAllocator,
    rings: RangeAllocator,
    backends: RangeAllocator,
    services: RangeAllocator,
    vips: RangeAllocator,
    counters: RangeAllocator,
    /// What packets in flight may still use, with the tick at which it was removed.
    pending_free: Vec<(u32, PendingFree)>,
}

/// An allocation to be freed once no packet can be using it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PendingFree {
    Slots(Range),
    Ring(Range),
    Backends(Range),
    Counter(u32),
    /// The entry of a removed service: it must be cleared before the ranges it names are reused.
    ServiceEntry(u16),
    /// A service number: freed once no record names it either.
    Service(u16),
    /// A VIP number.
    Vip(u16),
    /// An entry of the table of VIPs.
    VipEntry(u32),
    /// An entry of the table of ports.
    PortEntry(u32),
}

impl Default for Tables {
    fn default() -> Self {
        Self::new(&MapParameters::default())
    }
}

impl Tables {
    /// Empty tables.
    #[must_use]
    pub fn new(layout: &MapParameters) -> Self {
        Self {
            services: BTreeMap::new(),
            lookup: Arc::new(LookupTables::new(layout.seed, layout.port_bucket_count)),
            lookup_current: true,
            allocations: Allocations {
                slots: RangeAllocator::new("slots", layout.slot_capacity),
                rings: RangeAllocator::new("ring entries", maps::MAX_RING_ENTRIES),
                backends: RangeAllocator::new("backends", maps::MAX_BACKENDS),
                services: RangeAllocator::new("services", maps::MAX_SERVICES - 1),
                vips: RangeAllocator::new("VIPs", maps::MAX_VIPS),
                counters: RangeAllocator::new("backend counters", maps::MAX_SERVERS),
                pending_free: Vec::new(),
            },
        }
    }

    /// The VIPs of all loaded services.
    #[must_use]
    pub fn vips(&self) -> BTreeSet<IpAddr> {
        self.lookup.vips.keys().copied().collect()
    }

    /// The addresses of all real servers that may own flows, draining and failed ones included.
    pub fn backend_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.services
            .values()
            .flat_map(|service| service.backends.values())
            .filter(|member| member.state.may_own_flows())
            .map(|member| member.address)
    }

    /// The loaded service of a number.
    #[must_use]
    pub fn by_number(&self, number: u16) -> Option<(&VirtualService, &LoadedService)> {
        self.services
            .iter()
            .find(|(_, service)| service.service_number == number)
            .map(|(key, service)| (key, service.as_ref()))
    }
}
