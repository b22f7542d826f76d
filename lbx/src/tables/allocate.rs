//! Places in the flat tables: ranges and single numbers, lowest first.

use std::collections::{BTreeMap, BTreeSet};

/// A run of places in a flat table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// First place.
    pub base: u32,
    /// Number of places.
    pub len: u32,
}

/// A table has no room left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the table of {table} is full: it has {capacity} places and {wanted} more in a row are needed")]
pub struct Full {
    /// What the table holds.
    pub table: &'static str,
    /// All its places.
    pub capacity: u32,
    /// What was asked for.
    pub wanted: u32,
}

/// First-fit allocation of ranges.
#[derive(Clone, Debug)]
pub struct Ranges {
    table: &'static str,
    capacity: u32,
    /// Base to length of what is taken; never overlapping.
    taken: BTreeMap<u32, u32>,
}

impl Ranges {
    /// An empty table.
    #[must_use]
    pub const fn new(table: &'static str, capacity: u32) -> Self {
        Self {
            table,
            capacity,
            taken: BTreeMap::new(),
        }
    }

    /// Takes a range.
    ///
    /// # Errors
    /// No gap is long enough.
    pub fn take(&mut self, len: u32) -> Result<Range, Full> {
        if len == 0 {
            return Ok(Range::default());
        }
        let mut base = 0;
        for (&start, &length) in &self.taken {
            if start - base >= len {
                break;
            }
            base = start + length;
        }
        if self.capacity - base < len {
            return Err(Full {
                table: self.table,
                capacity: self.capacity,
                wanted: len,
            });
        }
        self.taken.insert(base, len);
        Ok(Range { base, len })
    }

    /// Marks a range as taken; false if that contradicts what is taken already.
    pub fn reserve(&mut self, range: Range) -> bool {
        let end = range.base.saturating_add(range.len);
        let before = self.taken.range(..end).next_back();
        let free = before.is_none_or(|(start, length)| start + length <= range.base);
        if range.len == 0 {
            return true;
        }
        if !free || end > self.capacity {
            return false;
        }
        self.taken.insert(range.base, range.len);
        true
    }

    /// Gives a range back.
    pub fn free(&mut self, range: Range) {
        if range.len > 0 {
            self.taken.remove(&range.base);
        }
    }
}

/// Single numbers, lowest first.
#[derive(Clone, Debug)]
pub struct Numbers {
    table: &'static str,
    capacity: u32,
    taken: BTreeSet<u32>,
    /// No number below it is free.
    lowest: u32,
}

impl Numbers {
    /// An empty table.
    #[must_use]
    pub const fn new(table: &'static str, capacity: u32) -> Self {
        Self {
            table,
            capacity,
            taken: BTreeSet::new(),
            lowest: 0,
        }
    }

    /// Takes the lowest free number.
    ///
    /// # Errors
    /// All are taken.
    pub fn take(&mut self) -> Result<u32, Full> {
        let number = (self.lowest..self.capacity)
            .find(|number| !self.taken.contains(number))
            .ok_or(Full {
                table: self.table,
                capacity: self.capacity,
                wanted: 1,
            })?;
        self.taken.insert(number);
        self.lowest = number + 1;
        Ok(number)
    }

    /// Marks a number as taken (again).
    pub fn reserve(&mut self, number: u32) -> bool {
        self.taken.insert(number);
        number < self.capacity
    }

    /// Gives a number back.
    pub fn free(&mut self, number: u32) {
        self.taken.remove(&number);
        self.lowest = self.lowest.min(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_fill_gaps_and_never_overlap() {
        let mut ranges = Ranges::new("slots", 100);
        let a = ranges.take(40).unwrap();
        let b = ranges.take(40).unwrap();
        assert_eq!((a.base, b.base), (0, 40));
        assert!(ranges.take(21).is_err());
        ranges.free(a);
        assert_eq!(ranges.take(30).unwrap().base, 0);
        assert_eq!(ranges.take(20).unwrap().base, 80);
        assert_eq!(ranges.take(10).unwrap().base, 30);
        assert!(ranges.take(1).is_err());
        assert_eq!(ranges.take(0).unwrap(), Range::default());
    }

    #[test]
    fn reserving_finds_contradictions() {
        let mut ranges = Ranges::new("slots", 100);
        assert!(ranges.reserve(Range { base: 10, len: 10 }));
        assert!(!ranges.reserve(Range { base: 19, len: 1 }));
        assert!(!ranges.reserve(Range { base: 5, len: 6 }));
        assert!(ranges.reserve(Range { base: 20, len: 80 }));
        assert!(!ranges.reserve(Range { base: 95, len: 10 }));
        assert_eq!(ranges.take(10).unwrap().base, 0);
    }

    #[test]
    fn the_lowest_number_is_taken() {
        let mut numbers = Numbers::new("services", 3);
        assert_eq!([numbers.take(), numbers.take(), numbers.take()], [Ok(0), Ok(1), Ok(2)]);
        assert!(numbers.take().is_err());
        numbers.free(1);
        assert_eq!(numbers.take(), Ok(1));
    }
}
