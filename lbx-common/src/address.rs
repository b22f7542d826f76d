//! Addresses as the program compares them: 128 bits in two words, IPv4 as IPv4-mapped IPv6 (RFC 4291 section 2.5.5.2).
//!
//! Packets with such an address in an IPv6 header are never balanced, so the two families cannot collide.

/// An address in the byte order of the packet, read as two native words.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Address {
    /// Bytes 0–7; zero for IPv4.
    pub high_be: u64,
    /// Bytes 8–15; for IPv4 `0, 0, 0xff, 0xff` and the address.
    pub low_be: u64,
}

const _: () = assert!(size_of::<Address>() == 16 && align_of::<Address>() == 8);

/// Bytes 8–11 of a mapped address.
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

impl Address {
    /// An IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn from_ipv4(octets: [u8; 4]) -> Self {
        let [a, b, c, d] = octets;
        Self {
            high_be: 0,
            low_be: u64::from_ne_bytes([0, 0, 0xff, 0xff, a, b, c, d]),
        }
    }

    /// The address of 16 bytes, IPv4 mapped.
    #[inline(always)]
    #[must_use]
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
        Self {
            high_be: u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            low_be: u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
        }
    }

    /// Its 16 bytes, as in an IPv6 packet.
    #[must_use]
    pub const fn octets(self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = self.high_be.to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = self.low_be.to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// Whether it is an IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn is_ipv4(self) -> bool {
        self.high_be == 0 && {
            let [a, b, c, d, ..] = self.low_be.to_ne_bytes();
            u32::from_ne_bytes([a, b, c, d]) == MAPPED
        }
    }

    /// The four bytes of an IPv4 address; the last four of another.
    #[inline(always)]
    #[must_use]
    pub const fn ipv4(self) -> [u8; 4] {
        let [.., a, b, c, d] = self.low_be.to_ne_bytes();
        [a, b, c, d]
    }

    /// The address with all but its first `prefix` of 128 bits zero; an IPv4 prefix is 96 bits longer here.
    #[inline(always)]
    #[must_use]
    pub const fn masked(self, prefix: u32) -> Self {
        Self {
            high_be: self.high_be & mask_word(prefix),
            low_be: self.low_be & mask_word(prefix.saturating_sub(64)),
        }
    }

    /// Both words as one, for hashing: IPv4 addresses stay apart, IPv6 addresses are folded.
    #[inline(always)]
    #[must_use]
    pub const fn fold(self) -> u64 {
        self.low_be ^ self.high_be.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)
    }
}

/// The first `bits` of a word in the order of the packet.
#[inline(always)]
const fn mask_word(bits: u32) -> u64 {
    if bits >= 64 {
        u64::MAX
    } else {
        (!(u64::MAX >> (bits & 63))).to_be()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        let v4 = Address::from_ipv4([192, 0, 2, 7]);
        assert!(v4.is_ipv4());
        assert_eq!(v4.ipv4(), [192, 0, 2, 7]);
        assert_eq!(v4.octets(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7]);
        assert_eq!(Address::from_octets(v4.octets()), v4);
        let v6 = Address::from_octets(*b"0123456789abcdef");
        assert!(!v6.is_ipv4());
        assert_eq!(v6.octets(), *b"0123456789abcdef");
    }

    #[test]
    fn masks_keep_the_leading_bits() {
        let all = Address {
            high_be: u64::MAX,
            low_be: u64::MAX,
        };
        for prefix in 0..=128u32 {
            let bytes = all.masked(prefix).octets();
            assert_eq!(u128::from_be_bytes(bytes).leading_ones(), prefix);
            assert_eq!(u128::from_be_bytes(bytes).count_ones(), prefix);
        }
        let network = Address::from_ipv4([192, 0, 2, 7]).masked(96 + 24);
        assert_eq!(network, Address::from_ipv4([192, 0, 2, 0]));
    }
}
