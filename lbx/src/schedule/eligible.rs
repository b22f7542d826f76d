//! Which real servers are eligible for slots of a service's hash table.

use std::net::IpAddr;

use lbx_common::slot;

use super::Candidate;
use crate::desired::{HashOptions, Scheduler};

/// A configured real server, as far as slots depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulableServer {
    /// RIP.
    pub address: IpAddr,
    /// Weight.
    pub weight: u16,
    /// Index of its backend that may get new connections, if it has one.
    pub backend_index: Option<u16>,
}

/// Whether other real servers take over the slots of one that is not up. A scheduler that does not hash uses slots only for
/// connections without a record, and always falls back. dh has no such flag in IPVS.
#[must_use]
pub const fn falls_back(scheduler: Scheduler, hashing: HashOptions) -> bool {
    match scheduler {
        Scheduler::Dh => false,
        scheduler => hashing.fallback || !scheduler.hashes(),
    }
}

/// The real servers that share the slots: with fallback those that are up; without it all, so that slots of one that is down
/// have no backend ([`slot::NO_BACKEND`]) and all others stay (net/netfilter/ipvs/ip_vs_sh.c, ip_vs_mh.c, ip_vs_dh.c). A weight
/// of 0 is never eligible.
#[must_use]
pub fn eligible_candidates(falls_back: bool, wanted: impl IntoIterator<Item = SchedulableServer>) -> Vec<Candidate> {
    wanted
        .into_iter()
        .filter(|server| server.weight > 0 && (server.backend_index.is_some() || !falls_back))
        .map(|server| Candidate {
            backend_index: server.backend_index.unwrap_or(slot::NO_BACKEND),
            address: server.address,
            weight: server.weight,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::maglev;

    fn server(number: u8, weight: u16, index: Option<u16>) -> SchedulableServer {
        SchedulableServer {
            address: IpAddr::from([10, 0, 0, number]),
            weight,
            backend_index: index,
        }
    }

    fn table(falls_back: bool, wanted: &[SchedulableServer]) -> Vec<u16> {
        maglev::table(&eligible_candidates(falls_back, wanted.iter().copied()), 1_021)
    }

    const ALL_UP: [(u8, u16, Option<u16>); 3] = [(1, 1, Some(0)), (2, 2, Some(1)), (3, 1, Some(2))];

    fn all_but(gone: Option<usize>) -> Vec<SchedulableServer> {
        let mut wanted: Vec<_> = ALL_UP
            .map(|(number, weight, index)| server(number, weight, index))
            .into();
        if let Some(gone) = gone {
            wanted[gone].backend_index = None;
        }
        wanted
    }

    #[test]
    fn without_fallback_slots_of_a_down_server_have_no_backend_and_no_other_moves() {
        let before = table(false, &all_but(None));
        for gone in 0..3 {
            let after = table(false, &all_but(Some(gone)));
            for (before, after) in before.iter().zip(after) {
                let expected = if usize::from(*before) == gone {
                    slot::NO_BACKEND
                } else {
                    *before
                };
                assert_eq!(after, expected);
            }
        }
    }

    #[test]
    fn a_server_that_returns_under_another_index_has_its_slots_again() {
        let before = table(false, &all_but(None));
        let mut wanted = all_but(None);
        wanted[1].backend_index = Some(7);
        for (before, after) in before.iter().zip(table(false, &wanted)) {
            assert_eq!(after, if *before == 1 { 7 } else { *before });
        }
    }

    #[test]
    fn with_fallback_every_slot_has_a_backend() {
        let after = table(true, &all_but(Some(1)));
        assert!(after.iter().all(|index| matches!(index, 0 | 2)));
        assert_eq!(after, table(true, &[server(3, 1, Some(2)), server(1, 1, Some(0))]));
    }

    #[test]
    fn a_draining_server_has_no_slots_in_either_case() {
        let drained = |index| [server(1, 1, Some(0)), server(2, 0, index), server(3, 1, Some(2))];
        let others = table(true, &[server(1, 1, Some(0)), server(3, 1, Some(2))]);
        for falls_back in [true, false] {
            assert_eq!(table(falls_back, &drained(Some(1))), others);
            assert_eq!(table(falls_back, &drained(None)), others);
        }
        assert!(eligible_candidates(false, [server(1, 0, Some(0))]).is_empty());
    }

    #[test]
    fn where_all_are_down_no_slot_has_a_backend() {
        let down = [server(1, 1, None), server(2, 1, None)];
        assert!(table(false, &down).iter().all(|index| *index == slot::NO_BACKEND));
        assert!(table(true, &down).iter().all(|index| *index == slot::NO_BACKEND));
    }

    #[test]
    fn the_fallback_flag_applies_to_schedulers_that_have_it() {
        let falls_back = |scheduler, fallback| {
            super::falls_back(
                scheduler,
                HashOptions {
                    include_port: true,
                    fallback,
                },
            )
        };
        for scheduler in [Scheduler::Sh, Scheduler::Mh, Scheduler::Maglev] {
            assert!(falls_back(scheduler, true) && !falls_back(scheduler, false));
        }
        assert!(falls_back(Scheduler::Rr, false) && falls_back(Scheduler::Wlc, false));
        assert!(!falls_back(Scheduler::Dh, true));
    }
}
