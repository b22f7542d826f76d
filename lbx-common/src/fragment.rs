//! Fragmented packets: only the first fragment carries ports, so where it was sent is recorded for the later ones.

use crate::address::Address;

/// Key of the fragment table: the fields common to all fragments of a packet (RFC 791 section 3.2, RFC 8200 section 4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentKey {
    /// Source address.
    pub client: Address,
    /// Destination address.
    pub vip: Address,
    /// Identification as in the packet, widened for IPv4.
    pub identification: u32,
    /// IPv4: IP protocol number of the fragmented packet. IPv6: 0, since each fragment may name another next header, and
    /// only that of the first counts.
    pub protocol: u32,
}

/// Where the first fragment was sent.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstFragment {
    /// Service number; [`NO_BACKEND`](crate::slot::NO_BACKEND): no service has its port, it passed to the director's network stack.
    pub service: u16,
    /// Backend's index within the service.
    pub backend: u16,
    /// The tick of the first fragment.
    pub tick: u32,
}

/// Ticks for which later fragments are sent where the first was: as long as a receiver waits for them (RFC 8200 section 4.5: 60 s; Linux: 30 s).
pub const LIFETIME_TICKS: u32 = 56;

const _: () = assert!(size_of::<FragmentKey>() == 40 && size_of::<FirstFragment>() == 8);
