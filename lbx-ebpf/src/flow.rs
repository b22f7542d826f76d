//! The records of flows: looked up, written and aged without a lock (see [`lbx_common::flow`] for the protocol).

use lbx_common::{
    flow::{self as record, BUSY, EMPTY, Entry, FlowKey, Record, Signal, WAYS},
    hash,
    service::Timeouts,
};

use crate::{atomic, maps};

/// A flow at one moment.
pub struct Flow {
    /// Who talks to which service.
    pub key: FlowKey,
    /// To which of its ports.
    pub vip_port: [u8; 2],
    /// The flow as one word for the hashes.
    pub tuple: u64,
    /// The tick it is now.
    pub now: u32,
}

/// A record that was found, and what it said.
pub struct Found {
    record: *mut Record,
    /// What it said.
    pub entry: Entry,
}

/// Finds the record of a flow, expired or not.
#[inline(always)]
pub fn find(flow: &Flow) -> Option<Found> {
    let key = flow.key.to_word();
    for bucket in candidates(flow) {
        let bucket = maps::bucket(bucket)?;
        for way in 0..WAYS {
            // SAFETY: way < WAYS, and the verifier has seen the bucket's bounds.
            let record = unsafe { &raw mut (*bucket).records[way] };
            if atomic::load(key_word(record)) != key {
                continue;
            }
            let entry = Entry::from_word(atomic::load(entry_word(record)));
            // A writer that took the record in between has changed its key or marked it busy.
            if entry.state > BUSY && entry.vip_port == flow.vip_port && atomic::load(key_word(record)) == key {
                return Some(Found { record, entry });
            }
        }
    }
    None
}

/// Notes a packet of a recorded flow. At most one write a tick: whoever loses the race lost it to the same news.
#[inline(always)]
pub fn touch(found: &Found, signal: Signal, now: u32) {
    let entry = found.entry.after(signal, now);
    if entry != found.entry {
        exchange(found.record, found.entry.to_word(), entry.to_word());
    }
}

/// Erases a record, unless it has changed since it was found.
#[inline(always)]
pub fn erase(found: &Found) {
    exchange(found.record, found.entry.to_word(), 0);
}

/// Writes a record for a flow; false where none may be had. `timeouts` say which records have expired.
///
/// In order of preference it takes the flow's own record, an empty one, an expired one, and the longest unproven of those
/// that nothing has shown to be real. An established flow is never displaced.
#[inline(never)]
pub fn insert(flow: &Flow, entry: Entry, timeouts: &Timeouts) -> bool {
    let key = flow.key.to_word();
    let mut best = 0;
    let mut victim: Option<(*mut Record, u64)> = None;
    for bucket in candidates(flow) {
        let Some(bucket) = maps::bucket(bucket) else {
            return false;
        };
        for way in 0..WAYS {
            // SAFETY: way < WAYS, and the verifier has seen the bucket's bounds.
            let record = unsafe { &raw mut (*bucket).records[way] };
            let word = atomic::load(entry_word(record));
            let old = Entry::from_word(word);
            let own = atomic::load(key_word(record)) == key && old.vip_port == flow.vip_port;
            let score = preference(old, own, flow.now, timeouts);
            if score > best {
                best = score;
                victim = Some((record, word));
            }
        }
    }
    let Some((record, word)) = victim else {
        return false;
    };
    let busy = Entry { state: BUSY, ..entry };
    if !exchange(record, word, busy.to_word()) {
        return false;
    }
    atomic::store(key_word(record), key);
    atomic::store(entry_word(record), entry.to_word());
    true
}

/// How gladly a record is given up for a new flow; 0: never.
#[inline(always)]
fn preference(old: Entry, own: bool, now: u32, timeouts: &Timeouts) -> u32 {
    const OWN: u32 = u32::MAX;
    const VACANT: u32 = OWN - 1;
    const EXPIRED: u32 = VACANT - 1;
    if old.state == BUSY {
        0
    } else if own && old.state != EMPTY {
        OWN
    } else if old.state == EMPTY {
        VACANT
    } else if old.expired(now, timeouts) {
        EXPIRED
    } else if record::displaceable(old.state) {
        // The longest unproven first.
        1 + record::elapsed(old.seen, now)
    } else {
        0
    }
}

/// The buckets that may hold the record of a flow.
#[inline(always)]
fn candidates(flow: &Flow) -> [u32; 2] {
    hash::buckets(flow.tuple, flow.key.service, maps::flow_seed(), maps::flow_mask())
}

#[inline(always)]
fn key_word(record: *mut Record) -> *mut u64 {
    // SAFETY: only the address is taken.
    unsafe { &raw mut (*record).a }
}

#[inline(always)]
fn entry_word(record: *mut Record) -> *mut u64 {
    // SAFETY: only the address is taken.
    unsafe { &raw mut (*record).b }
}

/// Replaces the entry word if it still is `old`.
#[inline(always)]
fn exchange(record: *mut Record, old: u64, new: u64) -> bool {
    atomic::compare_exchange(entry_word(record), old, new) == old
}

#[cfg(test)]
mod tests {
    use lbx_common::flow::{ADOPTED, CLOSED, ESTABLISHED, HALF_OPEN};

    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        half_open: 60,
        established: 900,
        closing: 120,
        closed: 10,
        udp: 300,
        pad: 0,
    };

    fn score(state: u8, seen: u32, own: bool) -> u32 {
        let entry = Entry {
            vip_port: [0, 80],
            backend: 0,
            state,
            seen,
        };
        preference(entry, own, 1_000, &TIMEOUTS)
    }

    #[test]
    fn an_established_flow_is_never_displaced() {
        assert_eq!(score(ESTABLISHED, 500, false), 0);
        assert_eq!(score(CLOSED, 999, false), 0);
        assert_eq!(score(BUSY, 0, true), 0, "nor one that is being written");
    }

    #[test]
    fn victims_are_taken_in_order() {
        let order = [
            score(HALF_OPEN, 999, false),
            score(HALF_OPEN, 950, false),
            score(ADOPTED, 500, false),
            score(ESTABLISHED, 50, false),
            score(EMPTY, 0, false),
            score(ESTABLISHED, 999, true),
        ];
        assert!(order.is_sorted_by(|a, b| a < b), "{order:?}");
    }
}
