//! Flow records: key and entry, in buckets of one cache line, two candidate buckets per flow.
//!
//! The key identifies the flow (one word for IPv4, three for IPv6), the entry has its backend and its state. A writer takes a
//! record by exchanging the entry for [`BEING_WRITTEN`], stores the key, then the entry; a reader reads key, entry and key again.
//! Expiry and removal only change the entry, by compare-and-exchange.
//!
//! A persistent client has a record too: a template, with client port and VIP port 0.

pub use crate::flow_event::FlowEvent;

use crate::address::Address;

/// A tick of the flow clock is 2^30 ns (1.07 s): a shift instead of a division on the packet path.
pub const TICK_SHIFT: u32 = 30;
/// Ticks are kept in 24 bits (208 days) and compared modulo that.
pub const TICK_MASK: u32 = 0xff_ffff;
/// IPv4 records in a bucket.
pub const RECORDS_PER_BUCKET4: usize = 4;
/// IPv6 records in a bucket.
pub const RECORDS_PER_BUCKET6: usize = 2;
/// Ticks for which an unconfirmed flow can't be displaced by another: longer than a client takes to answer or to retransmit
/// (RFC 6298: one second).
pub const EVICTION_GRACE_TICKS: u32 = 3;

/// No record.
pub const EMPTY: u8 = 0;
/// Being written.
pub const BEING_WRITTEN: u8 = 1;
/// TCP: SYN seen.
pub const HALF_OPEN: u8 = 2;
/// TCP: an ACK without a record; established once another packet follows in a later tick.
pub const MIDSTREAM: u8 = 3;
/// TCP: established.
pub const ESTABLISHED: u8 = 4;
/// TCP: FIN seen.
pub const CLOSING: u8 = 5;
/// TCP: RST seen.
pub const CLOSED: u8 = 6;
/// UDP: first packet.
pub const UDP_NEW: u8 = 7;
/// UDP: packets in more than one tick.
pub const UDP_STREAM: u8 = 8;
/// Template of a persistent client that has not established a connection yet.
pub const TEMPLATE_NEW: u8 = 9;
/// Template of a persistent client.
pub const TEMPLATE: u8 = 10;

/// A record in the map, with a key of `K` words. All zero: empty.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<const K: usize> {
    /// [`FlowKey::to_word`] or [`FlowKey::to_words`].
    pub key: [u64; K],
    /// [`FlowEntry::to_word`].
    pub entry_word: u64,
}

/// One cache line of `W` records with keys of `K` words.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket<const K: usize, const W: usize> {
    /// Its records, in no particular order.
    pub records: [Record<K>; W],
}

/// Words of an IPv4 key.
pub const KEY_WORDS4: usize = 1;
/// Words of an IPv6 key.
pub const KEY_WORDS6: usize = 3;
/// Records of IPv4 flows.
pub type Bucket4 = Bucket<KEY_WORDS4, RECORDS_PER_BUCKET4>;
/// Records of IPv6 flows.
pub type Bucket6 = Bucket<KEY_WORDS6, RECORDS_PER_BUCKET6>;

const _: () = assert!(size_of::<Record<KEY_WORDS4>>() == 16 && size_of::<Record<KEY_WORDS6>>() == 32);
const _: () = assert!(size_of::<Bucket4>() == 64 && align_of::<Bucket4>() == 64);
const _: () = assert!(size_of::<Bucket6>() == 64 && align_of::<Bucket6>() == 64);

/// Client and service. Together with the VIP port of the [`FlowEntry`] it identifies a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Client's address.
    pub client: Address,
    /// Client's port, as in the packet.
    pub client_port: [u8; 2],
    /// Service number.
    pub service: u16,
}

impl FlowKey {
    /// The key of an IPv4 record: address in bits 0–31, client port in 32–47, service in 48–63.
    #[inline(always)]
    #[must_use]
    pub const fn to_word(self) -> u64 {
        u32::from_le_bytes(self.client.ipv4()) as u64 | self.rest() << 32
    }

    /// The key of an IPv4 record's word.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self {
            client: Address::from_ipv4((word as u32).to_le_bytes()),
            client_port: ((word >> 32) as u16).to_le_bytes(),
            service: (word >> 48) as u16,
        }
    }

    /// The key of an IPv6 record: both words of the address, then client port in bits 0–15 and service in 16–31.
    #[inline(always)]
    #[must_use]
    pub const fn to_words(self) -> [u64; KEY_WORDS6] {
        [self.client.high_be, self.client.low_be, self.rest()]
    }

    /// The key of an IPv6 record's words.
    #[must_use]
    pub const fn from_words(words: [u64; KEY_WORDS6]) -> Self {
        Self {
            client: Address {
                high_be: words[0],
                low_be: words[1],
            },
            client_port: (words[2] as u16).to_le_bytes(),
            service: (words[2] >> 16) as u16,
        }
    }

    #[inline(always)]
    const fn rest(self) -> u64 {
        u16::from_le_bytes(self.client_port) as u64 | (self.service as u64) << 16
    }
}

/// Backend and state of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowEntry {
    /// VIP port, as in the packet.
    pub vip_port: [u8; 2],
    /// Backend's index within the service.
    pub backend: u16,
    /// One of the states above.
    pub state: u8,
    /// Tick of the last packet, [`TICK_MASK`] wide.
    pub last_seen_tick: u32,
}

impl FlowEntry {
    /// The word in the map.
    #[inline(always)]
    #[must_use]
    pub const fn to_word(self) -> u64 {
        u16::from_le_bytes(self.vip_port) as u64
            | (self.backend as u64) << 16
            | (self.state as u64) << 32
            | ((self.last_seen_tick & TICK_MASK) as u64) << 40
    }

    /// The entry of a word.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self {
            vip_port: (word as u16).to_le_bytes(),
            backend: (word >> 16) as u16,
            state: (word >> 32) as u8,
            last_seen_tick: (word >> 40) as u32,
        }
    }

    /// The entry seen at tick `now`; the same where it has been re-armed for a time after that.
    #[inline(always)]
    #[must_use]
    pub const fn seen_at(self, now: u32) -> Self {
        let re_armed = elapsed_ticks(self.last_seen_tick, now) > TICK_MASK / 2;
        Self {
            last_seen_tick: if re_armed { self.last_seen_tick } else { now },
            ..self
        }
    }

    /// Whether it has been idle for longer than its state allows. `now` is a tick.
    #[inline(always)]
    #[must_use]
    pub const fn expired(self, now: u32, timeouts: &crate::service::TimeoutTicks) -> bool {
        let idle = elapsed_ticks(self.last_seen_tick, now);
        // The clock of this CPU may lag a tick behind the writer's: that is not idle time.
        idle > timeout_ticks(self.state, timeouts) as u32 && idle < TICK_MASK / 2
    }
}

/// Ticks from `since` to `now`.
#[inline(always)]
#[must_use]
pub const fn elapsed_ticks(since: u32, now: u32) -> u32 {
    now.wrapping_sub(since) & TICK_MASK
}

/// Idle timeout of a state in ticks. An adopted flow may be established, so it has that timeout.
#[inline(always)]
#[must_use]
pub const fn timeout_ticks(state: u8, timeouts: &crate::service::TimeoutTicks) -> u16 {
    match state {
        HALF_OPEN => timeouts.half_open,
        CLOSING => timeouts.closing,
        CLOSED => timeouts.closed,
        UDP_NEW | UDP_STREAM => timeouts.udp,
        TEMPLATE_NEW => timeouts.half_open,
        TEMPLATE => timeouts.persistent,
        _ => timeouts.established,
    }
}

/// Whether a new flow may displace a live record in this state after [`EVICTION_GRACE_TICKS`]: the flow is unconfirmed, that is, its
/// client may have forged its address.
#[inline(always)]
#[must_use]
pub const fn is_evictable(state: u8) -> bool {
    matches!(state, HALF_OPEN | MIDSTREAM | UDP_NEW | TEMPLATE_NEW)
}

/// Whether a SYN on this flow starts a new connection.
#[inline(always)]
#[must_use]
pub const fn is_closing(state: u8) -> bool {
    matches!(state, CLOSING | CLOSED)
}

/// Whether schedulers count the flow as active: established connections, and UDP flows.
#[must_use]
pub const fn is_active(state: u8) -> bool {
    matches!(state, MIDSTREAM | ESTABLISHED | UDP_NEW | UDP_STREAM)
}

/// Whether a record counts as a connection of its backend: templates do not.
#[must_use]
pub const fn is_connection(state: u8) -> bool {
    state > BEING_WRITTEN && state < TEMPLATE_NEW
}

/// Whether a record is the template of a persistent client.
#[must_use]
pub const fn is_template(state: u8) -> bool {
    matches!(state, TEMPLATE_NEW | TEMPLATE)
}

/// The state a new record starts in, or none: SYN+ACK, RST, FIN and related packets create no record.
#[inline(always)]
#[must_use]
pub const fn first_state(signal: FlowEvent) -> Option<u8> {
    if signal.opens_connection() {
        Some(HALF_OPEN)
    } else if signal.continues_connection() {
        Some(MIDSTREAM)
    } else if signal.is_datagram() {
        Some(UDP_NEW)
    } else {
        None
    }
}

impl FlowEntry {
    /// The entry after a packet at tick `now`, derived from the client's packets only (direct server return hides the others);
    /// the same if nothing changes.
    ///
    /// A forged FIN or RST does not end a flow: an ACK after an RST, or well after a FIN, shows that it is alive. The last ACK
    /// of an orderly close follows the FIN in the same tick or the next.
    #[inline(always)]
    #[must_use]
    pub const fn after_packet(self, signal: FlowEvent, now: u32) -> Self {
        let idle = elapsed_ticks(self.last_seen_tick, now);
        let state = if signal.is_rst() {
            CLOSED
        } else if signal.is_fin() {
            CLOSING
        } else if signal.is_related() {
            return self;
        } else if signal.is_datagram() {
            if idle == 0 { self.state } else { UDP_STREAM }
        } else if !signal.continues_connection() {
            self.state
        } else if self.state == CLOSING && idle < 2 {
            // Keeps the time of the FIN: otherwise a busy flow would stay in CLOSING.
            return self;
        } else if self.state == MIDSTREAM && idle == 0 {
            MIDSTREAM
        } else {
            ESTABLISHED
        };
        Self {
            state,
            last_seen_tick: now,
            ..self
        }
    }
}

#[cfg(test)]
mod tests;
