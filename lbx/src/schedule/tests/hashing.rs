use lbx_common::{
    hash::{self, mix},
    slot,
};
use proptest::prelude::*;

use super::candidates;
use crate::schedule::{
    Candidate,
    eligible::{SchedulableServer, eligible_candidates},
    maglev,
};

/// What one director makes of a file: RIPs by slot. Its indices are its own affair.
fn director(wanted: &[SchedulableServer], falls_back: bool, size: u32) -> Vec<Option<std::net::IpAddr>> {
    let table = maglev::table(&eligible_candidates(falls_back, wanted.iter().copied()), size);
    let address = |index: u16| {
        wanted
            .iter()
            .find(|server| server.backend_index == Some(index))
            .map(|s| s.address)
    };
    table.into_iter().map(address).collect()
}

fn servers(weights: &[u16], first_index: u16) -> Vec<SchedulableServer> {
    let wanted = |candidate: Candidate| SchedulableServer {
        address: candidate.address,
        weight: candidate.weight,
        backend_index: Some(first_index + candidate.backend_index),
    };
    candidates(weights).into_iter().map(wanted).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_directors_send_a_client_to_the_same_server(
        weights in prop::collection::vec(1..9u16, 1..12),
        clients in prop::collection::vec(any::<u64>(), 1..20),
        falls_back in any::<bool>(),
    ) {
        let size = maglev::table_size(weights.iter().copied());
        let one = director(&servers(&weights, 0), falls_back, size);
        let mut reversed = servers(&weights, 40);
        reversed.reverse();
        let other = director(&reversed, falls_back, size);
        for client in clients {
            // sh and mh hash what all connections of a client have in common, dh what all clients have: one slot.
            let slot = hash::slot(client, size) as usize;
            prop_assert!(one[slot].is_some());
            prop_assert_eq!(one[slot], other[slot]);
        }
    }

    #[test]
    fn a_failure_moves_no_client_of_another_server(
        weights in prop::collection::vec(1..9u16, 2..12),
        gone in any::<prop::sample::Index>(),
    ) {
        let size = maglev::table_size(weights.iter().copied());
        let mut servers = servers(&weights, 0);
        let before = director(&servers, false, size);
        let gone = gone.index(servers.len());
        servers[gone].backend_index = None;
        for (before, after) in before.into_iter().zip(director(&servers, false, size)) {
            let failed = before == Some(servers[gone].address);
            prop_assert_eq!(after, before.filter(|_| !failed));
        }
    }
}

/// Clients hash evenly: each server gets what its weight says, within what chance and the table allow.
#[test]
fn clients_spread_by_weight() {
    const CLIENTS: u64 = 60_000;
    let weights = [1, 2, 3, 4];
    let size = maglev::table_size(weights);
    let table = maglev::table(&candidates(&weights), size);
    let mut hits = [0u32; 4];
    for client in 0..CLIENTS {
        let index = table[hash::slot(mix(client, 0), size) as usize];
        assert_ne!(index, slot::NO_BACKEND);
        hits[usize::from(index)] += 1;
    }
    for (hits, weight) in hits.into_iter().zip(weights) {
        let share = CLIENTS as f64 * f64::from(weight) / 10.0;
        assert!((f64::from(hits) - share).abs() < share * 0.06, "{hits} for {share}");
    }
}
