//! A backend: a real server inside a service, ready to be written into an Ethernet header.

/// No backend at this index.
pub const FREE: u8 = 0;
/// Packets may be sent to it, new connections too.
pub const UP: u8 = 1;
/// Failed, or removed with its connections: records that name it are ignored.
pub const DEAD: u8 = 2;
/// Weight 0: keeps its connections, and gets new ones only from persistent clients.
pub const DRAINING: u8 = 3;
/// Removed from the configuration: keeps its connections, and gets no new ones, not even from persistent clients.
pub const REMOVED: u8 = 5;
/// Failed, in a service that keeps the connections of failed backends: otherwise as [`REMOVED`].
pub const FAILED_KEEP: u8 = 7;
/// Failed, in a service that suspends the connections of failed backends: their packets are dropped until it recovers.
pub const FAILED_DROP: u8 = 9;

/// Whether a backend in this state may have connections: records and slots that name it are valid.
#[inline(always)]
#[must_use]
pub const fn may_have_connections(state: u8) -> bool {
    // All but FREE and DEAD.
    state & 1 == 1
}

/// Whether packets may be sent to a backend in this state.
#[inline(always)]
#[must_use]
pub const fn may_receive_packets(state: u8) -> bool {
    may_have_connections(state) && state != FAILED_DROP
}

/// Value of the backend table: one cache line, so that a packet touches one.
///
/// `head` changes in one store, so that no packet sees half a MAC address.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// [`MacAndState`] as a word: MAC address of the real server in bytes 0–5 (as on the wire), state in byte 6, zero in byte 7.
    pub mac_and_state: u64,
    /// MAC address of the NIC that sends to it in bytes 0–5 (as on the wire), zero in 6–7.
    pub source_mac: u64,
    /// VLAN tags of its segment.
    pub vlan_tags: VlanTags,
    /// Index of the NIC that sends to it.
    pub ifindex: u32,
    /// Its index in the backend counters and loads.
    pub counter_index: u32,
    /// RIP as an IPv6 address (IPv4: mapped, RFC 4291 section 2.5.5.2), network byte order. Used by the daemon only.
    pub address: [u8; 16],
    /// Connections from which on it gets no new ones; 0: no limit.
    pub upper_threshold: u32,
    /// Connections below which it gets new ones again; 0: three quarters of `upper`.
    pub lower_threshold: u32,
    /// Weight, used by the daemon only: for the program it is reflected in slots and rings.
    pub weight: u32,
    /// The tick since which it is out of the configuration, plus 1; 0: it is in the configuration. Used by the daemon only.
    pub removed_since: u32,
}

/// The VLAN tags of a segment: 12 bits of VLAN id each, [`VlanTags::SERVICE_TAG_FLAG`] for a tag of IEEE 802.1ad.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VlanTags {
    /// The outer tag; 0: frames have none.
    pub outer: u16,
    /// The inner tag; 0: frames have at most one.
    pub inner: u16,
}

impl VlanTags {
    /// No tag.
    pub const NONE: Self = Self { outer: 0, inner: 0 };
    /// The VLAN id of a tag.
    pub const ID_MASK: u16 = 0x0fff;
    /// A tag with TPID 0x88a8 (IEEE 802.1ad) instead of 0x8100 (IEEE 802.1Q).
    pub const SERVICE_TAG_FLAG: u16 = 0x8000;

    /// Both as one number, 0 if there is none.
    #[inline(always)]
    #[must_use]
    pub const fn to_word(self) -> u32 {
        self.outer as u32 | (self.inner as u32) << 16
    }

    /// The tags of such a number.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u32) -> Self {
        Self {
            outer: word as u16,
            inner: (word >> 16) as u16,
        }
    }

    /// Number of tags.
    #[inline(always)]
    #[must_use]
    pub const fn count(self) -> usize {
        (self.outer != 0) as usize + (self.inner != 0) as usize
    }
}

const _: () = assert!(size_of::<Backend>() == 64 && align_of::<Backend>() == 64);

impl Backend {
    /// A free entry.
    pub const NONE: Self = Self {
        mac_and_state: 0,
        source_mac: 0,
        vlan_tags: VlanTags::NONE,
        ifindex: 0,
        counter_index: 0,
        address: [0; 16],
        upper_threshold: 0,
        lower_threshold: 0,
        weight: 0,
        removed_since: 0,
    };

    /// Its words, in the order of memory.
    #[must_use]
    pub const fn words(&self) -> [u64; 8] {
        // SAFETY: both are 64 bytes of plain data, and Backend has no padding.
        unsafe { core::mem::transmute(*self) }
    }

    /// The backend of its words.
    #[must_use]
    pub const fn from_words(words: [u64; 8]) -> Self {
        // SAFETY: valid for every bit pattern; transmuting by value needs no alignment.
        unsafe { core::mem::transmute(words) }
    }
}

/// The first word of a backend, read and written whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacAndState {
    /// MAC address of the real server.
    pub mac: [u8; 6],
    /// [`FREE`], [`UP`], [`DEAD`], [`DRAINING`], [`REMOVED`], [`FAILED_KEEP`] or [`FAILED_DROP`].
    pub state: u8,
}

impl MacAndState {
    /// The word in the map.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        mac_to_word(self.mac) | u64::from_ne_bytes([0, 0, 0, 0, 0, 0, self.state, 0])
    }

    /// The head of a word.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self {
            mac: mac_from_word(word),
            state: word.to_ne_bytes()[6],
        }
    }
}

/// A MAC address in bytes 0–5 of a word.
#[must_use]
pub const fn mac_to_word(mac: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_ne_bytes([a, b, c, d, e, f, 0, 0])
}

/// The bytes of a word that hold a MAC address.
pub const MAC_MASK: u64 = mac_to_word([0xff; 6]);

/// The MAC address in bytes 0–5 of a word.
#[inline(always)]
#[must_use]
pub const fn mac_from_word(word: u64) -> [u8; 6] {
    let [a, b, c, d, e, f, _, _] = word.to_ne_bytes();
    [a, b, c, d, e, f]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_round_trip() {
        let head = MacAndState {
            mac: [2, 0, 0, 0, 0xab, 0xcd],
            state: DEAD,
        };
        assert_eq!(MacAndState::from_word(head.to_word()), head);
        assert_eq!(mac_from_word(mac_to_word(head.mac)), head.mac);
        assert_eq!(
            Backend::NONE.mac_and_state,
            MacAndState {
                mac: [0; 6],
                state: FREE
            }
            .to_word()
        );
    }
}
