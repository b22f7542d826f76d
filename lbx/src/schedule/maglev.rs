//! The consistent-hash table of Maglev (Eisenbud et al., NSDI 2016, section 3.4), with weights.

use std::net::{IpAddr, Ipv4Addr};

use lbx_common::{hash::mix, slot};

use super::{Candidate, common_divisor};

/// Numbers of slots a service may have: primes, each about twice the one before.
const SIZES: [u32; 9] = [251, 509, 1_021, 2_039, 4_093, 8_191, 16_381, 32_749, 65_537];
/// Slots per unit of weight that keep the shares within about a percent of the weights (section 5.3 of the paper).
const SLOTS_PER_UNIT: u32 = 100;
/// Fixed seeds: two directors with the same file build the same table.
const OFFSET_SEED: u64 = 0x6c62_7865_6f66_6673;
const SKIP_SEED: u64 = 0x6c62_7865_736b_6970;

/// The number of slots for a service that starts with these weights; fixed while the service lives.
#[must_use]
pub fn size(weights: impl IntoIterator<Item = u16>) -> u32 {
    let candidates: Vec<_> = weights
        .into_iter()
        .map(|weight| Candidate {
            index: 0,
            address: Ipv4Addr::UNSPECIFIED.into(),
            weight,
        })
        .collect();
    let divisor = common_divisor(&candidates);
    let units: u32 = candidates.iter().map(|c| u32::from(c.weight) / divisor).sum();
    let wanted = units.saturating_mul(SLOTS_PER_UNIT);
    let [.., largest] = SIZES;
    SIZES.into_iter().find(|&size| size >= wanted).unwrap_or(largest)
}

/// The table: for each of `size` slots (a prime) the index of its backend, or [`slot::NONE`] where there is no candidate.
///
/// It depends on the set of addresses and weights alone, not on their order or indices.
#[must_use]
pub fn table(candidates: &[Candidate], size: u32) -> Vec<u16> {
    let mut slots = vec![slot::NONE; size as usize];
    let mut walkers: Vec<Walker> = candidates
        .iter()
        .map(|candidate| Walker::new(candidate, size))
        .collect();
    walkers.sort_by_key(|walker| walker.candidate.address);
    let Some(heaviest) = walkers.iter().map(|w| u32::from(w.candidate.weight)).max() else {
        return slots;
    };
    let mut free = size;
    loop {
        for walker in &mut walkers {
            walker.credit += u32::from(walker.candidate.weight);
            if walker.credit < heaviest {
                continue;
            }
            walker.credit -= heaviest;
            let Some(empty) = walker.find(|&place| slots[place as usize] == slot::NONE) else {
                return slots;
            };
            slots[empty as usize] = walker.candidate.index;
            free -= 1;
            if free == 0 {
                return slots;
            }
        }
    }
}

/// Walks all slots in the candidate's own order, each once; `credit` holds its turns back to its weight.
struct Walker {
    candidate: Candidate,
    next: u32,
    skip: u32,
    left: u32,
    size: u32,
    credit: u32,
}

impl Walker {
    fn new(candidate: &Candidate, size: u32) -> Self {
        let address = match candidate.address {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                mix((bits >> 64) as u64, bits as u64)
            }
        };
        let below = |seed, bound: u32| (mix(address, seed) % u64::from(bound)) as u32;
        Self {
            candidate: *candidate,
            next: below(OFFSET_SEED, size),
            skip: below(SKIP_SEED, size - 1) + 1,
            left: size,
            size,
            credit: 0,
        }
    }
}

impl Iterator for Walker {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        let place = self.next;
        self.next = (self.next + self.skip) % self.size;
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nobody_gets_more_or_less_than_a_few_slots_from_its_share(weights in prop::collection::vec(1..60u16, 1..25)) {
            let size = size(weights.iter().copied());
            let table = table(&candidates(&weights), size);
            let total: u32 = weights.iter().map(|&weight| u32::from(weight)).sum();
            for (index, &weight) in (0u16..).zip(&weights) {
                let slots = table.iter().filter(|&&slot| slot == index).count() as f64;
                let want = f64::from(size) * f64::from(weight) / f64::from(total);
                prop_assert!((slots - want).abs() <= 2.0, "{slots} slots for {want}");
            }
        }
    }

    fn candidates(weights: &[u16]) -> Vec<Candidate> {
        (0u16..)
            .zip(weights)
            .map(|(index, &weight)| Candidate {
                index,
                address: IpAddr::from([10, 0, (index >> 8) as u8, index as u8 + 1]),
                weight,
            })
            .collect()
    }

    fn shares(table: &[u16], n: usize) -> Vec<f64> {
        (0..n)
            .map(|index| table.iter().filter(|&&slot| usize::from(slot) == index).count() as f64 / table.len() as f64)
            .collect()
    }

    #[test]
    fn sizes_follow_the_weights() {
        assert_eq!(size([1, 1]), 251);
        assert_eq!(size([7, 7]), 251, "equal weights are one unit each");
        assert_eq!(size([3, 1]), 509);
        assert_eq!(size([1; 100]), 16_381);
        assert_eq!(size([65_535, 1]), 65_537);
        assert_eq!(size([0, 0]), 251);
    }

    #[test]
    fn shares_follow_the_weights() {
        for weights in [&[1, 1][..], &[3, 1], &[1, 2, 3, 4], &[100, 1], &[5; 20]] {
            let table = table(&candidates(weights), size(weights.iter().copied()));
            let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
            for (share, &weight) in shares(&table, weights.len()).iter().zip(weights) {
                let want = f64::from(weight) / total;
                assert!((share - want).abs() < 0.01, "{weights:?}: {share} for {want}");
            }
        }
    }

    #[test]
    fn the_order_of_the_file_does_not_matter() {
        let mut servers = candidates(&[1, 2, 3, 4, 5]);
        let straight = table(&servers, 1_021);
        servers.reverse();
        assert_eq!(table(&servers, 1_021), straight);
    }

    #[test]
    fn removing_one_of_n_moves_little_more_than_its_own_slots() {
        let servers = candidates(&[1; 10]);
        let before = table(&servers, 1_021);
        let after = table(&servers[..9], 1_021);
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count() as f64 / 1_021.0;
        assert!(moved < 0.1 + 0.04, "{moved}");
    }

    #[test]
    fn without_candidates_there_is_nobody() {
        assert!(table(&[], 251).iter().all(|&backend| backend == slot::NONE));
    }
}
