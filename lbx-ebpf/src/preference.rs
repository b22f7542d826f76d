//! The order in which records are taken for new flows.

use lbx_common::{
    flow::{self as record, BEING_WRITTEN, EMPTY, EVICTION_GRACE_TICKS, FlowEntry, RECORDS_PER_BUCKET4, TICK_MASK},
    service::TimeoutTicks,
};

/// The preference for taking a record that was found as `old`; 0: never. `occupied` is the number of records in its bucket.
#[inline(always)]
pub fn record_replacement_priority(
    old: FlowEntry,
    same_flow: bool,
    occupied: u32,
    now: u32,
    timeouts: &TimeoutTicks,
) -> u32 {
    const OWN: u32 = u32::MAX;
    const VACANT: u32 = OWN - 1;
    const EXPIRED: u32 = VACANT - 1 - RECORDS_PER_BUCKET4 as u32;
    let idle = record::elapsed_ticks(old.last_seen_tick, now);
    if old.state == BEING_WRITTEN {
        0
    } else if same_flow && old.state != EMPTY {
        OWN
    } else if old.state == EMPTY {
        // Prefers the emptier bucket: at half load hardly a flow finds both full.
        VACANT - occupied
    } else if old.expired(now, timeouts) {
        EXPIRED
    } else if record::is_evictable(old.state) && (EVICTION_GRACE_TICKS..TICK_MASK / 2).contains(&idle) {
        // The longest idle first.
        1 + idle
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use lbx_common::flow::{CLOSED, ESTABLISHED, HALF_OPEN, MIDSTREAM};

    use super::*;

    const TIMEOUTS: TimeoutTicks = TimeoutTicks {
        half_open: 60,
        established: 900,
        closing: 120,
        closed: 10,
        udp: 300,
        persistent: 360,
        pad: [0; 2],
    };

    fn score(state: u8, seen: u32, same_flow: bool) -> u32 {
        score_with(state, seen, same_flow, 1)
    }

    fn score_with(state: u8, seen: u32, same_flow: bool, occupied: u32) -> u32 {
        let entry = FlowEntry {
            vip_port: [0, 80],
            backend: 0,
            state,
            last_seen_tick: seen,
        };
        record_replacement_priority(entry, same_flow, occupied, 1_000, &TIMEOUTS)
    }

    #[test]
    fn an_established_flow_is_never_displaced() {
        assert_eq!(score(ESTABLISHED, 500, false), 0);
        assert_eq!(score(CLOSED, 999, false), 0);
        assert_eq!(score(BEING_WRITTEN, 0, true), 0, "a record being written is not taken");
        assert_eq!(score(HALF_OPEN, 998, false), 0, "a SYN may still be answered");
        assert_eq!(
            score(HALF_OPEN, 1_001, false),
            0,
            "another CPU's clock may be a tick ahead"
        );
    }

    #[test]
    fn records_are_taken_in_order_of_preference() {
        let order = [
            score(HALF_OPEN, 997, false),
            score(HALF_OPEN, 950, false),
            score(MIDSTREAM, 500, false),
            score(ESTABLISHED, 50, false),
            score_with(EMPTY, 0, false, RECORDS_PER_BUCKET4 as u32 - 1),
            score_with(EMPTY, 0, false, 0),
            score(ESTABLISHED, 999, true),
        ];
        assert!(order.is_sorted_by(|a, b| a < b), "{order:?}");
    }
}
