//! Entries of a service's ring: the candidates for new connections, in the order a scheduler walks them.

/// A candidate in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingEntry {
    /// Backend's index within the service.
    pub backend_index: u16,
    /// Its weight.
    pub weight: u16,
}

impl RingEntry {
    /// The word in the map: index in bits 0–15, weight in 16–31.
    #[must_use]
    pub const fn to_word(self) -> u32 {
        self.backend_index as u32 | (self.weight as u32) << 16
    }

    /// The entry of a word.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u32) -> Self {
        Self {
            backend_index: word as u16,
            weight: (word >> 16) as u16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_word() {
        let entry = RingEntry {
            backend_index: 0xabcd,
            weight: 0x1234,
        };
        assert_eq!(entry.to_word(), 0x1234_abcd);
        assert_eq!(RingEntry::from_word(entry.to_word()), entry);
    }
}
