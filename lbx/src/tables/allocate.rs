//! First-fit allocation of index ranges in the flat tables, lowest first.

use std::collections::BTreeMap;

/// A range of indices in a flat table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// First index.
    pub base: u32,
    /// Number of indices.
    pub len: u32,
}

impl Range {
    /// A single index.
    #[must_use]
    pub const fn one(base: u32) -> Self {
        Self { base, len: 1 }
    }
}

/// A table has no free range that is long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the table of {table} has no room for {wanted} more in one place, of {capacity} in all: remove services or real servers, or raise its size"
)]
pub struct TableFull {
    /// The kind of entries it holds.
    pub table: &'static str,
    /// Its capacity in entries.
    pub capacity: u32,
    /// Contiguous entries that were requested.
    pub wanted: u32,
}

/// First-fit allocation of ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeAllocator {
    table: &'static str,
    capacity: u32,
    /// Base to length of every gap; no two touch. There are few: first fit keeps allocations close together.
    gaps: BTreeMap<u32, u32>,
}

impl RangeAllocator {
    /// An empty table.
    #[must_use]
    pub fn new(table: &'static str, capacity: u32) -> Self {
        Self {
            table,
            capacity,
            gaps: BTreeMap::from([(0, capacity)]),
        }
    }

    /// Allocates a range.
    ///
    /// # Errors
    /// No gap is long enough.
    pub fn allocate(&mut self, len: u32) -> Result<Range, TableFull> {
        if len == 0 {
            return Ok(Range::default());
        }
        let full = TableFull {
            table: self.table,
            capacity: self.capacity,
            wanted: len,
        };
        let (&base, _) = self.gaps.iter().find(|&(_, &gap)| gap >= len).ok_or(full)?;
        let range = Range { base, len };
        self.reserve(range);
        Ok(range)
    }

    /// Allocates a single index.
    ///
    /// # Errors
    /// All are in use.
    pub fn allocate_one(&mut self) -> Result<u32, TableFull> {
        self.allocate(1).map(|range| range.base)
    }

    /// Reserves a given range; false if part of it is in use already.
    pub fn reserve(&mut self, range: Range) -> bool {
        if range.len == 0 {
            return true;
        }
        let Some(end) = range.base.checked_add(range.len) else {
            return false;
        };
        let gap = self.gaps.range(..=range.base).next_back();
        let Some((start, length)) = gap.map(|(&start, &length)| (start, length)) else {
            return false;
        };
        let gap_end = start + length;
        if end > gap_end {
            return false;
        }
        self.gaps.remove(&start);
        for (start, end) in [(start, range.base), (end, gap_end)] {
            if start < end {
                self.gaps.insert(start, end - start);
            }
        }
        true
    }

    /// Frees a range.
    pub fn free(&mut self, range: Range) {
        if range.len == 0 {
            return;
        }
        let mut gap = range;
        if let Some((&base, &len)) = self.gaps.range(..range.base).next_back()
            && base + len == range.base
        {
            self.gaps.remove(&base);
            gap = Range {
                base,
                len: len + range.len,
            };
        }
        if let Some(len) = self.gaps.remove(&(range.base + range.len)) {
            gap.len += len;
        }
        self.gaps.insert(gap.base, gap.len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_fill_gaps_and_never_overlap() {
        let mut ranges = RangeAllocator::new("slots", 100);
        let a = ranges.allocate(40).unwrap();
        let b = ranges.allocate(40).unwrap();
        assert_eq!((a.base, b.base), (0, 40));
        assert!(ranges.allocate(21).is_err());
        ranges.free(a);
        assert_eq!(ranges.allocate(30).unwrap().base, 0);
        assert_eq!(ranges.allocate(20).unwrap().base, 80);
        assert_eq!(ranges.allocate(10).unwrap().base, 30);
        assert!(ranges.allocate(1).is_err());
        assert_eq!(ranges.allocate(0).unwrap(), Range::default());
    }

    #[test]
    fn reserving_finds_contradictions() {
        let mut ranges = RangeAllocator::new("slots", 100);
        assert!(ranges.reserve(Range { base: 10, len: 10 }));
        assert!(!ranges.reserve(Range { base: 19, len: 1 }));
        assert!(!ranges.reserve(Range { base: 5, len: 6 }));
        assert!(ranges.reserve(Range { base: 20, len: 80 }));
        assert!(!ranges.reserve(Range { base: 95, len: 10 }));
        assert_eq!(ranges.allocate(10).unwrap().base, 0);
    }

    #[test]
    fn the_lowest_number_is_allocated() {
        let mut numbers = RangeAllocator::new("services", 3);
        let mut take = || numbers.allocate_one();
        assert_eq!([take(), take(), take()], [Ok(0), Ok(1), Ok(2)]);
        assert!(take().is_err());
        numbers.free(Range::one(1));
        assert_eq!(numbers.allocate_one(), Ok(1));
    }
}
