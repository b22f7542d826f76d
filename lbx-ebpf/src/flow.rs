//! The records of flows: looked up, written and aged without a lock (see [`lbx_common::flow`] for the protocol).
//!
//! The tables of IPv4 and IPv6 differ in the width of a key alone: [`Table`] says where a record lies, everything else is
//! written once.

use lbx_common::{
    address::Address,
    flow::{
        self as record, BUSY, Bucket, EMPTY, Entry, FlowKey, KEY4, KEY6, Record, SHELTERED, TICK_MASK, WAYS4, WAYS6,
    },
    hash,
    service::Timeouts,
};

use crate::{atomic, connections, maps, service};

/// A flow at one moment, and where its record is.
#[repr(C)]
pub struct Flow {
    client: Address,
    client_port: [u8; 2],
    /// Service number.
    pub service: u16,
    vip_port: [u8; 2],
    pad: u16,
    /// The tick it is now.
    pub now: u32,
    /// Of the record found: bucket in the upper bits, place in it in the lowest two.
    place: u32,
}

impl Flow {
    /// The flow of a client to a port of a service at a tick.
    #[inline(always)]
    pub fn new(client: Address, client_port: [u8; 2], service: u16, vip_port: [u8; 2], now: u32) -> Self {
        Self {
            client,
            client_port,
            service,
            vip_port,
            pad: 0,
            now,
            place: 0,
        }
    }

    /// The template of a client (an address, masked) that persists.
    #[inline(always)]
    pub fn template(client: Address, service: u16, now: u32) -> Self {
        Self::new(client, [0; 2], service, [0; 2], now)
    }

    /// Finds its record, expired or not; of state [`EMPTY`] where there is none. IPv4 without a call: every packet of a
    /// service that records comes by here.
    #[inline(always)]
    pub fn find(&mut self) -> Entry {
        Entry::from_word(if self.client.is_ipv4() {
            Four::find(self)
        } else {
            lbx_flow_find6(self)
        })
    }

    /// The same, always by a call: for what is rare.
    #[inline(always)]
    pub fn find_by_call(&mut self) -> Entry {
        Entry::from_word(lbx_flow_find(self))
    }

    /// Replaces what the record that was found said; false if it says something else by now.
    #[inline(always)]
    pub fn replace(&self, before: Entry, after: Entry) -> bool {
        lbx_flow_replace(self, before.to_word(), after.to_word()) != 0
    }

    /// Erases the record that was found, if there was one and it still says the same.
    #[inline(always)]
    pub fn erase(&self, found: Entry) {
        if found.state != EMPTY {
            self.replace(found, Entry::from_word(0));
        }
    }

    /// Writes a record for it in a state, at a backend; false where none may be had.
    ///
    /// In order of preference it takes the flow's own record, an empty one, an expired one, and the longest unproven of
    /// those that nothing has shown to be real. An established flow is never displaced.
    #[inline(always)]
    pub fn insert(&self, backend: u16, state: u8) -> bool {
        let entry = Entry {
            vip_port: self.vip_port,
            backend,
            state,
            seen: self.now,
        };
        lbx_flow_insert(self, entry.to_word()) != 0
    }

    #[inline(always)]
    fn key(&self) -> FlowKey {
        FlowKey {
            client: self.client,
            client_port: self.client_port,
            service: self.service,
        }
    }
}

// Functions of a name of their own are verified by themselves, once, whoever calls them.

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_flow_find(flow: *mut Flow) -> u64 {
    // SAFETY: null or a flow of the caller's.
    let Some(flow) = (unsafe { flow.as_mut() }) else {
        return 0;
    };
    if flow.client.is_ipv4() {
        Four::find(flow)
    } else {
        lbx_flow_find6(flow)
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_flow_find6(flow: *mut Flow) -> u64 {
    // SAFETY: as above.
    unsafe { flow.as_mut() }.map_or(0, Six::find)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_flow_replace(flow: *const Flow, before: u64, after: u64) -> u32 {
    // SAFETY: as above.
    let Some(flow) = (unsafe { flow.as_ref() }) else {
        return 0;
    };
    let done = if flow.client.is_ipv4() {
        Four::replace(flow.place, before, after)
    } else {
        Six::replace(flow.place, before, after)
    };
    if done {
        connections::changed(flow.service, Entry::from_word(before), Entry::from_word(after));
    }
    u32::from(done)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_flow_insert(flow: *const Flow, entry: u64) -> u32 {
    // SAFETY: as above.
    let Some(flow) = (unsafe { flow.as_ref() }) else {
        return 0;
    };
    u32::from(if flow.client.is_ipv4() {
        Four::insert(flow, entry)
    } else {
        Six::insert(flow, entry)
    })
}

/// A table of records with keys of `K` words, `W` to a bucket.
trait Table<const K: usize, const W: usize> {
    /// The bucket of a number.
    fn bucket(index: u32) -> Option<*mut Bucket<K, W>>;
    /// The buckets that may hold the record of a flow.
    fn candidates(flow: &Flow) -> [u32; 2];
    /// A flow's key.
    fn key(flow: &Flow) -> [u64; K];
    /// The service number in a key.
    fn service(key: [u64; K]) -> u16;

    #[inline(always)]
    fn record(bucket: *mut Bucket<K, W>, way: usize) -> *mut Record<K> {
        // SAFETY: callers keep way < W, and the verifier has seen the bucket's bounds.
        unsafe { &raw mut (*bucket).records[way] }
    }

    /// Finds a record and notes its place; its entry, or 0.
    #[inline(always)]
    fn find(flow: &mut Flow) -> u64 {
        let key = Self::key(flow);
        for index in Self::candidates(flow) {
            let Some(bucket) = Self::bucket(index) else {
                return 0;
            };
            for way in 0..W {
                let record = Self::record(bucket, way);
                if !has_key(record, &key) {
                    continue;
                }
                let word = atomic::load(entry_word(record));
                let entry = Entry::from_word(word);
                // A writer that took the record in between has changed its key or marked it busy.
                if entry.state > BUSY && entry.vip_port == flow.vip_port && has_key(record, &key) {
                    flow.place = index << 2 | way as u32;
                    return word;
                }
            }
        }
        0
    }

    /// Records of a bucket that are not empty, counted without a branch.
    #[inline(always)]
    fn occupied(index: u32) -> u32 {
        let Some(bucket) = Self::bucket(index) else {
            return 0;
        };
        let mut count = 0;
        for way in 0..W {
            let word = atomic::load(entry_word(Self::record(bucket, way)));
            count += ((word | word.wrapping_neg()) >> 63) as u32;
        }
        count
    }

    #[inline(always)]
    fn replace(place: u32, before: u64, after: u64) -> bool {
        let Some(bucket) = Self::bucket(place >> 2) else {
            return false;
        };
        let record = Self::record(bucket, place as usize & (W - 1));
        exchange(record, before, after)
    }

    #[inline(always)]
    fn insert(flow: &Flow, entry: u64) -> bool {
        let key = Self::key(flow);
        let mut best = Offer::default();
        for index in Self::candidates(flow) {
            let Some(bucket) = Self::bucket(index) else {
                return false;
            };
            for way in 0..W {
                let record = Self::record(bucket, way);
                let before = atomic::load(entry_word(record));
                best = best.or(Offer {
                    score: lbx_flow_preference(before, difference(record, &key), flow, index),
                    place: index << 2 | way as u32,
                    before,
                });
            }
        }
        best.score != 0 && Self::take(flow, best.place, best.before, entry)
    }

    /// Takes the record at a place, if it still says what it said before.
    #[inline(always)]
    fn take(flow: &Flow, place: u32, before: u64, entry: u64) -> bool {
        let Some(bucket) = Self::bucket(place >> 2) else {
            return false;
        };
        let record = Self::record(bucket, place as usize & (W - 1));
        // Whose it was is read before it is taken: nobody changes a key but who takes the record.
        let former = Self::service(read_key(record));
        let entry = Entry::from_word(entry);
        let busy = Entry { state: BUSY, ..entry };
        if !exchange(record, before, busy.to_word()) {
            return false;
        }
        for (index, word) in Self::key(flow).into_iter().enumerate() {
            // SAFETY: index < K.
            atomic::store(unsafe { &raw mut (*record).key[index] }, word);
        }
        atomic::store(entry_word(record), entry.to_word());
        connections::changed(former, Entry::from_word(before), Entry::from_word(0));
        connections::changed(flow.service, Entry::from_word(0), entry);
        true
    }
}

struct Four;

impl Table<KEY4, WAYS4> for Four {
    #[inline(always)]
    fn bucket(index: u32) -> Option<*mut Bucket<KEY4, WAYS4>> {
        maps::flows4(index)
    }

    #[inline(always)]
    fn candidates(flow: &Flow) -> [u32; 2] {
        let tuple = hash::tuple(flow.client, flow.client_port, flow.vip_port);
        hash::buckets(hash::flow4(tuple, flow.service, maps::seed()), maps::flow4_mask())
    }

    #[inline(always)]
    fn key(flow: &Flow) -> [u64; KEY4] {
        [flow.key().to_word()]
    }

    #[inline(always)]
    fn service([word]: [u64; KEY4]) -> u16 {
        FlowKey::from_word(word).service
    }
}

struct Six;

impl Table<KEY6, WAYS6> for Six {
    #[inline(always)]
    fn bucket(index: u32) -> Option<*mut Bucket<KEY6, WAYS6>> {
        maps::flows6(index)
    }

    #[inline(always)]
    fn candidates(flow: &Flow) -> [u32; 2] {
        let hash = hash::flow6(flow.client, flow.client_port, flow.vip_port, flow.service, maps::seed());
        hash::buckets(hash, maps::flow6_mask())
    }

    #[inline(always)]
    fn key(flow: &Flow) -> [u64; KEY6] {
        flow.key().to_words()
    }

    #[inline(always)]
    fn service(words: [u64; KEY6]) -> u16 {
        FlowKey::from_words(words).service
    }
}

/// A record that may be taken.
#[derive(Clone, Copy, Default)]
struct Offer {
    score: u32,
    place: u32,
    before: u64,
}

impl Offer {
    /// The better of two, without a branch: the verifier would follow both ways at every record.
    #[inline(always)]
    fn or(self, other: Self) -> Self {
        let mask = ((i64::from(self.score) - i64::from(other.score)) >> 63) as u64;
        Self {
            score: self.score ^ ((self.score ^ other.score) & mask as u32),
            place: self.place ^ ((self.place ^ other.place) & mask as u32),
            before: self.before ^ ((self.before ^ other.before) & mask),
        }
    }
}

/// How gladly a record is given up for a flow; 0: never. `difference` of the keys is 0 where it is the flow's own, `bucket`
/// is the one it lies in.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_flow_preference(before: u64, difference: u64, flow: *const Flow, bucket: u32) -> u32 {
    // SAFETY: null or a flow of the caller's.
    let Some(flow) = (unsafe { flow.as_ref() }) else {
        return 0;
    };
    let Some(meant) = service::by_number(flow.service) else {
        return 0;
    };
    let old = Entry::from_word(before);
    let own = difference == 0 && old.vip_port == flow.vip_port;
    let others = if flow.client.is_ipv4() {
        Four::occupied(bucket)
    } else {
        Six::occupied(bucket)
    };
    preference(old, own, others, flow.now, &meant.timeouts())
}

#[inline(always)]
fn preference(old: Entry, own: bool, others: u32, now: u32, timeouts: &Timeouts) -> u32 {
    const OWN: u32 = u32::MAX;
    const VACANT: u32 = OWN - 1;
    const EXPIRED: u32 = VACANT - 1 - WAYS4 as u32;
    let idle = record::elapsed(old.seen, now);
    if old.state == BUSY {
        0
    } else if own && old.state != EMPTY {
        OWN
    } else if old.state == EMPTY {
        // The emptier bucket: so hardly a flow finds both full in a table that is filled to half.
        VACANT - others
    } else if old.expired(now, timeouts) {
        EXPIRED
    } else if record::displaceable(old.state) && (SHELTERED..TICK_MASK / 2).contains(&idle) {
        // The longest unproven first.
        1 + idle
    } else {
        0
    }
}

/// Zero where a record has a key.
#[inline(always)]
fn difference<const K: usize>(record: *const Record<K>, key: &[u64; K]) -> u64 {
    let found = read_key(record);
    let mut difference = 0;
    for index in 0..K {
        difference |= found[index] ^ key[index];
    }
    difference
}

#[inline(always)]
fn has_key<const K: usize>(record: *const Record<K>, key: &[u64; K]) -> bool {
    difference(record, key) == 0
}

#[inline(always)]
fn read_key<const K: usize>(record: *const Record<K>) -> [u64; K] {
    let mut key = [0; K];
    for (index, word) in key.iter_mut().enumerate() {
        // SAFETY: index < K.
        *word = atomic::load(unsafe { &raw const (*record).key[index] });
    }
    key
}

#[inline(always)]
fn entry_word<const K: usize>(record: *mut Record<K>) -> *mut u64 {
    // SAFETY: only the address is taken.
    unsafe { &raw mut (*record).entry }
}

/// Replaces the entry word if it still is `old`.
#[inline(always)]
fn exchange<const K: usize>(record: *mut Record<K>, old: u64, new: u64) -> bool {
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
        persistent: 360,
        pad: [0; 2],
    };

    fn score(state: u8, seen: u32, own: bool) -> u32 {
        score_among(state, seen, own, 1)
    }

    fn score_among(state: u8, seen: u32, own: bool, others: u32) -> u32 {
        let entry = Entry {
            vip_port: [0, 80],
            backend: 0,
            state,
            seen,
        };
        preference(entry, own, others, 1_000, &TIMEOUTS)
    }

    #[test]
    fn an_established_flow_is_never_displaced() {
        assert_eq!(score(ESTABLISHED, 500, false), 0);
        assert_eq!(score(CLOSED, 999, false), 0);
        assert_eq!(score(BUSY, 0, true), 0, "nor one that is being written");
        assert_eq!(score(HALF_OPEN, 998, false), 0, "nor one that may yet be answered");
        assert_eq!(score(HALF_OPEN, 1_001, false), 0, "nor one from another CPU's future");
    }

    #[test]
    fn victims_are_taken_in_order() {
        let order = [
            score(HALF_OPEN, 997, false),
            score(HALF_OPEN, 950, false),
            score(ADOPTED, 500, false),
            score(ESTABLISHED, 50, false),
            score_among(EMPTY, 0, false, WAYS4 as u32 - 1),
            score_among(EMPTY, 0, false, 0),
            score(ESTABLISHED, 999, true),
        ];
        assert!(order.is_sorted_by(|a, b| a < b), "{order:?}");
    }
}
