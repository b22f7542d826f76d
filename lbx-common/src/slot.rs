//! A slot of a service's consistent-hash table: one aligned word, read and written whole.

/// No backend.
pub const NO_BACKEND: u16 = u16::MAX;

/// The backends of the flows that hash to this slot, by their index within the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The backend by the current hash table: it gets new connections of hashed services.
    pub current: u16,
    /// The backend of this slot's connections without a record.
    pub owner: u16,
    /// Some flow of this slot may have a record.
    pub has_records: bool,
}

impl Slot {
    /// A slot without a window: the current backend is the owner.
    #[must_use]
    pub const fn without_window(backend: u16) -> Self {
        Self {
            current: backend,
            owner: backend,
            has_records: false,
        }
    }

    /// The word in the map: current in bits 0–15, owner in 16–31, has_records in 32.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        self.current as u64 | (self.owner as u64) << 16 | (self.has_records as u64) << 32
    }

    /// The slot of a word.
    #[must_use]
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self {
            current: word as u16,
            owner: (word >> 16) as u16,
            has_records: (word >> 32) & 1 == 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for slot in [
            Slot::without_window(0),
            Slot::without_window(NO_BACKEND),
            Slot {
                current: 7,
                owner: 65_534,
                has_records: true,
            },
        ] {
            assert_eq!(Slot::from_word(slot.to_word()), slot);
        }
    }
}
