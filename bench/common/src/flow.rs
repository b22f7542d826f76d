//! Flows by number, and the addresses and ports of their packets.

/// Maximum number of services per VIP: after that many, the VIP's last byte is incremented.
pub const SERVICES_PER_VIP: u32 = 128;
/// Port of a VIP's first service; its low byte is zero.
pub const FIRST_PORT: u16 = 0x0400;

/// Odd, so that multiplying by it modulo a power of two is a permutation.
const SCRAMBLE: u32 = 0x9e37_79b1;

/// The fields that identify packets of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Client's address: 10.0.0.0/8 as in the packet, read as a little-endian word. Unique among 2^24 flows.
    pub client: u32,
    /// Client's port and VIP port as in the packet, read as a little-endian word.
    pub ports: u32,
    /// Number of its VIP.
    pub vip: u32,
}

impl Flow {
    /// The flow of a number; no two numbers give the same client address and port.
    #[inline(always)]
    #[must_use]
    pub const fn of(number: u32, services: u32) -> Self {
        let scrambled = number.wrapping_mul(SCRAMBLE);
        let service = service(number, services);
        let port = 0x8000 | ((scrambled >> 5) + (number >> 24)) & 0x7fff;
        let vip_port = FIRST_PORT as u32 | (service % SERVICES_PER_VIP);
        Self {
            client: 10 | scrambled << 8,
            ports: (port as u16).swap_bytes() as u32 | ((vip_port as u16).swap_bytes() as u32) << 16,
            vip: service / SERVICES_PER_VIP,
        }
    }
}

/// The service of a flow, 0..`services`: spread evenly, and the same each time.
#[inline(always)]
#[must_use]
pub const fn service(number: u32, services: u32) -> u32 {
    let mixed = (number as u64).wrapping_mul(0x9fb2_1c65_1e98_df25) >> 32;
    ((mixed * services as u64) >> 32) as u32
}

/// A pseudo-random number below `flows` for the n-th packet, with repetitions.
#[inline(always)]
#[must_use]
pub const fn random(packet: u64, flows: u32) -> u32 {
    // The finaliser of splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
    let mut h = packet.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    h = (h ^ h >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ h >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (((h >> 32) * flows as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{collections::HashSet, vec};

    use super::*;

    #[test]
    fn no_two_flows_are_the_same() {
        let near = 0..1_000_000;
        let far = (1 << 24)..(1 << 24) + 1_000_000;
        let seen: HashSet<_> = near
            .chain(far)
            .map(|number| {
                let flow = Flow::of(number, 100);
                (flow.client, flow.ports as u16)
            })
            .collect();
        assert_eq!(seen.len(), 2_000_000);
    }

    #[test]
    fn clients_are_of_one_network_and_ports_high() {
        for number in 0..10_000 {
            let flow = Flow::of(number, 10_000);
            assert_eq!(flow.client.to_le_bytes()[0], 10);
            assert!(u16::from_be_bytes([flow.ports.to_le_bytes()[0], flow.ports.to_le_bytes()[1]]) >= 0x8000);
            let vip_port = u16::from_be_bytes([flow.ports.to_le_bytes()[2], flow.ports.to_le_bytes()[3]]);
            let number_of_service = flow.vip * SERVICES_PER_VIP + u32::from(vip_port - FIRST_PORT);
            assert_eq!(number_of_service, service(number, 10_000));
        }
    }

    #[test]
    fn services_get_equal_shares() {
        let mut hits = vec![0_u32; 100];
        for number in 0..1_000_000 {
            hits[service(number, 100) as usize] += 1;
        }
        assert!(hits.iter().all(|&n| (9_000..11_000).contains(&n)), "{hits:?}");
    }

    #[test]
    fn random_numbers_reach_every_flow() {
        let seen: HashSet<u32> = (0..20_000).map(|packet| random(packet, 1_000)).collect();
        assert_eq!(seen.len(), 1_000);
    }
}
