//! Which decisions are traced. The program looks at this only when it was loaded with tracing on.

/// Value of the trace filter map: one entry. A zero field matches everything.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceFilter {
    /// The client's address as it lies in the packet (network byte order).
    pub client: [u8; 4],
    /// Service number plus one.
    pub service: u32,
}

const _: () = assert!(size_of::<TraceFilter>() == 8);

impl TraceFilter {
    /// Whether a decision for this client and service number is to be told.
    #[inline(always)]
    #[must_use]
    pub const fn matches(&self, client: [u8; 4], service: u16) -> bool {
        let any_client = u32::from_ne_bytes(self.client) == 0;
        (any_client || u32::from_ne_bytes(self.client) == u32::from_ne_bytes(client))
            && (self.service == 0 || self.service == service as u32 + 1)
    }
}
