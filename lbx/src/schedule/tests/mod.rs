//! Schedulers against models of their own: written from what they are to do, and by other means.
//!
//! - [`load`]: those that go by load, step by step while connections come and go
//! - [`turns`]: round robin against IPVS's sequence
//! - [`chance`]: the power of two choices against chance alone
//! - [`hashing`]: what hashes is the same for the same client, everywhere

mod chance;
mod hashing;
mod load;
mod turns;

use std::net::IpAddr;

use lbx_common::{
    load::{BackendLoad, LoadScore, SchedulingRule},
    ring::RingEntry,
};

use super::Candidate;
use crate::desired::Scheduler;

/// Candidates of these weights, in the order of a file.
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

/// Whom a scheduler takes that looks at all of its ring, as the program walks it; `loads` are by index.
fn walk(scheduler: Scheduler, ring: &[RingEntry], loads: &[BackendLoad]) -> Option<u16> {
    let rule = SchedulingRule::of_scheduler(scheduler as u8);
    let mut best = (None, LoadScore::WORST);
    for turn in ring {
        let score = rule.score(loads[usize::from(turn.backend_index)], turn.weight);
        if score.better_than(best.1) {
            best = (Some(turn.backend_index), score);
        }
        if rule.ends_search(score) {
            break;
        }
    }
    best.0
}
