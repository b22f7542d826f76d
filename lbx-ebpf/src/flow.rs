//! The records of flows: looked up, written and aged without a lock (see [`lbx_common::flow`] for the protocol).
//!
//! The tables of IPv4 and IPv6 differ in the width of their keys only: [`Table`] abstracts that, everything else is shared.

use lbx_common::{
    address::Address,
    flow::{
        BEING_WRITTEN, Bucket, EMPTY, FlowEntry, FlowKey, KEY_WORDS4, KEY_WORDS6, RECORDS_PER_BUCKET4,
        RECORDS_PER_BUCKET6, Record,
    },
    hash,
};

use crate::{atomic, connections, maps, preference::record_replacement_priority, service_ref::ServiceRef};

/// A flow at one tick, and the location of its record.
#[repr(C)]
pub struct Flow {
    client: Address,
    client_port: [u8; 2],
    /// Service number.
    pub service: u16,
    vip_port: [u8; 2],
    pad: u16,
    /// The current tick.
    pub current_tick: u32,
    /// Of the record found: bucket in the upper bits, index within it in the lowest two.
    location: u32,
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
            current_tick: now,
            location: 0,
        }
    }

    /// The persistence template of a client (an address, masked).
    #[inline(always)]
    pub fn template(client: Address, service: u16, now: u32) -> Self {
        Self::new(client, [0; 2], service, [0; 2], now)
    }

    /// Finds its record, expired or not; of state [`EMPTY`] where there is none. For IPv4 without a call, since every packet
    /// of a service that records its flows needs it.
    #[inline(always)]
    pub fn find(&mut self) -> FlowEntry {
        FlowEntry::from_word(if self.client.is_ipv4() {
            Four::find(self)
        } else {
            lbx_flow_find6(self)
        })
    }

    /// The same, always by a call: for rare paths.
    #[inline(always)]
    pub fn find_out_of_line(&mut self) -> FlowEntry {
        FlowEntry::from_word(lbx_flow_find(self))
    }

    /// Replaces the entry of the record found; false if it has changed since.
    #[inline(always)]
    pub fn replace(&self, before: FlowEntry, after: FlowEntry) -> bool {
        lbx_flow_replace(self, before.to_word(), after.to_word()) != 0
    }

    /// Erases the record found, if there was one and it has not changed since.
    #[inline(always)]
    pub fn erase(&self, found: FlowEntry) {
        if found.state != EMPTY {
            self.replace(found, FlowEntry::from_word(0));
        }
    }

    /// Writes a record with a backend and a state; false where there is no free record.
    ///
    /// In order of preference it takes the flow's own record, an empty one, an expired one, and the longest idle of the
    /// unconfirmed ones. An established flow is never displaced.
    #[inline(always)]
    pub fn insert(&self, backend: u16, state: u8) -> bool {
        let entry = FlowEntry {
            vip_port: self.vip_port,
            backend,
            state,
            last_seen_tick: self.current_tick,
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

// Global functions: the verifier checks each once, on its own, whoever calls it.

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
        Four::replace(flow.location, before, after)
    } else {
        Six::replace(flow.location, before, after)
    };
    if done {
        connections::update_connection_count(flow.service, FlowEntry::from_word(before), FlowEntry::from_word(after));
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

/// A table of records with keys of `K` words, `W` records per bucket.
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
        // SAFETY: callers keep way < W, and the verifier has checked the bucket's bounds.
        unsafe { &raw mut (*bucket).records[way] }
    }

    /// Finds a record and stores its location in the flow; returns its entry, or 0.
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
                let entry = FlowEntry::from_word(word);
                // A writer that took the record in between has changed the key or marked the record busy.
                if entry.state > BEING_WRITTEN && entry.vip_port == flow.vip_port && has_key(record, &key) {
                    flow.location = index << 2 | way as u32;
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
    fn replace(location: u32, before: u64, after: u64) -> bool {
        let Some(bucket) = Self::bucket(location >> 2) else {
            return false;
        };
        let record = Self::record(bucket, location as usize & (W - 1));
        exchange(record, before, after)
    }

    #[inline(always)]
    fn insert(flow: &Flow, entry: u64) -> bool {
        let key = Self::key(flow);
        let mut best = Candidate::default();
        for index in Self::candidates(flow) {
            let Some(bucket) = Self::bucket(index) else {
                return false;
            };
            for way in 0..W {
                let record = Self::record(bucket, way);
                let before = atomic::load(entry_word(record));
                best = best.or(Candidate {
                    score: lbx_flow_preference(before, difference(record, &key), flow, index),
                    location: index << 2 | way as u32,
                    before,
                });
            }
        }
        best.score != 0 && Self::take(flow, best.location, best.before, entry)
    }

    /// Takes the record at a location, if its entry has not changed.
    #[inline(always)]
    fn take(flow: &Flow, location: u32, before: u64, entry: u64) -> bool {
        let Some(bucket) = Self::bucket(location >> 2) else {
            return false;
        };
        let record = Self::record(bucket, location as usize & (W - 1));
        // The previous service is read before the record is taken: only a writer that has taken a record changes its key.
        let previous_service = Self::service(read_key(record));
        let entry = FlowEntry::from_word(entry);
        let busy = FlowEntry {
            state: BEING_WRITTEN,
            ..entry
        };
        if !exchange(record, before, busy.to_word()) {
            return false;
        }
        for (index, word) in Self::key(flow).into_iter().enumerate() {
            // SAFETY: index < K.
            atomic::store(unsafe { &raw mut (*record).key[index] }, word);
        }
        atomic::store(entry_word(record), entry.to_word());
        connections::update_connection_count(previous_service, FlowEntry::from_word(before), FlowEntry::from_word(0));
        connections::update_connection_count(flow.service, FlowEntry::from_word(0), entry);
        true
    }
}

struct Four;

impl Table<KEY_WORDS4, RECORDS_PER_BUCKET4> for Four {
    #[inline(always)]
    fn bucket(index: u32) -> Option<*mut Bucket<KEY_WORDS4, RECORDS_PER_BUCKET4>> {
        maps::flows4(index)
    }

    #[inline(always)]
    fn candidates(flow: &Flow) -> [u32; 2] {
        let tuple = hash::tuple_word(flow.client, flow.client_port, flow.vip_port);
        hash::buckets(
            hash::flow4(tuple, flow.service, maps::seed()),
            maps::flow4_bucket_mask(),
        )
    }

    #[inline(always)]
    fn key(flow: &Flow) -> [u64; KEY_WORDS4] {
        [flow.key().to_word()]
    }

    #[inline(always)]
    fn service([word]: [u64; KEY_WORDS4]) -> u16 {
        FlowKey::from_word(word).service
    }
}

struct Six;

impl Table<KEY_WORDS6, RECORDS_PER_BUCKET6> for Six {
    #[inline(always)]
    fn bucket(index: u32) -> Option<*mut Bucket<KEY_WORDS6, RECORDS_PER_BUCKET6>> {
        maps::flows6(index)
    }

    #[inline(always)]
    fn candidates(flow: &Flow) -> [u32; 2] {
        let hash = hash::flow6(flow.client, flow.client_port, flow.vip_port, flow.service, maps::seed());
        hash::buckets(hash, maps::flow6_bucket_mask())
    }

    #[inline(always)]
    fn key(flow: &Flow) -> [u64; KEY_WORDS6] {
        flow.key().to_words()
    }

    #[inline(always)]
    fn service(words: [u64; KEY_WORDS6]) -> u16 {
        FlowKey::from_words(words).service
    }
}

/// A record that may be taken for a flow.
#[derive(Clone, Copy, Default)]
struct Candidate {
    score: u32,
    location: u32,
    before: u64,
}

impl Candidate {
    /// The better of two, without a branch: the verifier would follow both paths at every record.
    #[inline(always)]
    fn or(self, other: Self) -> Self {
        let mask = ((i64::from(self.score) - i64::from(other.score)) >> 63) as u64;
        Self {
            score: self.score ^ ((self.score ^ other.score) & mask as u32),
            location: self.location ^ ((self.location ^ other.location) & mask as u32),
            before: self.before ^ ((self.before ^ other.before) & mask),
        }
    }
}

/// The [`replacement_preference`] for a record in a bucket; the `difference` of the keys is 0 if it is the flow's own record.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_flow_preference(before: u64, difference: u64, flow: *const Flow, bucket: u32) -> u32 {
    // SAFETY: null or a flow of the caller's.
    let Some(flow) = (unsafe { flow.as_ref() }) else {
        return 0;
    };
    let Some(service) = ServiceRef::by_number(flow.service) else {
        return 0;
    };
    let old = FlowEntry::from_word(before);
    let same_flow = difference == 0 && old.vip_port == flow.vip_port;
    let occupied = if flow.client.is_ipv4() {
        Four::occupied(bucket)
    } else {
        Six::occupied(bucket)
    };
    record_replacement_priority(old, same_flow, occupied, flow.current_tick, &service.timeouts())
}

/// Zero if a record has a key.
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
    unsafe { &raw mut (*record).entry_word }
}

/// Replaces the entry word if it is still `old`.
#[inline(always)]
fn exchange<const K: usize>(record: *mut Record<K>, old: u64, new: u64) -> bool {
    atomic::compare_exchange(entry_word(record), old, new) == old
}
