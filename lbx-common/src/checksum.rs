//! The Internet checksum of a packet in which an address is replaced (RFC 1624), updated incrementally.
//!
//! Sums are in the byte order of memory: a ones' complement sum comes out right in either, swapped like its terms (RFC 1071
//! section 2 B).

use crate::address::Address;

/// The change of a packet's ones' complement sum when `to` replaces `from` in it. IPv4 addresses are mapped here; their
/// common bytes add nothing.
#[inline(always)]
#[must_use]
pub const fn difference(from: Address, to: Address) -> u16 {
    let old = sum(!from.high_be) + sum(!from.low_be);
    let new = sum(to.high_be) + sum(to.low_be);
    fold(old + new)
}

/// A header's checksum after its packet's sum has changed by `difference` (RFC 1624 equation 3).
#[inline(always)]
#[must_use]
pub const fn adjusted(checksum: u16, difference: u16) -> u16 {
    !fold(!checksum as u64 + difference as u64)
}

/// The same for UDP, where zero means no checksum: that stays zero, and a computed zero is sent as all ones (RFC 768).
#[inline(always)]
#[must_use]
pub const fn adjusted_udp(checksum: u16, difference: u16) -> u16 {
    if checksum == 0 {
        return 0;
    }
    let adjusted = adjusted(checksum, difference);
    if adjusted == 0 { u16::MAX } else { adjusted }
}

/// The ones' complement sum of 16-bit words, not folded yet: of no more than 65,536 of them.
#[inline(always)]
#[must_use]
pub const fn sum_of_words(words: &[u16]) -> u64 {
    let mut total = 0;
    let mut index = 0;
    while index < words.len() {
        total += words[index] as u64;
        index += 1;
    }
    total
}

/// The sum of both addresses of a pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1). The common bytes of IPv4 addresses
/// add nothing to the checksum.
#[inline(always)]
#[must_use]
pub const fn sum_of_addresses(source: Address, destination: Address) -> u64 {
    sum(source.high_be) + sum(source.low_be) + sum(destination.high_be) + sum(destination.low_be)
}

/// The checksum of a packet's sum, which is less than 2³².
#[inline(always)]
#[must_use]
pub const fn of_sum(sum: u64) -> u16 {
    !fold(sum)
}

/// The four 16-bit terms of a word, added.
#[inline(always)]
const fn sum(word: u64) -> u64 {
    (word & 0xffff) + (word >> 16 & 0xffff) + (word >> 32 & 0xffff) + (word >> 48)
}

/// A sum with its carries added back: twice is enough for sums of less than 2³² (RFC 1071 section 1).
#[inline(always)]
const fn fold(sum: u64) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The checksum of bytes as RFC 1071 section 4.1 has it, in the byte order of memory.
    fn checksum(parts: &[&[u8]]) -> u16 {
        let mut sum = 0u64;
        for part in parts {
            for pair in part.chunks(2) {
                sum += u64::from(u16::from_ne_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            }
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    /// Numbers that look random, always the same.
    fn numbers() -> impl Iterator<Item = u64> {
        (1u64..).map(|n| crate::hash::mix(n, 7))
    }

    fn random(numbers: &mut impl Iterator<Item = u64>, v4: bool) -> Address {
        let mut next = || numbers.next().unwrap();
        let [a, b, c, d, ..] = next().to_ne_bytes();
        if v4 {
            return Address::from_ipv4([a, b, c, d]);
        }
        Address {
            high_be: next(),
            low_be: next(),
        }
    }

    #[test]
    fn equals_the_recomputed_checksum() {
        let mut numbers = numbers();
        for round in 0..20_000 {
            let [from, to, other] = [(); 3].map(|()| random(&mut numbers, round % 2 == 0));
            let payload = numbers.next().unwrap().to_ne_bytes();
            let of = |address: Address| checksum(&[&address.octets(), &other.octets(), &payload]);
            assert_eq!(adjusted(of(from), difference(from, to)), of(to));
            assert_eq!(adjusted(of(to), difference(to, from)), of(from));
        }
    }

    #[test]
    fn a_checksum_from_parts_equals_that_of_the_bytes() {
        let mut numbers = numbers();
        for round in 0..20_000 {
            let [source, destination] = [(); 2].map(|()| random(&mut numbers, round % 2 == 0));
            let payload = numbers.next().unwrap().to_ne_bytes();
            let words: [u16; 4] = core::array::from_fn(|n| u16::from_ne_bytes([payload[2 * n], payload[2 * n + 1]]));
            let found = of_sum(sum_of_addresses(source, destination) + sum_of_words(&words));
            assert_eq!(found, checksum(&[&source.octets(), &destination.octets(), &payload]));
        }
        assert_eq!(of_sum(sum_of_words(&[u16::MAX; 65_536])), 0);
    }

    #[test]
    fn the_example_of_rfc_1624() {
        // Section 4: a header with checksum 0xdd2f, in which 0x5555 becomes 0x3285, has then 0x0000.
        let at = |word: u16| Address {
            high_be: u64::from(word),
            low_be: 1,
        };
        assert_eq!(adjusted(0xdd2f, difference(at(0x5555), at(0x3285))), 0);
    }

    #[test]
    fn udp_keeps_the_meaning_of_zero() {
        let [from, to] = [Address::from_ipv4([10, 0, 0, 1]), Address::from_ipv4([10, 0, 0, 9])];
        let difference = difference(from, to);
        assert_eq!(adjusted_udp(0, difference), 0);
        let becomes_zero = (0..=u16::MAX)
            .find(|&before| adjusted(before, difference) == 0)
            .unwrap();
        assert_eq!(adjusted_udp(becomes_zero, difference), u16::MAX);
        assert_eq!(adjusted_udp(0x1234, difference), adjusted(0x1234, difference));
    }

    #[test]
    fn replacing_an_address_by_itself_changes_nothing() {
        let same = Address::from_ipv4([192, 0, 2, 7]);
        for checksum in [1, 0x1234, 0xfffe] {
            assert_eq!(adjusted(checksum, difference(same, same)), checksum);
        }
    }
}
