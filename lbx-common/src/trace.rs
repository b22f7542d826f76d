//! The decision trace: which decisions are traced, and why a real server was selected. The program looks at the filter only
//! when it was loaded with tracing on.

use crate::address::Address;

/// Value of the trace filter map: one entry. A zero field matches everything.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceFilter {
    /// The client's address.
    pub client: Address,
    /// Service number plus one.
    pub service_plus_one: u64,
}

const _: () = assert!(size_of::<TraceFilter>() == 24);

impl TraceFilter {
    /// Whether a decision for this client and service number is to be emitted.
    #[inline(always)]
    #[must_use]
    pub const fn matches(&self, client: Address, service: u16) -> bool {
        let any_client = self.client.high_be | self.client.low_be == 0;
        let same_client = self.client.high_be == client.high_be && self.client.low_be == client.low_be;
        (any_client || same_client) && (self.service_plus_one == 0 || self.service_plus_one == service as u64 + 1)
    }
}

/// Why a backend was selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SelectionReason {
    /// The slot's backend: a hashed service outside of any window.
    Slot = 0,
    /// The flow's record.
    Record = 1,
    /// The scheduler's choice for a new flow.
    Scheduled = 2,
    /// The slot's owner: it gets packets of flows without a record.
    Owner = 3,
    /// The backend of the packet's first fragment.
    Fragment = 4,
    /// The server id in a QUIC connection id.
    Quic = 5,
}

impl SelectionReason {
    /// The reason of a code.
    #[inline(always)]
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Record,
            2 => Self::Scheduled,
            3 => Self::Owner,
            4 => Self::Fragment,
            5 => Self::Quic,
            _ => Self::Slot,
        }
    }
}
