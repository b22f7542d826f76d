//! Entries of a service's ring: those who get new connections, in the order a scheduler walks them.

/// An entry of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Backend's index within the service.
    pub index: u16,
    /// Its weight.
    pub weight: u16,
}

impl Turn {
    /// The entry in the map: index in bits 0–15, weight in 16–31.
    #[must_use]
    pub const fn to_word(self) -> u32 {
        self.index as u32 | (self.weight as u32) << 16
    }

    /// The turn of an entry.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u32) -> Self {
        Self {
            index: word as u16,
            weight: (word >> 16) as u16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_word() {
        let turn = Turn {
            index: 0xabcd,
            weight: 0x1234,
        };
        assert_eq!(turn.to_word(), 0x1234_abcd);
        assert_eq!(Turn::from_word(turn.to_word()), turn);
    }
}
