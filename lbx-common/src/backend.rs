//! A backend: a real server inside a service, ready to be written into an Ethernet header.

/// Nothing lives here.
pub const FREE: u8 = 0;
/// Packets may be sent to it (also while it drains).
pub const UP: u8 = 1;
/// Failed or cut: records that name it count as not found.
pub const DEAD: u8 = 2;

/// Value of the backend table: one cache line, so that a packet touches one.
///
/// `head` changes in one store, so that no packet sees half a MAC address.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// [`Head`] as a word: MAC address of the real server in bytes 0–5 (as on the wire), state in byte 6, zero in byte 7.
    pub head: u64,
    /// MAC address of the NIC that sends to it in bytes 0–5 (as on the wire), zero in 6–7.
    pub source: u64,
    /// Index of the NIC that sends to it.
    pub ifindex: u32,
    /// Its place in the backend counters.
    pub counter: u32,
    /// RIP as an IPv6 address (IPv4: mapped, RFC 4291 section 2.5.5.2), network byte order. For the daemon alone.
    pub address: [u8; 16],
    /// Weight, for the daemon alone: the program sees its effect in slots and rings.
    pub weight: u32,
    /// Always zero.
    pub pad: [u32; 5],
}

const _: () = assert!(size_of::<Backend>() == 64 && align_of::<Backend>() == 64);

impl Backend {
    /// A free place.
    pub const NONE: Self = Self {
        head: 0,
        source: 0,
        ifindex: 0,
        counter: 0,
        address: [0; 16],
        weight: 0,
        pad: [0; 5],
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
pub struct Head {
    /// MAC address of the real server.
    pub mac: [u8; 6],
    /// [`FREE`], [`UP`] or [`DEAD`].
    pub state: u8,
}

impl Head {
    /// The word in the map.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        mac_word(self.mac) | u64::from_ne_bytes([0, 0, 0, 0, 0, 0, self.state, 0])
    }

    /// The head of a word.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self {
            mac: word_mac(word),
            state: word.to_ne_bytes()[6],
        }
    }
}

/// A MAC address in bytes 0–5 of a word.
#[must_use]
pub const fn mac_word(mac: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_ne_bytes([a, b, c, d, e, f, 0, 0])
}

/// The MAC address in bytes 0–5 of a word.
#[inline(always)]
#[must_use]
pub const fn word_mac(word: u64) -> [u8; 6] {
    let [a, b, c, d, e, f, _, _] = word.to_ne_bytes();
    [a, b, c, d, e, f]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_round_trip() {
        let head = Head {
            mac: [2, 0, 0, 0, 0xab, 0xcd],
            state: DEAD,
        };
        assert_eq!(Head::from_word(head.to_word()), head);
        assert_eq!(word_mac(mac_word(head.mac)), head.mac);
        assert_eq!(
            Backend::NONE.head,
            Head {
                mac: [0; 6],
                state: FREE
            }
            .to_word()
        );
    }
}
