use proptest::prelude::*;

use super::candidates;
use crate::{desired::Scheduler, schedule::ring};

/// IPVS's wrr (net/netfilter/ipvs/ip_vs_wrr.c) as it is described there: passes over all servers, each pass taking those
/// whose weight reaches a mark, which goes down from the greatest weight to the greatest common divisor in steps of it.
fn passes(weights: &[u16]) -> Vec<usize> {
    let divides = |step: &u16| weights.iter().all(|weight| weight % step == 0);
    let greatest = weights.iter().copied().max().unwrap_or(0);
    let step = (1..=greatest).rev().find(divides).unwrap_or(1);
    let marks = (1..=greatest / step).rev().map(|pass| pass * step);
    marks
        .flat_map(|mark| (0..weights.len()).filter(move |&place| weights[place] >= mark))
        .collect()
}

fn turns(scheduler: Scheduler, weights: &[u16]) -> Vec<usize> {
    let ring = ring::ring_for_scheduler(scheduler, &candidates(weights));
    ring.iter().map(|turn| usize::from(turn.backend_index)).collect()
}

fn counts(turns: &[usize], servers: usize) -> Vec<usize> {
    (0..servers)
        .map(|server| turns.iter().filter(|&&turn| turn == server).count())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_round_gives_everyone_what_ipvs_gives(weights in prop::collection::vec(1..40u16, 1..12)) {
        let round = turns(Scheduler::Wrr, &weights);
        let ipvs = passes(&weights);
        prop_assert_eq!(round.len(), ipvs.len());
        prop_assert_eq!(counts(&round, weights.len()), counts(&ipvs, weights.len()));
        prop_assert_eq!(turns(Scheduler::P2c, &weights), round);
    }

    #[test]
    fn at_every_turn_everyone_has_had_its_share_but_for_two(weights in prop::collection::vec(1..40u16, 1..12)) {
        let round = turns(Scheduler::Wrr, &weights);
        let total: u32 = weights.iter().copied().map(u32::from).sum();
        for end in 1..=round.len() {
            for (had, weight) in counts(&round[..end], weights.len()).into_iter().zip(&weights) {
                let share = end as f64 * f64::from(*weight) / f64::from(total);
                prop_assert!((share - had as f64).abs() < 2.0, "{had} of {share} after {end}");
            }
        }
    }

    #[test]
    fn round_robin_heeds_no_weights(weights in prop::collection::vec(1..=u16::MAX, 0..50)) {
        prop_assert_eq!(turns(Scheduler::Rr, &weights), (0..weights.len()).collect::<Vec<_>>());
        let equal = vec![1; weights.len()];
        prop_assert_eq!(turns(Scheduler::Wrr, &equal), passes(&equal));
    }
}
