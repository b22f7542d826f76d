//! The writes a plan consists of: what the data plane carries out, in order.

use lbx_common::{
    backend::Backend,
    lookup::{PortEntry, VipEntry},
    ring::Turn,
    service::Service,
    slot::Slot,
};

/// One change of one map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A backend at its index in the flat table.
    Backend {
        /// Place in the table of all backends.
        index: u32,
        /// What is to stand there.
        value: Backend,
    },
    /// A new ring, in indices no packet looks at yet.
    Ring {
        /// First index in the table of all ring entries.
        base: u32,
        /// Whose turn it is, turn by turn.
        entries: Vec<Turn>,
    },
    /// Slots that change.
    Slots {
        /// First index of the service in the table of all slots.
        base: u32,
        /// Slot number within the service, and its new word.
        slots: Vec<(u32, Slot)>,
    },
    /// A service, new or changed, word by word from the last to the first: flags change when all they lead to stands.
    Service {
        /// Its number.
        number: u16,
        /// Where its tables lie.
        value: Service,
    },
    /// An entry of the table of VIPs: all zero where none is to be.
    Vip {
        /// Bucket times ways, plus way.
        index: u32,
        /// What is to stand there.
        entry: VipEntry,
    },
    /// An entry of the table of ports: all zero where none is to be.
    Port {
        /// Bucket times ways, plus way.
        index: u32,
        /// What is to stand there.
        entry: PortEntry,
    },
    /// Where packets with a QUIC server id go, or that they go nowhere for it.
    QuicId {
        /// Service number.
        service: u16,
        /// Server id.
        id: u16,
        /// Backend's index.
        backend: Option<u16>,
    },
    /// Counters and cursor of a service number that begins anew.
    ResetService(u16),
    /// Counters and load of a backend that begins anew.
    ResetBackend(u32),
}
