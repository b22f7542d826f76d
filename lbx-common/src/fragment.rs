//! Fragmented packets: only the first fragment carries ports, so where it went is kept for those that follow.

use crate::address::Address;

/// What the fragments of one packet have in common (RFC 791 section 3.2, RFC 8200 section 4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentKey {
    /// Who sent it.
    pub client: Address,
    /// Where to.
    pub vip: Address,
    /// Identification as it lies in the packet, widened for IPv4.
    pub identification: u32,
    /// IPv4: IP protocol number of what is fragmented. IPv6: 0, since every fragment may name another header as the next
    /// one, and only that of the first counts.
    pub protocol: u32,
}

/// Where the first fragment went.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragmented {
    /// Service number; [`NONE`](crate::slot::NONE): no service has its port, it went to the director's own stack.
    pub service: u16,
    /// Backend's index within the service.
    pub backend: u16,
    /// The tick of the first fragment.
    pub since: u32,
}

/// Ticks for which fragments follow their first: as long as a receiver waits for them (RFC 8200 section 4.5: 60 s; Linux: 30 s).
pub const LIFETIME: u32 = 56;

const _: () = assert!(size_of::<FragmentKey>() == 40 && size_of::<Fragmented>() == 8);
