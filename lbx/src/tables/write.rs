//! The writes a plan consists of: what the data plane carries out, in order.

use std::net::IpAddr;

use lbx_common::{
    backend::Backend,
    service::{Service, ServiceKey},
    slot::Slot,
};

/// One change of one map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A backend at its place in the flat table.
    Backend {
        /// Place in the table of all backends.
        place: u32,
        /// What is to stand there.
        value: Backend,
    },
    /// A new ring, in places no packet looks at yet.
    Ring {
        /// First place in the table of all ring entries.
        base: u32,
        /// Backend indices, turn by turn.
        entries: Vec<u16>,
    },
    /// Slots that change.
    Slots {
        /// First place of the service in the table of all slots.
        base: u32,
        /// Slot number within the service, and its new word.
        slots: Vec<(u32, Slot)>,
    },
    /// A service, new or changed.
    Service {
        /// What packets are matched by.
        key: ServiceKey,
        /// Where its tables lie.
        value: Service,
    },
    /// A service that is no longer.
    RemoveService(ServiceKey),
    /// An address that is a VIP from now on.
    Vip(IpAddr),
    /// An address that is a VIP no longer.
    RemoveVip(IpAddr),
    /// Counters and cursor of a service number that begins anew.
    ResetService(u16),
    /// Counters of a backend that begins anew.
    ResetBackend(u32),
}
