//! Records of flows: two words each, four to a bucket of one cache line, two candidate buckets per flow.
//!
//! Word A names the flow, word B says where it goes and what was last seen of it. A writer takes a record by exchanging B
//! for [`BUSY`], stores A, then stores B; a reader reads A, B and A again. Whoever only ages or removes records touches
//! B alone, by compare-and-exchange.

/// A tick of the flow clock is 2^30 ns (1.07 s): a shift instead of a division on the packet path.
pub const TICK_SHIFT: u32 = 30;
/// Ticks are kept in 24 bits (208 days) and compared modulo that.
pub const TICK_MASK: u32 = 0xff_ffff;
/// Records in a bucket.
pub const WAYS: usize = 4;

/// Nothing here.
pub const EMPTY: u8 = 0;
/// Being written.
pub const BUSY: u8 = 1;
/// TCP: SYN seen.
pub const HALF_OPEN: u8 = 2;
/// TCP: an ACK without a record; established once another packet follows in a later tick.
pub const ADOPTED: u8 = 3;
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

/// A record as it lies in the map. All zero: empty.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// [`FlowKey::to_word`].
    pub a: u64,
    /// [`Entry::to_word`].
    pub b: u64,
}

/// One cache line of records.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Its records, in no order.
    pub records: [Record; WAYS],
}

const _: () = assert!(size_of::<Record>() == 16);
const _: () = assert!(size_of::<Bucket>() == 64 && align_of::<Bucket>() == 64);

/// Who talks to which service. With the VIP port of the [`Entry`] it names a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Client's address, as in the packet.
    pub client: [u8; 4],
    /// Client's port, as in the packet.
    pub client_port: [u8; 2],
    /// Service number.
    pub service: u16,
}

impl FlowKey {
    /// Word A.
    #[inline(always)]
    #[must_use]
    pub const fn to_word(self) -> u64 {
        u32::from_le_bytes(self.client) as u64
            | (u16::from_le_bytes(self.client_port) as u64) << 32
            | (self.service as u64) << 48
    }

    /// The key of a word A.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self {
            client: (word as u32).to_le_bytes(),
            client_port: ((word >> 32) as u16).to_le_bytes(),
            service: (word >> 48) as u16,
        }
    }
}

/// Where a flow goes and what was last seen of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// VIP port, as in the packet.
    pub vip_port: [u8; 2],
    /// Backend's index within the service.
    pub backend: u16,
    /// One of the states above.
    pub state: u8,
    /// Tick of the last packet, [`TICK_MASK`] wide.
    pub seen: u32,
}

impl Entry {
    /// Word B.
    #[inline(always)]
    #[must_use]
    pub const fn to_word(self) -> u64 {
        u16::from_le_bytes(self.vip_port) as u64
            | (self.backend as u64) << 16
            | (self.state as u64) << 32
            | ((self.seen & TICK_MASK) as u64) << 40
    }

    /// The entry of a word B.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self {
            vip_port: (word as u16).to_le_bytes(),
            backend: (word >> 16) as u16,
            state: (word >> 32) as u8,
            seen: (word >> 40) as u32,
        }
    }

    /// Whether it has been idle for longer than its state allows. `now` is a tick.
    #[inline(always)]
    #[must_use]
    pub const fn expired(self, now: u32, timeouts: &crate::service::Timeouts) -> bool {
        let idle = elapsed(self.seen, now);
        // A CPU whose clock lags a tick behind the writer's sees the future: not idle at all.
        idle > timeout(self.state, timeouts) as u32 && idle < TICK_MASK / 2
    }
}

/// Ticks from one to a later one.
#[inline(always)]
#[must_use]
pub const fn elapsed(since: u32, now: u32) -> u32 {
    now.wrapping_sub(since) & TICK_MASK
}

/// Idle timeout of a state in ticks. An adopted flow may be an established one, so it keeps that timeout.
#[inline(always)]
#[must_use]
pub const fn timeout(state: u8, timeouts: &crate::service::Timeouts) -> u16 {
    match state {
        HALF_OPEN => timeouts.half_open,
        CLOSING => timeouts.closing,
        CLOSED => timeouts.closed,
        UDP_NEW | UDP_STREAM => timeouts.udp,
        _ => timeouts.established,
    }
}

/// Whether a new flow may take the place of a live record in this state: nothing has yet proved it to be a real one.
#[inline(always)]
#[must_use]
pub const fn displaceable(state: u8) -> bool {
    matches!(state, HALF_OPEN | ADOPTED | UDP_NEW)
}

/// Whether a SYN on this flow starts a new connection.
#[inline(always)]
#[must_use]
pub const fn ending(state: u8) -> bool {
    matches!(state, CLOSING | CLOSED)
}

/// Whether ipvsadm would count the flow as active (ESTABLISHED there; UDP flows count as active in lbx).
#[must_use]
pub const fn active(state: u8) -> bool {
    matches!(state, ADOPTED | ESTABLISHED | UDP_NEW | UDP_STREAM)
}

/// What a packet says about its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// TCP SYN without ACK.
    Open,
    /// TCP FIN.
    Finish,
    /// TCP RST.
    Reset,
    /// TCP SYN with ACK: no client sends that first.
    Odd,
    /// Any other TCP packet.
    Data,
    /// UDP.
    Datagram,
}

impl Signal {
    /// Reads the TCP flags byte (RFC 9293 section 3.1).
    #[inline(always)]
    #[must_use]
    pub const fn of_tcp_flags(flags: u8) -> Self {
        const FIN: u8 = 0x01;
        const SYN: u8 = 0x02;
        const RST: u8 = 0x04;
        const ACK: u8 = 0x10;
        if flags & RST != 0 {
            Self::Reset
        } else if flags & SYN != 0 {
            if flags & ACK == 0 { Self::Open } else { Self::Odd }
        } else if flags & FIN != 0 {
            Self::Finish
        } else {
            Self::Data
        }
    }
}

/// The state a new record starts in, or none: SYN+ACK, RST and FIN create no record.
#[inline(always)]
#[must_use]
pub const fn first_state(signal: Signal) -> Option<u8> {
    match signal {
        Signal::Open => Some(HALF_OPEN),
        Signal::Data => Some(ADOPTED),
        Signal::Datagram => Some(UDP_NEW),
        Signal::Finish | Signal::Reset | Signal::Odd => None,
    }
}

impl Entry {
    /// The entry after a packet at tick `now`, seen from the client's side alone (direct server return hides the other);
    /// the same where there is nothing to note.
    ///
    /// A forged FIN or RST kills nothing: an ACK after an RST, or one well after a FIN, shows that the flow lives. The last
    /// ACK of an orderly close comes right after the FIN, in the same tick or the next.
    #[inline(always)]
    #[must_use]
    pub const fn after(self, signal: Signal, now: u32) -> Self {
        let idle = elapsed(self.seen, now);
        let state = match signal {
            Signal::Reset => CLOSED,
            Signal::Finish => CLOSING,
            Signal::Open | Signal::Odd => self.state,
            // The time of the FIN stays, or a busy flow would never be seen to live on.
            Signal::Data if self.state == CLOSING && idle < 2 => return self,
            Signal::Data if self.state == ADOPTED && idle == 0 => ADOPTED,
            Signal::Data => ESTABLISHED,
            Signal::Datagram if idle == 0 => self.state,
            Signal::Datagram => UDP_STREAM,
        };
        Self {
            state,
            seen: now,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Timeouts;

    const TIMEOUTS: Timeouts = Timeouts {
        half_open: 60,
        established: 900,
        closing: 120,
        closed: 10,
        udp: 300,
        pad: 0,
    };

    #[test]
    fn words_round_trip() {
        let key = FlowKey {
            client: [192, 168, 1, 10],
            client_port: [0xab, 0xcd],
            service: 0x1234,
        };
        assert_eq!(FlowKey::from_word(key.to_word()), key);
        let entry = Entry {
            vip_port: [0, 80],
            backend: 65_534,
            state: UDP_STREAM,
            seen: TICK_MASK,
        };
        assert_eq!(Entry::from_word(entry.to_word()), entry);
        assert_eq!(Record::default().b, 0, "an empty record is all zero");
    }

    #[test]
    fn idle_time_wraps_with_the_clock() {
        let entry = |state, seen| Entry {
            vip_port: [0, 80],
            backend: 0,
            state,
            seen,
        };
        assert!(!entry(ESTABLISHED, TICK_MASK - 100).expired(799, &TIMEOUTS));
        assert!(entry(ESTABLISHED, TICK_MASK - 100).expired(801, &TIMEOUTS));
        assert!(!entry(CLOSED, 20).expired(19, &TIMEOUTS), "a clock one tick behind");
        assert!(entry(CLOSED, 20).expired(31, &TIMEOUTS));
        assert!(!entry(ADOPTED, 0).expired(900, &TIMEOUTS));
    }

    #[test]
    fn a_forged_end_kills_nothing() {
        let at = |state, seen| Entry {
            vip_port: [0, 80],
            backend: 0,
            state,
            seen,
        };
        let reset = at(ESTABLISHED, 5).after(Signal::Reset, 5);
        assert_eq!(reset.after(Signal::Data, 5), at(ESTABLISHED, 5));
        let finished = at(ESTABLISHED, 5).after(Signal::Finish, 6);
        assert_eq!(finished, at(CLOSING, 6));
        assert_eq!(
            finished.after(Signal::Data, 7),
            finished,
            "the last ACK of an orderly close"
        );
        assert_eq!(finished.after(Signal::Data, 8), at(ESTABLISHED, 8));
    }

    #[test]
    fn a_flow_is_proved_by_a_later_packet() {
        let at = |state, seen| Entry {
            vip_port: [0, 80],
            backend: 0,
            state,
            seen,
        };
        assert_eq!(at(HALF_OPEN, 5).after(Signal::Data, 5), at(ESTABLISHED, 5));
        assert_eq!(at(ADOPTED, 5).after(Signal::Data, 5), at(ADOPTED, 5));
        assert_eq!(at(ADOPTED, 5).after(Signal::Data, 6), at(ESTABLISHED, 6));
        assert_eq!(at(UDP_NEW, TICK_MASK).after(Signal::Datagram, 0), at(UDP_STREAM, 0));
        assert_eq!(at(UDP_NEW, 5).after(Signal::Datagram, 5), at(UDP_NEW, 5));
    }

    #[test]
    fn flags_are_read_in_the_order_reset_syn_fin() {
        assert_eq!(Signal::of_tcp_flags(0x02), Signal::Open);
        assert_eq!(Signal::of_tcp_flags(0x12), Signal::Odd);
        assert_eq!(Signal::of_tcp_flags(0x11), Signal::Finish);
        assert_eq!(Signal::of_tcp_flags(0x14), Signal::Reset);
        assert_eq!(Signal::of_tcp_flags(0x18), Signal::Data);
    }
}
