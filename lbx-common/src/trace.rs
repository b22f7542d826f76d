//! Which decisions are traced. The program looks at this only when it was loaded with tracing on.

use crate::address::Address;

/// Value of the trace filter map: one entry. A zero field matches everything.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceFilter {
    /// The client's address.
    pub client: Address,
    /// Service number plus one.
    pub service: u64,
}

const _: () = assert!(size_of::<TraceFilter>() == 24);

impl TraceFilter {
    /// Whether a decision for this client and service number is to be emitted.
    #[inline(always)]
    #[must_use]
    pub const fn matches(&self, client: Address, service: u16) -> bool {
        let any_client = self.client.high | self.client.low == 0;
        let same_client = self.client.high == client.high && self.client.low == client.low;
        (any_client || same_client) && (self.service == 0 || self.service == service as u64 + 1)
    }
}
