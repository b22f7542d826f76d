//! The ring of turns that rr and wrr walk: one entry per turn, as evenly interleaved as the weights allow.

use super::{Candidate, common_divisor};

/// Entries of a ring at most; weights whose turns would need more are scaled down to it.
pub const MAX_LEN: u32 = 4_096;

/// Everyone once, in the order given.
#[must_use]
pub fn equal(candidates: &[Candidate]) -> Vec<u16> {
    candidates.iter().map(|candidate| candidate.index).collect()
}

/// Everyone as often as its weight says, by smooth weighted round robin: at every turn each gains its weight, the one
/// with the most takes the turn and pays the sum of all.
#[must_use]
pub fn weighted(candidates: &[Candidate]) -> Vec<u16> {
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
            Some(candidates[best].index)
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
                // Rounded, and never to nothing: whoever has a weight gets connections.
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

    fn ring(weights: &[u16]) -> Vec<u16> {
        let candidates: Vec<_> = (0u16..)
            .zip(weights)
            .map(|(index, &weight)| Candidate {
                index,
                address: IpAddr::from([10, 0, 0, index as u8]),
                weight,
            })
            .collect();
        weighted(&candidates)
    }

    #[test]
    fn turns_follow_the_weights_and_interleave() {
        assert_eq!(ring(&[1, 1]), [0, 1]);
        assert_eq!(ring(&[3, 1]), [0, 0, 1, 0]);
        assert_eq!(ring(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(ring(&[200, 100]), ring(&[2, 1]));
        assert_eq!(ring(&[]), [0u16; 0]);
    }

    #[test]
    fn lopsided_weights_stay_within_the_limit() {
        let ring = ring(&[65_535, 65_534, 1]);
        let turns = |index| ring.iter().filter(|&&i| i == index).count();
        assert!(ring.len() <= MAX_LEN as usize + 2, "{}", ring.len());
        assert_eq!(turns(2), 1);
        assert!(turns(0).abs_diff(turns(1)) <= 1);
    }
}
