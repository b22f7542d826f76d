//! How much there may be of anything: every limit of the file.

use std::ops::RangeInclusive;

use lbx_common::maps;

/// Largest file in bytes, so that a wrong path (a disk, an endless pipe) is refused and not read to its end.
pub(super) const FILE: u64 = 64 << 20;

/// Interfaces at most.
pub(super) const INTERFACES: usize = maps::MAX_NICS as usize;
/// Longest interface name in bytes (IFNAMSIZ less the terminating zero, linux/if.h).
pub(super) const INTERFACE_NAME: usize = 15;

/// Services at most: the last number means none.
pub(super) const SERVICES: usize = maps::MAX_SERVICES as usize - 1;
/// Longest service name in bytes: listings have columns.
pub(super) const SERVICE_NAME: usize = 64;
/// Ports; 0 stands for all of them.
pub(super) const PORTS: RangeInclusive<u16> = 1..=u16::MAX;
/// Slots of one service: from the fewest a new service gets to the most.
pub(super) const SLOTS: RangeInclusive<u32> = 251..=65_537;

/// Real servers of one service at most.
pub(super) const REAL_SERVERS: usize = 4096;
/// Real servers and sorry servers of all services together at most.
pub(super) const ALL_REAL_SERVERS: usize = maps::MAX_SERVERS as usize;
/// Weights; 0 drains.
pub(super) const WEIGHTS: RangeInclusive<u16> = 0..=u16::MAX;
/// Thresholds of connections; 0: none.
pub(super) const THRESHOLDS: RangeInclusive<u32> = 0..=u32::MAX;
/// Server ids in QUIC connection ids: two bytes.
pub(super) const QUIC_IDS: RangeInclusive<u16> = 0..=u16::MAX;

/// Times in seconds, 1 s to 16 h: a u16 holds them, as seconds and as ticks.
pub(super) const TIMES: RangeInclusive<u64> = 1..=16 * 3600;
/// Prefix lengths of IPv4 networks of clients.
pub(super) const PREFIXES4: RangeInclusive<u8> = 1..=32;
/// Prefix lengths of IPv6 networks of clients.
pub(super) const PREFIXES6: RangeInclusive<u8> = 1..=128;

/// `tables.flows` and `tables.flows6`: up to 2 GiB and 4 GiB.
pub(super) const TABLE_FLOWS: RangeInclusive<u32> = 1 << 10..=1 << 27;
/// `tables.slots`: up to 1 GiB.
pub(super) const TABLE_SLOTS: RangeInclusive<u32> = 1 << 10..=1 << 27;
/// `tables.ports`: up to 256 MiB.
pub(super) const TABLE_PORTS: RangeInclusive<u32> = 1 << 10..=1 << 22;
/// `tables.fragments`: up to about 112 MiB.
pub(super) const TABLE_FRAGMENTS: RangeInclusive<u32> = 1 << 10..=1 << 20;
