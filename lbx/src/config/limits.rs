//! How much there may be of anything: every limit of the file.

use std::{ops::RangeInclusive, time::Duration};

use lbx_common::maps;

/// Largest file in bytes, so that a wrong path (a disk, an endless pipe) is refused and not read to its end.
pub(super) const FILE: u64 = 64 << 20;

/// Faults of a file that are reported one by one.
pub(super) const FAULTS: usize = 50;

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

/// Time from one probe to the next.
pub(super) const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
/// Shortest time a probe may take; its interval is the longest.
pub(super) const SHORTEST_TIMEOUT: Duration = Duration::from_millis(10);
/// Probes in a row.
pub(super) const PROBES: RangeInclusive<u32> = 1..=255;
/// Hundredths of the interval by which a probe is early or late.
pub(super) const JITTER: RangeInclusive<u8> = 0..=50;
/// Times of damping.
pub(super) const DAMPING: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(16 * 3600);
/// Time for a notify command.
pub(super) const NOTIFY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
/// Sums of weights that make a quorum.
pub(super) const QUORUMS: RangeInclusive<u32> = 1..=u32::MAX;
/// More or less than that.
pub(super) const HYSTERESES: RangeInclusive<u32> = 0..=u32::MAX;

/// Status codes (RFC 9110 section 15).
pub(super) const STATUSES: RangeInclusive<u16> = 100..=599;
/// Ranges of status codes at most.
pub(super) const STATUS_RANGES: usize = 64;
/// Bytes of a path in a request.
pub(super) const PATH: RangeInclusive<usize> = 1..=2048;
/// Bytes of a host name: 253 (RFC 1035 section 2.3.4, as text without the last dot), and a port.
pub(super) const HOST: RangeInclusive<usize> = 1..=253 + 6;
/// Headers of a request at most.
pub(super) const HEADERS: usize = 32;
/// Bytes of the name of a header.
pub(super) const HEADER_NAME: RangeInclusive<usize> = 1..=128;
/// Bytes of the value of a header.
pub(super) const HEADER_VALUE: RangeInclusive<usize> = 0..=4096;
/// Bytes of a regular expression.
pub(super) const REGEX: RangeInclusive<usize> = 1..=4096;
/// Bytes of a file with authorities at most.
pub(super) const AUTHORITIES: u64 = 16 << 20;
/// Bytes of a path of a file (PATH_MAX less the terminating zero, linux/limits.h).
pub(super) const FILE_NAME: RangeInclusive<usize> = 1..=4095;

/// Bytes of the path of a Unix socket (`sun_path` less the terminating zero, linux/un.h).
pub(super) const SOCKET_PATH: RangeInclusive<usize> = 1..=107;

/// Bytes of a domain name as text.
pub(super) const DOMAIN: RangeInclusive<usize> = 1..=254;
/// Bytes of the name of a record type or a response code.
pub(super) const DNS_WORD: RangeInclusive<usize> = 1..=16;
/// Bytes of the data of a record as text.
pub(super) const DNS_ANSWER: RangeInclusive<usize> = 1..=1024;
/// Bytes of a datagram: one packet of any Ethernet segment.
pub(super) const DATAGRAM: RangeInclusive<usize> = 0..=1400;

/// A program and its arguments at most.
pub(super) const ARGUMENTS: usize = 64;
/// Bytes of an argument or of the value of a variable.
pub(super) const ARGUMENT: RangeInclusive<usize> = 0..=4096;
/// Variables of a command at most.
pub(super) const VARIABLES: usize = 64;
/// Bytes of the name of a variable.
pub(super) const VARIABLE: RangeInclusive<usize> = 1..=128;
