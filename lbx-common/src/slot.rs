//! A slot of a service's consistent-hash table: one aligned word, read and written whole.

/// No backend.
pub const NONE: u16 = u16::MAX;

/// Who gets the flows that hash here. Backends are named by their index within the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// What the hash says now: where new connections of hashed services go.
    pub current: u16,
    /// Who has the connections of this slot that have no record.
    pub owner: u16,
    /// Some flow of this slot may have a record.
    pub tracked: bool,
}

impl Slot {
    /// A slot at rest.
    #[must_use]
    pub const fn resting(backend: u16) -> Self {
        Self {
            current: backend,
            owner: backend,
            tracked: false,
        }
    }

    /// The word in the map: current in bits 0–15, owner in 16–31, tracked in 32.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        self.current as u64 | (self.owner as u64) << 16 | (self.tracked as u64) << 32
    }

    /// The slot of a word.
    #[must_use]
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self {
            current: word as u16,
            owner: (word >> 16) as u16,
            tracked: (word >> 32) & 1 == 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for slot in [
            Slot::resting(0),
            Slot::resting(NONE),
            Slot {
                current: 7,
                owner: 65_534,
                tracked: true,
            },
        ] {
            assert_eq!(Slot::from_word(slot.to_word()), slot);
        }
    }
}
