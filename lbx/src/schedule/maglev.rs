//! The consistent-hash table of every service: slots claimed in turn, as in Maglev (Eisenbud et al., NSDI 2016, section
//! 3.4), with weights, and with some leeway in the shares so that fewer slots move.
//!
//! Each candidate proposes slots in an order of its own and claims those that are free. In Maglev a candidate that finds a
//! slot taken goes on until it has claimed one: shares are exact to a slot, at the price of moving more slots than needed on
//! every change. Here it waits for its next turn instead, as long as it is within a fiftieth of its share.
//!
//! The paper's orders, an offset and a skip each, sometimes run in step, and then a fifth of the slots moves: here they are
//! pseudo-random.

use std::net::IpAddr;

use lbx_common::{hash::mix, ring::RingEntry, slot};

use super::{Candidate, common_divisor, ring};

/// Slots per unit of weight. Over 14,640 removals of one of 2 to 100 equal real servers, its own slots moved and besides, on
/// average for each number, up to 1.0 % of all; more than 2 % in 12 of them. (With 100 slots per unit, and Maglev's own
/// orders and shares: up to 2.6 %, more than 2 % in six of ten.)
const SLOTS_PER_UNIT: u32 = 250;
/// Slots at least and at most: primes, as are all sizes.
const SIZES: std::ops::RangeInclusive<u32> = 251..=65_537;
/// The part of its share that a candidate may be ahead or behind, while slots are claimed and at the end.
const LEEWAY: u64 = 50;
/// Fixed: two directors with the same file build the same table.
const ORDER_SEED: u64 = 0x6c62_7865_6f66_6673;

/// The number of slots for a service that starts with these weights; fixed while the service lives.
#[must_use]
pub fn table_size(weights: impl IntoIterator<Item = u16>) -> u32 {
    let candidates: Vec<_> = weights
        .into_iter()
        .map(|weight| Candidate {
            backend_index: 0,
            address: std::net::Ipv4Addr::UNSPECIFIED.into(),
            weight,
        })
        .collect();
    let divisor = common_divisor(&candidates);
    let units: u32 = candidates.iter().map(|c| u32::from(c.weight) / divisor).sum();
    let wanted = units.saturating_mul(SLOTS_PER_UNIT).max(*SIZES.start());
    (wanted..*SIZES.end()).find(|&size| prime(size)).unwrap_or(*SIZES.end())
}

/// Whether a number above 1 is a prime.
fn prime(number: u32) -> bool {
    (2..)
        .take_while(|factor| factor * factor <= number)
        .all(|factor| !number.is_multiple_of(factor))
}

/// The table: for each of `size` slots the index of its backend, or [`slot::NO_BACKEND`] where there is no candidate.
///
/// The owner of a slot depends on the set of addresses and weights alone, not on their order or indices.
#[must_use]
pub fn table(candidates: &[Candidate], size: u32) -> Vec<u16> {
    let mut sorted = candidates.to_vec();
    sorted.sort_by_key(|candidate| candidate.address);
    let numbered: Vec<_> = (0..)
        .zip(&sorted)
        .map(|(index, c)| Candidate {
            backend_index: index,
            ..*c
        })
        .collect();
    let turns = ring::weighted(&numbered);
    let mut holders = vec![slot::NO_BACKEND; size as usize];
    if !candidates.is_empty() {
        claim(&mut holders, &mut Claimant::all(&sorted, size), &turns);
    }
    for holder in &mut holders {
        *holder = sorted
            .get(usize::from(*holder))
            .map_or(slot::NO_BACKEND, |candidate| candidate.backend_index);
    }
    holders
}

/// A candidate that claims slots.
struct Claimant {
    /// State of the generator of its proposals.
    state: u64,
    weight: u64,
    /// The weight of all.
    total: u64,
    /// Slots it holds, times the weight of all.
    held: u64,
    /// Slots it may be ahead or behind, times the weight of all.
    leeway: u64,
}

impl Claimant {
    fn all(candidates: &[Candidate], size: u32) -> Vec<Self> {
        let total = candidates.iter().map(|candidate| u64::from(candidate.weight)).sum();
        candidates
            .iter()
            .map(|candidate| {
                let weight = u64::from(candidate.weight);
                Self {
                    state: mix(address_word(candidate.address), ORDER_SEED),
                    weight,
                    total,
                    held: 0,
                    leeway: u64::from(size) * weight / total.max(1) / LEEWAY * total,
                }
            })
            .collect()
    }
}

fn address_word(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            mix((bits >> 64) as u64, bits as u64)
        }
    }
}

/// Lets the claimants (at least one) claim all slots, turn by turn. This is most of the work of a plan: slices and plain
/// arithmetic, so that it is quick without optimisation too.
fn claim(holders: &mut [u16], claimants: &mut [Claimant], turns: &[RingEntry]) {
    let size = holders.len() as u64;
    // Slots claimed by all.
    let mut taken = 0;
    loop {
        for turn in turns {
            let claimant = &mut claimants[turn.backend_index as usize];
            // Ahead: the others are to catch up.
            if claimant.held > taken * claimant.weight + claimant.leeway {
                continue;
            }
            loop {
                // Knuth's linear congruential generator (of MMIX), whose upper bits are good.
                claimant.state = claimant
                    .state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let holder = &mut holders[(((claimant.state >> 32) * size) >> 32) as usize];
                if *holder == slot::NO_BACKEND {
                    *holder = turn.backend_index;
                    claimant.held += claimant.total;
                    taken += 1;
                    if taken == size {
                        return;
                    }
                }
                // Behind: it is to catch up at once.
                if claimant.held + claimant.leeway >= taken * claimant.weight {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_share_is_within_the_leeway(weights in prop::collection::vec(1..60u16, 1..25)) {
            let size = table_size(weights.iter().copied());
            let table = table(&candidates(&weights), size);
            let total: u32 = weights.iter().map(|&weight| u32::from(weight)).sum();
            for (index, &weight) in (0u16..).zip(&weights) {
                let slots = table.iter().filter(|&&slot| slot == index).count() as f64;
                let share = f64::from(size) * f64::from(weight) / f64::from(total);
                let leeway = share / LEEWAY as f64 + 2.0;
                prop_assert!((slots - share).abs() <= leeway, "{slots} slots for {share}");
            }
        }

        #[test]
        fn slot_owners_do_not_depend_on_order_or_indices(
            weights in prop::collection::vec(1..60u16, 1..25),
            shuffled in Just((0..25usize).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let straight = candidates(&weights);
            let chosen: Vec<_> = shuffled.into_iter().filter(|place| *place < weights.len()).collect();
            let mixed: Vec<_> = (0..).zip(&chosen).map(|(backend_index, &place)| Candidate { backend_index, ..straight[place] }).collect();
            let expected = table(&straight, 1_021);
            for (holder, before) in table(&mixed, 1_021).into_iter().zip(expected) {
                prop_assert_eq!(chosen[usize::from(holder)], usize::from(before));
            }
        }
    }

    fn candidates(weights: &[u16]) -> Vec<Candidate> {
        (0u16..)
            .zip(weights)
            .map(|(index, &weight)| Candidate {
                backend_index: index,
                address: IpAddr::from([10, 1, (index >> 8) as u8, index as u8]),
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
        assert_eq!(table_size([1]), 251);
        assert_eq!(table_size([1, 1]), 503);
        assert_eq!(table_size([7, 7]), 503, "equal weights are one unit each");
        assert_eq!(table_size([3, 1]), 1_009);
        assert_eq!(table_size([1; 100]), 25_013);
        assert_eq!(table_size([65_535, 1]), 65_537);
        assert_eq!(table_size([0, 0]), 251);
    }

    #[test]
    fn shares_follow_the_weights() {
        for weights in [&[1, 1][..], &[3, 1], &[1, 2, 3, 4], &[100, 1], &[5; 20]] {
            let table = table(&candidates(weights), table_size(weights.iter().copied()));
            let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
            for (share, &weight) in shares(&table, weights.len()).iter().zip(weights) {
                let want = f64::from(weight) / total;
                assert!((share - want).abs() < 0.01, "{weights:?}: {share} for {want}");
            }
        }
    }

    /// The part of the slots that move when one of the candidates goes, less its own share.
    fn moved_besides(weights: &[u16], gone: usize) -> f64 {
        let size = table_size(weights.iter().copied());
        let mut candidates = candidates(weights);
        let before = table(&candidates, size);
        candidates.remove(gone);
        let after = table(&candidates, size);
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        moved as f64 / f64::from(size) - f64::from(weights[gone]) / total
    }

    /// For every number up to 100; `weights` names those of so many.
    fn moves_little(weights: impl Fn(usize) -> Vec<u16>) {
        let mut sum = 0.0;
        for n in 2..=100 {
            for gone in [0, n / 2, n - 1] {
                let besides = moved_besides(&weights(n), gone);
                assert!(besides <= 0.02, "{n}: {besides}");
                sum += besides / 297.0;
            }
        }
        assert!(sum <= 0.008, "{sum}");
    }

    #[test]
    fn removing_one_of_n_moves_little_more_than_its_own_slots() {
        moves_little(|n| vec![1; n]);
    }

    #[test]
    fn removing_one_of_n_with_weights_moves_little_more_than_its_own_slots() {
        moves_little(|n| (0..n).map(|place| [1, 3, 2, 5, 1, 4][(place + n) % 6]).collect());
    }

    #[test]
    fn lopsided_weights_and_thousands_of_candidates_have_their_slots() {
        let mut weights = vec![1; 4_096];
        weights[2_000] = u16::MAX;
        let table = table(&candidates(&weights), 65_537);
        let held = |index| table.iter().filter(|&&holder| holder == index).count();
        assert!((60_000..63_000).contains(&held(2_000)), "{}", held(2_000));
        assert!([0, 1, 4_095].map(held).iter().all(|slots| (1..=3).contains(slots)));
    }

    #[test]
    fn without_candidates_no_slot_has_a_backend() {
        assert!(table(&[], 251).iter().all(|&backend| backend == slot::NO_BACKEND));
    }
}
