//! What is loaded, and the one way it changes.
//!
//! [`Tables`] mirrors the maps of the kernel program. Start, reload, a neighbour that moves, a drain: everything goes
//! through [`Tables::plan`], a pure function over the union of what is loaded and what is wanted. It returns the writes
//! that lead from one to the other, in an order that is safe at every step, and what there is to tell about them.
//! [`Tables::age`] does what only time brings: it closes windows and frees what nobody uses any more.
//!
//! - [`allocate`]: indices in the flat tables
//! - [`lookup`]: what services are found by
//! - [`service`]: one service as loaded, and its own part of the plan; [`flow_policy`]: its settings; [`members`]: its real
//!   servers; [`slow_start`]: what those get that came up not long ago
//! - [`plan`]: all services
//! - [`window`]: the slots between a change and their rest
//! - [`age`]: what time brings
//! - [`adopt`]: the tables of a daemon that died
//! - [`scan`]: flows counted from their records
//! - [`mod@write`], [`event`]: what a plan consists of

pub mod adopt;
pub mod allocate;
pub mod event;
pub mod expire;
pub mod flow_policy;
pub mod lookup;
pub mod members;
pub mod plan;
pub mod scan;
pub mod service;
pub mod slow_start;
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
        allocate::{Range, Ranges},
        lookup::Lookup,
        service::LoadedService,
    },
};

pub use self::{event::Event, plan::Plan, write::Write};

/// Where frames for a real server go: resolved from route and neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The real server's MAC address.
    pub mac: [u8; 6],
    /// The NIC it is reached by.
    pub ifindex: u32,
    /// The VLAN tags that lead there, outer and inner: 12 bits of VLAN id, bit 15 for a tag of IEEE 802.1ad; 0: none.
    pub vlan: [u16; 2],
    /// MAC address that frames are sent from: that of the NIC, or of the VLAN device on it.
    pub source: [u8; 6],
}

/// Ticks after which no packet can still be using what it found before: programs run for microseconds, and the writes of
/// a plan are done soon after it was made.
const GRACE: u32 = 2;

/// The hops of all real servers that are resolved.
pub type NextHops = BTreeMap<IpAddr, NextHop>;

/// What the maps were made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Seed of all bucket hashes.
    pub seed: u64,
    /// Room for slots.
    pub slots: u32,
    /// Buckets of ports: a power of two.
    pub ports: u32,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            seed: 0,
            slots: maps::MAX_SLOTS,
            ports: maps::MAX_PORTS,
        }
    }
}

/// A mirror of the maps. Cloning is cheap: what is large is shared until one of the copies changes it.
#[derive(Clone, Debug)]
pub struct Tables {
    /// Every loaded service.
    pub services: BTreeMap<VirtualService, Arc<LoadedService>>,
    /// What packets find them by.
    pub lookup: Arc<Lookup>,
    /// Whether what packets find them by is known to be as it should.
    lookup_current: bool,
    allocations: Allocations,
}

/// Who holds which index in the flat tables.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Allocations {
    slots: Ranges,
    rings: Ranges,
    backends: Ranges,
    services: Ranges,
    vips: Ranges,
    counters: Ranges,
    /// What packets under way may still use, and since when (tick).
    pending_free: Vec<(u32, PendingFree)>,
}

/// Something to be freed when no packet can be using it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PendingFree {
    Slots(Range),
    Ring(Range),
    Backends(Range),
    Counter(u32),
    /// The value of a service that is no longer: before its indices are another's, it must lead to none of them.
    Value(u16),
    /// A service number: freed once no record names it either.
    Service(u16),
    /// A VIP number.
    Vip(u16),
    /// The index of a VIP.
    VipEntry(u32),
    /// The index of a port.
    PortEntry(u32),
}

impl Default for Tables {
    fn default() -> Self {
        Self::new(&Layout::default())
    }
}

impl Tables {
    /// Nothing loaded.
    #[must_use]
    pub fn new(layout: &Layout) -> Self {
        Self {
            services: BTreeMap::new(),
            lookup: Arc::new(Lookup::new(layout.seed, layout.ports)),
            lookup_current: true,
            allocations: Allocations {
                slots: Ranges::new("slots", layout.slots),
                rings: Ranges::new("ring entries", maps::MAX_RING_ENTRIES),
                backends: Ranges::new("backends", maps::MAX_BACKENDS),
                services: Ranges::new("services", maps::MAX_SERVICES - 1),
                vips: Ranges::new("VIPs", maps::MAX_VIPS),
                counters: Ranges::new("backend counters", maps::MAX_SERVERS),
                pending_free: Vec::new(),
            },
        }
    }

    /// The VIPs of all loaded services.
    #[must_use]
    pub fn vips(&self) -> BTreeSet<IpAddr> {
        self.lookup.vips.keys().copied().collect()
    }

    /// The addresses of all real servers that flows may be of, those that drain or have failed included.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.services
            .values()
            .flat_map(|service| service.members.values())
            .filter(|member| member.state.is_usable())
            .map(|member| member.address)
    }

    /// The loaded service of a number.
    #[must_use]
    pub fn by_number(&self, number: u16) -> Option<(&VirtualService, &LoadedService)> {
        self.services
            .iter()
            .find(|(_, service)| service.number == number)
            .map(|(key, service)| (key, service.as_ref()))
    }
}
