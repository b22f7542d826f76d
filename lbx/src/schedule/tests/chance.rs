use lbx_common::{
    hash::mix,
    load::{BackendLoad, SchedulingRule, two_positions},
    ring::RingEntry,
};

use super::candidates;
use crate::{desired::Scheduler, schedule::ring};

/// Connections by place after so many, all of which stay.
fn thrown(weights: &[u16], connections: u64, choose: impl Fn(u64, &[RingEntry], &[BackendLoad]) -> u16) -> Vec<u32> {
    let ring = ring::ring_for_scheduler(Scheduler::P2c, &candidates(weights));
    let mut loads = vec![BackendLoad::default(); weights.len()];
    for connection in 0..connections {
        let chosen = choose(mix(connection, 0x7032_6374_6573_7473), &ring, &loads);
        loads[usize::from(chosen)].active += 1;
    }
    loads.iter().map(|load| load.active).collect()
}

/// As the program does it.
fn two_choices(random: u64, ring: &[RingEntry], loads: &[BackendLoad]) -> u16 {
    let [first, second] = two_positions(random, ring.len() as u32).map(|place| ring[place as usize]);
    let load = |turn: RingEntry| (loads[usize::from(turn.backend_index)], turn.weight);
    let better = SchedulingRule::of_scheduler(Scheduler::P2c as u8).better(load(second), load(first));
    if better {
        second.backend_index
    } else {
        first.backend_index
    }
}

fn chance_alone(random: u64, ring: &[RingEntry], _: &[BackendLoad]) -> u16 {
    ring[(random % ring.len() as u64) as usize].backend_index
}

#[test]
fn the_fullest_of_many_is_far_below_that_of_chance() {
    let most = |connections, choose: fn(u64, &[RingEntry], &[BackendLoad]) -> u16| {
        *thrown(&[1; 1_000], connections, choose).iter().max().expect("somebody")
    };
    // As many connections as servers: ln ln n / ln 2 and a little, against ln n / ln ln n and a little.
    assert!(most(1_000, two_choices) <= 4, "{}", most(1_000, two_choices));
    assert!(most(1_000, chance_alone) >= 5, "{}", most(1_000, chance_alone));
    // A hundred times as many: the surplus does not grow with them; by chance it does, with their square root.
    assert!(most(100_000, two_choices) <= 105, "{}", most(100_000, two_choices));
    assert!(most(100_000, chance_alone) >= 125, "{}", most(100_000, chance_alone));
}

#[test]
fn heavy_ones_get_what_their_weight_says() {
    let weights = [1, 1, 1, 1, 1, 1, 1, 1, 1, 91];
    let loads = thrown(&weights, 10_000, two_choices);
    assert!((8_900..=9_300).contains(&loads[9]), "{loads:?}");
    let weights: Vec<u16> = (0..100).map(|place| 1 + place % 4).collect();
    for (load, weight) in thrown(&weights, 25_000, two_choices).iter().zip(&weights) {
        let share = 100.0 * f64::from(*weight);
        assert!((f64::from(*load) - share).abs() <= 12.0, "{load} for {share}");
    }
}

#[test]
fn of_two_servers_the_less_loaded_is_always_taken() {
    assert_eq!(thrown(&[1, 1], 1_001, two_choices).iter().min(), Some(&500));
}
