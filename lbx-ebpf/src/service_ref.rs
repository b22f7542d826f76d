//! A reference to an entry of the service table. Fields are read when they are needed, one word at a time.

use lbx_common::{
    service::{Service, TimeoutTicks, WORDS},
    slot::NO_BACKEND,
};

use crate::{atomic, maps};

/// The service that a packet matched.
pub struct ServiceRef {
    /// Its number.
    pub number: u16,
    /// Its flags.
    pub flags: u32,
    /// The backend that the first fragment of the packet was sent to; [`NO_BACKEND`].
    pub fragment_backend: u16,
    entry: *const Service,
}

impl ServiceRef {
    /// The service of a number.
    #[inline(always)]
    pub fn by_number(number: u16) -> Option<Self> {
        let mut service = Self {
            number,
            flags: 0,
            fragment_backend: NO_BACKEND,
            entry: maps::service(number)?,
        };
        service.flags = service.range(0).0;
        Some(service)
    }

    /// The same service, for a packet whose first fragment was sent to a backend.
    #[inline(always)]
    pub fn with_fragment_backend(self, backend: u16) -> Self {
        Self {
            fragment_backend: backend,
            ..self
        }
    }

    /// First slot and number of slots.
    #[inline(always)]
    pub fn slot_range(&self) -> (u32, u32) {
        self.range(1)
    }

    /// First ring entry and number of ring entries.
    #[inline(always)]
    pub fn scheduler_ring_range(&self) -> (u32, u32) {
        self.range(2)
    }

    /// First backend and capacity for backends.
    #[inline(always)]
    pub fn backend_range(&self) -> (u32, u32) {
        self.range(3)
    }

    /// Scheduler, leading bits of persistence, sorry server's index.
    #[inline(always)]
    pub fn scheduling_fields(&self) -> (u8, u8, u16) {
        let [_, _, _, _, scheduler, prefix, a, b] = self.word(0).to_ne_bytes();
        (scheduler, prefix, u16::from_ne_bytes([a, b]))
    }

    /// Idle timeouts.
    #[inline(always)]
    pub fn timeouts(&self) -> TimeoutTicks {
        let mut words = [0; WORDS];
        words[4] = self.word(4);
        words[5] = self.word(5);
        Service::from_words(words).timeouts
    }

    #[inline(always)]
    fn range(&self, word: usize) -> (u32, u32) {
        let [a, b, c, d, e, f, g, h] = self.word(word).to_ne_bytes();
        (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]))
    }

    #[inline(always)]
    fn word(&self, index: usize) -> u64 {
        // SAFETY: index < WORDS at every call, and a service is that many words.
        atomic::load(unsafe { self.entry.cast::<u64>().add(index) })
    }
}
