//! The ring of a service: the candidates for new connections, in the order in which a scheduler visits them.
//!
//! rr and wrr take one entry after the other: their ring is a list of turns, as evenly interleaved as the weights allow.
//! p2c takes two at random, so each candidate has as many entries as its weight. Schedulers that compare all candidates have
//! each once.

use std::cmp::Reverse;

use lbx_common::{ring::RingEntry, slot};

use super::{Candidate, common_divisor};
use crate::desired::Scheduler;

/// Entries of a ring at most; weights whose turns would need more are scaled down to it.
pub const MAX_LEN: u32 = 4_096;

/// The ring of a scheduler. A hashing scheduler uses it where the hashed real server is at its connection limit. Candidates
/// that are not up are left out.
#[must_use]
pub fn ring_for_scheduler(scheduler: Scheduler, candidates: &[Candidate]) -> Vec<RingEntry> {
    let up = candidates
        .iter()
        .filter(|candidate| candidate.backend_index != slot::NO_BACKEND);
    let up: Vec<_> = up.copied().collect();
    match scheduler {
        Scheduler::Rr => with_equal_weights(&up),
        Scheduler::Wrr | Scheduler::P2c => weighted(&up),
        Scheduler::Lc | Scheduler::Wlc | Scheduler::Sed | Scheduler::Nq => one_entry_each(&up),
        Scheduler::Fo | Scheduler::Ovf => heaviest_first(&up),
        Scheduler::Maglev | Scheduler::Sh | Scheduler::Mh | Scheduler::Dh => with_equal_weights(&up),
    }
}

/// Each once, in the order given, with weight 1: a changed weight does not change the ring.
#[must_use]
pub fn with_equal_weights(candidates: &[Candidate]) -> Vec<RingEntry> {
    let turn = |candidate: &Candidate| RingEntry {
        backend_index: candidate.backend_index,
        weight: 1,
    };
    candidates.iter().map(turn).collect()
}

/// Each once, in the order given.
#[must_use]
pub fn one_entry_each(candidates: &[Candidate]) -> Vec<RingEntry> {
    candidates.iter().map(Candidate::ring_entry).collect()
}

/// Each once, by descending weight, equals in the order given.
#[must_use]
pub fn heaviest_first(candidates: &[Candidate]) -> Vec<RingEntry> {
    let mut ring = one_entry_each(candidates);
    ring.sort_by_key(|turn| Reverse(turn.weight));
    ring
}

/// Each as often as its weight says, by smooth weighted round robin: at every turn each gains its weight, the one
/// with the most takes the turn and pays the sum of all.
#[must_use]
pub fn weighted(candidates: &[Candidate]) -> Vec<RingEntry> {
    let shares = shares(candidates);
    let total: i64 = shares.iter().sum();
    let mut credit = vec![0i64; shares.len()];
    (0..total)
        .filter_map(|_| {
            for (credit, share) in credit.iter_mut().zip(&shares) {
                *credit += share;
            }
            // The first of equals, so that the ring starts in the order of the file.
            let best = (0..credit.len()).rev().max_by_key(|&i| credit[i])?;
            credit[best] -= total;
            Some(candidates[best].ring_entry())
        })
        .collect()
}

/// Turns of each in one round of the ring.
fn shares(candidates: &[Candidate]) -> Vec<i64> {
    let divisor = common_divisor(candidates);
    let total: u32 = candidates.iter().map(|c| u32::from(c.weight) / divisor).sum();
    candidates
        .iter()
        .map(|candidate| {
            let share = u32::from(candidate.weight) / divisor;
            if total <= MAX_LEN {
                i64::from(share)
            } else {
                // Rounded, and never to 0: every candidate with a weight gets connections.
                (i64::from(share) * i64::from(MAX_LEN) + i64::from(total / 2)) / i64::from(total)
            }
            .max(1)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn candidates(weights: &[u16]) -> Vec<Candidate> {
        (0u16..)
            .zip(weights)
            .map(|(index, &weight)| Candidate {
                backend_index: index,
                address: IpAddr::from([10, 0, (index >> 8) as u8, index as u8]),
                weight,
            })
            .collect()
    }

    /// The indices of a ring.
    fn order(ring: &[RingEntry]) -> Vec<u16> {
        ring.iter().map(|turn| turn.backend_index).collect()
    }

    #[test]
    fn turns_follow_the_weights_and_interleave() {
        let ring = |weights: &[u16]| order(&weighted(&candidates(weights)));
        assert_eq!(ring(&[1, 1]), [0, 1]);
        assert_eq!(ring(&[3, 1]), [0, 0, 1, 0]);
        assert_eq!(ring(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(ring(&[200, 100]), ring(&[2, 1]));
        assert_eq!(ring(&[]), [0u16; 0]);
    }

    #[test]
    fn lopsided_weights_stay_within_the_limit() {
        let ring = weighted(&candidates(&[65_535, 65_534, 1]));
        let turns = |index| ring.iter().filter(|turn| turn.backend_index == index).count();
        assert!(ring.len() <= MAX_LEN as usize + 2, "{}", ring.len());
        assert_eq!(turns(2), 1);
        assert!(turns(0).abs_diff(turns(1)) <= 1);
    }

    #[test]
    fn every_candidate_is_in_the_ring_of_every_scheduler() {
        let candidates = candidates(&[2, 9, 4, 9]);
        let down = Candidate {
            backend_index: slot::NO_BACKEND,
            ..candidates[0]
        };
        for scheduler in Scheduler::ALL {
            let ring = ring_for_scheduler(scheduler, &candidates);
            for candidate in &candidates {
                let turns = ring
                    .iter()
                    .filter(|turn| turn.backend_index == candidate.backend_index)
                    .count();
                let often = matches!(scheduler, Scheduler::Wrr | Scheduler::P2c);
                assert_eq!(turns, if often { candidate.weight.into() } else { 1 }, "{scheduler}");
            }
            assert!(ring_for_scheduler(scheduler, &[down]).is_empty());
        }
        let weights = |ring: Vec<RingEntry>| ring.iter().map(|turn| turn.weight).collect::<Vec<_>>();
        assert_eq!(weights(ring_for_scheduler(Scheduler::Wlc, &candidates)), [2, 9, 4, 9]);
        assert_eq!(weights(ring_for_scheduler(Scheduler::Rr, &candidates)), [1; 4]);
        assert_eq!(order(&ring_for_scheduler(Scheduler::Fo, &candidates)), [1, 3, 2, 0]);
    }
}
