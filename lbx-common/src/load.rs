//! Connections of backends, and the comparison of candidates for the next one: pure functions, called by the kernel program
//! once per candidate.
//!
//! Every load-based scheduler selects the candidate with the least cost relative to its weight, the first of equals. They
//! differ in the cost of a candidate ([`SchedulingRule::score`]). Rules and numbers are those of IPVS (net/netfilter/ipvs/ip_vs_lc.c,
//! ip_vs_wlc.c, ip_vs_sed.c, ip_vs_nq.c, ip_vs_fo.c, ip_vs_ovf.c and ip_vs_twos.c; ip_vs_dest_conn_overhead in
//! include/net/ip_vs.h).

use crate::{
    flow::{CLOSED, CLOSING, ESTABLISHED, HALF_OPEN, MIDSTREAM, UDP_NEW, UDP_STREAM},
    service::scheduler::{LC, NQ, OVF, P2C, SED, WLC},
};

/// Words of an entry of the load table: connections, and whether the backend is marked as full.
pub const LOAD_WORDS: usize = 2;

/// Addend of an active connection in the word of its backend.
pub const ACTIVE_INCREMENT: u64 = 1;
/// Addend of an inactive connection in the word of its backend.
pub const INACTIVE_INCREMENT: u64 = 1 << 32;

/// An active connection costs as much as so many inactive ones.
const ACTIVE_COST: u64 = 256;

/// Addend of a record in a state in the word of its backend: when the state changes, the difference (wrapping) of the new
/// and the old addend is added.
#[inline(always)]
#[must_use]
pub const fn increment_of_state(state: u8) -> u64 {
    match state {
        MIDSTREAM | ESTABLISHED | UDP_NEW | UDP_STREAM => ACTIVE_INCREMENT,
        HALF_OPEN | CLOSING | CLOSED => INACTIVE_INCREMENT,
        _ => 0,
    }
}

/// The connections of a backend.
///
/// Its word is `active + inactive * 2^32` modulo 2^64, so that one atomic addition counts a connection, moves it from one
/// half to the other or removes it, and additions may come in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendLoad {
    /// Established, and UDP flows.
    pub active: u32,
    /// Half-open and closing.
    pub inactive: u32,
}

impl BackendLoad {
    /// The word in the map: active in bits 0–31, inactive in 32–63.
    #[inline(always)]
    #[must_use]
    pub const fn to_word(self) -> u64 {
        self.active as u64 | (self.inactive as u64) << 32
    }

    /// The load of a word. A half below zero (the end of a connection was counted before its start) reads as 0, without
    /// effect on the other half.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        let active = word as i32;
        let inactive = (word.wrapping_sub(active as i64 as u64) >> 32) as i32;
        Self {
            active: at_least_zero(active),
            inactive: at_least_zero(inactive),
        }
    }

    /// Whether a backend is full and gets no new connections: from `upper` connections on, and if it was `marked` as full,
    /// until it has fewer than `lower`, or, if that is 0, than three quarters of `upper`. An `upper` of 0 is no limit. (ip_vs_bind_dest and ip_vs_unbind_dest in net/netfilter/ipvs/ip_vs_conn.c)
    #[inline(always)]
    #[must_use]
    pub const fn overloaded(self, marked: bool, upper: u32, lower: u32) -> bool {
        let total = self.active as u64 + self.inactive as u64;
        let upper = upper as u64;
        let relieved = if lower == 0 {
            total * 4 < upper * 3
        } else {
            total < lower as u64
        };
        upper != 0 && (total >= upper || (marked && !relieved))
    }

    /// The cost of the connections, by IPVS's estimate.
    #[inline(always)]
    const fn overhead(self) -> u64 {
        self.active as u64 * ACTIVE_COST + self.inactive as u64
    }
}

/// The value, or 0 for one below.
#[inline(always)]
const fn at_least_zero(value: i32) -> u32 {
    // All ones where the sign is set.
    let negative = (value >> 31) as u32;
    value as u32 & !negative
}

/// How a scheduler compares candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulingRule(u8);

impl SchedulingRule {
    /// Weighted least connections.
    pub const WLC: Self = Self(WLC);

    /// The rule of a scheduler, by its code. A scheduler that is not load-based takes the first candidate.
    #[inline(always)]
    #[must_use]
    pub const fn of_scheduler(code: u8) -> Self {
        Self(code)
    }

    /// The score of a candidate. One with weight 0 is never better than another.
    #[inline(always)]
    #[must_use]
    pub const fn score(self, load: BackendLoad, weight: u16) -> LoadScore {
        let weight = weight as u64;
        let active = load.active as u64;
        match self.0 {
            LC => LoadScore::new(load.overhead(), one_at_most(weight)),
            WLC | P2C => LoadScore::new(load.overhead(), weight),
            // An idle backend costs nothing.
            NQ if active == 0 => LoadScore::new(0, one_at_most(weight)),
            // Including the new connection.
            SED | NQ => LoadScore::new(active + 1, weight),
            // Overflows once it has more active connections than its weight.
            OVF if active > weight => LoadScore::WORST,
            _ => LoadScore::new(1, weight),
        }
    }

    /// Whether no later candidate in the ring can be better. Schedulers that compare weights only walk it in descending order
    /// of weight.
    #[inline(always)]
    #[must_use]
    pub const fn ends_search(self, score: LoadScore) -> bool {
        let compares = matches!(self.0, LC | WLC | SED | NQ | P2C);
        score.weight != 0 && (score.cost == 0 || !compares)
    }

    /// Whether the candidate is better than the best so far.
    #[inline(always)]
    #[must_use]
    pub const fn better(self, (load, weight): (BackendLoad, u16), best: (BackendLoad, u16)) -> bool {
        self.score(load, weight).better_than(self.score(best.0, best.1))
    }
}

/// Cost and weight of a candidate. Less cost per weight is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadScore {
    cost: u64,
    weight: u64,
}

impl LoadScore {
    /// Worse than every candidate that may be selected.
    pub const WORST: Self = Self::new(1, 0);

    #[inline(always)]
    const fn new(cost: u64, weight: u64) -> Self {
        Self { cost, weight }
    }

    /// Whether it is better than the best so far.
    #[inline(always)]
    #[must_use]
    pub const fn better_than(self, best: Self) -> bool {
        // At most 2^40 times 2^16.
        self.cost * best.weight < best.cost * self.weight
    }
}

#[inline(always)]
const fn one_at_most(weight: u64) -> u64 {
    (weight != 0) as u64
}

/// Two positions in a ring of `len`, evenly distributed by 64 random bits; different unless there is only one.
#[inline(always)]
#[must_use]
pub const fn two_positions(random: u64, len: u32) -> [u32; 2] {
    let first = below(random as u32, len);
    let second = below((random >> 32) as u32, len.saturating_sub(1));
    [first, second + (second >= first && len > 1) as u32]
}

/// A number below `bound` (0 for 0) from 32 random bits, by multiply-and-shift (Lemire, "Fast random integer generation in
/// an interval", 2019).
#[inline(always)]
const fn below(random: u32, bound: u32) -> u32 {
    ((random as u64 * bound as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        flow::{BEING_WRITTEN, EMPTY},
        service::scheduler::{FO, MAGLEV, RR},
    };

    const LOAD_BASED: [u8; 7] = [LC, WLC, SED, NQ, FO, OVF, P2C];

    fn load(active: u32, inactive: u32) -> BackendLoad {
        BackendLoad { active, inactive }
    }

    /// The position of the candidate that a scheduler selects, walking as the kernel program does.
    fn selected(scheduler: u8, candidates: &[(BackendLoad, u16)]) -> Option<usize> {
        let rule = SchedulingRule::of_scheduler(scheduler);
        let mut best = (None, LoadScore::WORST);
        for (position, &(load, weight)) in candidates.iter().enumerate() {
            let score = rule.score(load, weight);
            if score.better_than(best.1) {
                best = (Some(position), score);
            }
            if rule.ends_search(score) {
                break;
            }
        }
        best.0
    }

    #[test]
    fn a_word_counts_both_halves_in_any_order() {
        assert_eq!(BackendLoad::from_word(load(7, 9).to_word()), load(7, 9));
        // One connection opens, is established, closes and ends; others open meanwhile.
        let states = [EMPTY, HALF_OPEN, ESTABLISHED, CLOSING, EMPTY, BEING_WRITTEN, UDP_NEW];
        let mut steps = [0; 7];
        for (step, change) in steps.iter_mut().zip(states.windows(2)) {
            *step = increment_of_state(change[1]).wrapping_sub(increment_of_state(change[0]));
        }
        steps[6] = increment_of_state(HALF_OPEN);
        let sum = |steps: &[u64]| {
            steps
                .iter()
                .fold(load(0, 5).to_word(), |word, step| word.wrapping_add(*step))
        };
        let mut backwards = steps;
        backwards.reverse();
        assert_eq!(BackendLoad::from_word(sum(&steps)), load(1, 6));
        assert_eq!(sum(&backwards), sum(&steps));
    }

    #[test]
    fn a_half_below_zero_leaves_the_other_alone() {
        let word = load(0, 3).to_word().wrapping_sub(ACTIVE_INCREMENT);
        assert_eq!(BackendLoad::from_word(word), load(0, 3));
        assert_eq!(BackendLoad::from_word(word.wrapping_add(ACTIVE_INCREMENT)), load(0, 3));
        let word = load(3, 0).to_word().wrapping_sub(INACTIVE_INCREMENT);
        assert_eq!(BackendLoad::from_word(word), load(3, 0));
        assert_eq!(
            BackendLoad::from_word(word.wrapping_add(INACTIVE_INCREMENT)),
            load(3, 0)
        );
    }

    #[test]
    fn the_first_of_equals_is_selected_and_weight_zero_never() {
        for scheduler in LOAD_BASED {
            assert_eq!(selected(scheduler, &[(load(1, 1), 1); 3]), Some(0));
            assert_eq!(selected(scheduler, &[(load(0, 0), 0), (load(1, 9), 1)]), Some(1));
            assert_eq!(selected(scheduler, &[(load(0, 0), 0); 3]), None);
            assert_eq!(selected(scheduler, &[]), None);
        }
    }

    #[test]
    fn an_active_connection_weighs_as_much_as_256_others() {
        assert_eq!(selected(LC, &[(load(1, 0), 9), (load(0, 255), 1)]), Some(1));
        assert_eq!(selected(LC, &[(load(1, 0), 9), (load(0, 256), 1)]), Some(0));
        assert_eq!(selected(WLC, &[(load(4, 0), 2), (load(1, 256), 1)]), Some(0));
        assert_eq!(selected(WLC, &[(load(4, 1), 2), (load(1, 256), 1)]), Some(1));
    }

    #[test]
    fn the_shortest_delay_includes_the_new_connection() {
        // An empty slow server would take 1/1, the fast one with one connection 2/3.
        let servers = [(load(0, 50), 1), (load(1, 0), 3)];
        assert_eq!(selected(SED, &servers), Some(1));
        assert_eq!(
            selected(NQ, &servers),
            Some(0),
            "an idle backend is preferred to a faster busy one"
        );
        assert_eq!(selected(WLC, &[(load(0, 0), 1), (load(1, 0), 3)]), Some(0));
    }

    #[test]
    fn failover_and_overflow_compare_weights() {
        assert_eq!(
            selected(FO, &[(load(9_999, 0), 3), (load(0, 0), 3), (load(0, 0), 2)]),
            Some(0)
        );
        assert_eq!(selected(OVF, &[(load(3, 99), 3), (load(0, 0), 2)]), Some(0));
        assert_eq!(selected(OVF, &[(load(4, 0), 3), (load(0, 0), 2)]), Some(1));
        assert_eq!(selected(OVF, &[(load(4, 0), 3), (load(3, 0), 2)]), None, "all are full");
    }

    #[test]
    fn a_walk_ends_when_no_better_candidate_can_follow() {
        let ends = |scheduler, load, weight| {
            let rule = SchedulingRule::of_scheduler(scheduler);
            rule.ends_search(rule.score(load, weight))
        };
        let idle = load(0, 1);
        assert_eq!([FO, OVF, RR, MAGLEV, NQ].map(|code| ends(code, idle, 1)), [true; 5]);
        assert_eq!([LC, WLC, SED, P2C].map(|code| ends(code, idle, 1)), [false; 4]);
        assert!(ends(WLC, load(0, 0), 1) && !ends(SED, load(0, 0), 1));
        assert!(!ends(OVF, load(2, 0), 1), "it overflows");
        assert!(!ends(FO, idle, 0));
    }

    #[test]
    fn nothing_overflows() {
        let most = load(i32::MAX as u32, i32::MAX as u32);
        for scheduler in LOAD_BASED.into_iter().filter(|&scheduler| scheduler != OVF) {
            assert!(selected(scheduler, &[(most, u16::MAX), (most, 1), (most, u16::MAX)]).is_some());
        }
        assert!(most.overloaded(false, u32::MAX - 1, u32::MAX));
        assert_eq!(two_positions(u64::MAX, u32::MAX), [u32::MAX - 1, u32::MAX - 2]);
    }

    #[test]
    fn two_positions_are_different_and_evenly_distributed() {
        assert_eq!(
            (two_positions(u64::MAX, 1), two_positions(u64::MAX, 0)),
            ([0, 0], [0, 0])
        );
        let mut hits = [[0u32; 4]; 4];
        for n in 0..48_000u64 {
            let [a, b] = two_positions(crate::hash::mix(n, 1), 4);
            hits[a as usize][b as usize] += 1;
        }
        for (a, row) in hits.iter().enumerate() {
            for (b, &hits) in row.iter().enumerate() {
                // 4,000 expected, standard deviation 61: six of them either way.
                assert!(
                    if a == b {
                        hits == 0
                    } else {
                        (3_630..4_370).contains(&hits)
                    },
                    "{a} {b}: {hits}"
                );
            }
        }
    }

    #[test]
    fn a_threshold_has_two_edges() {
        let walk = |upper, lower, totals: &[u32]| {
            let mut marked = false;
            totals.iter().fold(0u32, |bits, &total| {
                marked = load(total / 2, total.div_ceil(2)).overloaded(marked, upper, lower);
                bits << 1 | u32::from(marked)
            })
        };
        assert_eq!(walk(10, 5, &[9, 10, 11, 9, 5, 4, 9]), 0b0111100);
        assert_eq!(walk(8, 0, &[7, 8, 6, 5, 7]), 0b01100, "three quarters of 8 are 6");
        assert_eq!(walk(0, 5, &[0, 9, u32::MAX]), 0);
    }
}
