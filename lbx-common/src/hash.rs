//! The two hashes of a flow: for its slot (the same on every director) and for the buckets of its record (seeded at random,
//! so that an attacker can't aim at a bucket). The lookup tables of VIPs and ports are hashed like the latter.

use crate::address::Address;

/// Fixed: two directors with the same configuration agree on every slot without a window.
pub const SLOT_SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Pelle Evensen's rrmxmx-style finaliser over one word: every input bit reaches every output bit.
#[inline(always)]
#[must_use]
pub const fn mix(word: u64, seed: u64) -> u64 {
    const MULTIPLIER: u64 = 0x9fb2_1c65_1e98_df25;
    let mut h = word ^ seed;
    h ^= h.rotate_right(49) ^ h.rotate_right(24);
    h = h.wrapping_mul(MULTIPLIER);
    h ^= h >> 28;
    h = h.wrapping_mul(MULTIPLIER);
    h ^ (h >> 28)
}

/// Addresses and ports of a flow (all as in the packet) as one word: different for any two IPv4 flows of a service.
#[inline(always)]
#[must_use]
pub const fn tuple_word(client: Address, client_port: [u8; 2], vip_port: [u8; 2]) -> u64 {
    let [a, b] = client_port;
    let [c, d] = vip_port;
    // The low half of an IPv4 address's word is the same for all.
    client.fold() ^ u32::from_le_bytes([a, b, c, d]) as u64
}

/// The slot of a flow in a table of `len` slots: multiply-and-shift, which spreads evenly and divides nothing
/// (Lemire, "Fast random integer generation in an interval", 2019).
#[inline(always)]
#[must_use]
pub const fn slot(tuple: u64, len: u32) -> u32 {
    (((mix(tuple, SLOT_SEED) >> 32) * len as u64) >> 32) as u32
}

/// The two candidate buckets of a hash in a table of `mask + 1` buckets (a power of two); never the same one if there
/// are two.
#[inline(always)]
#[must_use]
pub const fn buckets(hash: u64, mask: u32) -> [u32; 2] {
    let first = hash as u32 & mask;
    let second = (hash >> 32) as u32 & mask;
    // Without a branch: the verifier would follow both paths.
    let same = (second == first) as u32;
    [first, (second ^ same) & mask]
}

/// Hash of an IPv4 flow for its buckets: of the tuple and the service number.
#[inline(always)]
#[must_use]
pub const fn flow4(tuple: u64, service: u16, seed: u64) -> u64 {
    mix(tuple, seed.wrapping_add((service as u64) << 32))
}

/// Hash of an IPv6 flow for its buckets: both words of the address are seeded, so that an attacker can't find two that fold to the same value.
#[inline(always)]
#[must_use]
pub const fn flow6(client: Address, client_port: [u8; 2], vip_port: [u8; 2], service: u16, seed: u64) -> u64 {
    let [a, b] = client_port;
    let [c, d] = vip_port;
    let rest = u32::from_le_bytes([a, b, c, d]) as u64 | (service as u64) << 32;
    mix(mix(client.high_be ^ rest, seed) ^ client.low_be, seed)
}

/// Hash of a VIP for its buckets.
#[inline(always)]
#[must_use]
pub const fn vip(address: Address, seed: u64) -> u64 {
    mix(address.fold(), seed)
}

/// Hash of a port's key for its buckets.
#[inline(always)]
#[must_use]
pub const fn port(key: u64, seed: u64) -> u64 {
    mix(key, seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_neighbouring_ports_spread_evenly() {
        const SLOTS: u32 = 251;
        let mut hits = [0u32; SLOTS as usize];
        for port in 0..50_200u16 {
            let tuple = tuple_word(Address::from_ipv4([10, 0, 0, 1]), port.to_be_bytes(), [0, 80]);
            hits[slot(tuple, SLOTS) as usize] += 1;
        }
        // 200 expected, standard deviation 14: six of them either way.
        assert!(hits.iter().all(|&n| (115..285).contains(&n)), "{hits:?}");
    }

    #[test]
    fn a_flow_has_two_different_buckets_within_the_table() {
        for n in 0..10_000u64 {
            let [a, b] = buckets(flow4(n, 3, 42), 63);
            assert!(a < 64 && b < 64 && a != b);
        }
        assert_eq!(buckets(1, 0), [0, 0]);
    }
}
