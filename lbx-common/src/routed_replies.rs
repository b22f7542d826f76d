//! Replies from VIPs that real servers send to the director because it is their gateway. The VIP is an address of this host, so
//! its kernel drops what comes from there unless it is told otherwise.

use crate::address::Address;

/// Index in the map: replies over IPv4.
pub const OVER_IPV4: u32 = 0;
/// Index in the map: replies over IPv6.
pub const OVER_IPV6: u32 = 1;
/// Entries of the map.
pub const FAMILIES: u32 = 2;

/// Replies that one CPU has seen.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoutedReplies {
    /// How many: of TCP only packets with SYN and ACK, so that other traffic costs little.
    pub packets: u64,
    /// Where the last one arrived: [`segment_key`](crate::nic::segment_key).
    pub segment: u64,
    /// Its source.
    pub vip: Address,
    /// Its destination.
    pub client: Address,
}

const _: () = assert!(size_of::<RoutedReplies>() == 48 && align_of::<RoutedReplies>() == 8);
