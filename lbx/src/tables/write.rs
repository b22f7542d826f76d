//! The writes of a plan, which the data plane applies in order.

use lbx_common::{
    backend::Backend,
    lookup::{PortEntry, VipEntry},
    ring::RingEntry,
    service::Service,
    slot::Slot,
};

/// One change of one map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapWrite {
    /// A backend in the flat table.
    Backend {
        /// Place in the table of all backends.
        index: u32,
        /// The new entry.
        value: Backend,
    },
    /// A new ring, in a range that no packet reads yet.
    Ring {
        /// First index in the table of all ring entries.
        base: u32,
        /// Its entries, in order.
        entries: Vec<RingEntry>,
    },
    /// Slots that change.
    Slots {
        /// First index of the service in the table of all slots.
        base: u32,
        /// Slot number within the service, and its new word.
        slots: Vec<(u32, Slot)>,
    },
    /// A service, new or changed, word by word from the last to the first: the flags are written after everything they refer to.
    Service {
        /// Its number.
        number: u16,
        /// Its entry.
        value: Service,
    },
    /// An entry of the table of VIPs: all zero to remove it.
    Vip {
        /// Bucket times ways, plus way.
        index: u32,
        /// The new entry.
        entry: VipEntry,
    },
    /// An entry of the table of ports: all zero to remove it.
    Port {
        /// Bucket times ways, plus way.
        index: u32,
        /// The new entry.
        entry: PortEntry,
    },
    /// The backend of a QUIC server id; none to remove it.
    QuicId {
        /// Service number.
        service: u16,
        /// Server id.
        id: u16,
        /// Backend's index.
        backend: Option<u16>,
    },
    /// Resets counters and cursor of a service number.
    ResetServiceCounters(u16),
    /// Resets counters and load of a backend.
    ResetBackendCounters(u32),
}
