//! The ports of a service.

use std::{fmt, ops::RangeInclusive};

/// The ports of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortSet {
    /// Every port of the VIP that no other service of the protocol uses.
    All,
    /// These: sorted, none in two ranges, no range empty, none touching the next; 0 in none.
    Ranges(Vec<RangeInclusive<u16>>),
}

impl PortSet {
    /// One port.
    #[must_use]
    pub fn one(port: u16) -> Self {
        Self::Ranges(vec![port..=port])
    }

    /// The ports that an iterator gives; all, if 0 is among them.
    #[must_use]
    pub fn from_ports(ports: impl IntoIterator<Item = u16>) -> Self {
        let mut ports: Vec<u16> = ports.into_iter().collect();
        ports.sort_unstable();
        ports.dedup();
        if ports.first() == Some(&0) {
            return Self::All;
        }
        let ranges = ports.chunk_by(|a, b| a.checked_add(1) == Some(*b));
        Self::Ranges(ranges.map(|run| run[0]..=run[run.len() - 1]).collect())
    }

    /// Each port; 0 stands for all.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        let ranges = match self {
            Self::All => &[0..=0],
            Self::Ranges(ranges) => ranges.as_slice(),
        };
        ranges.iter().cloned().flatten()
    }

    /// Whether they have a port in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, Self::All) => true,
            (Self::Ranges(ours), Self::Ranges(theirs)) => ours.iter().any(|our| {
                theirs
                    .iter()
                    .any(|their| our.start() <= their.end() && their.start() <= our.end())
            }),
            _ => false,
        }
    }

    /// How many there are, all of them counting as one.
    #[must_use]
    pub fn table_entry_count(&self) -> u32 {
        match self {
            Self::All => 1,
            Self::Ranges(ranges) => ranges
                .iter()
                .map(|range| u32::from(*range.end()) - u32::from(*range.start()) + 1)
                .sum(),
        }
    }
}

impl fmt::Display for PortSet {
    /// As the configuration has them, with commas: `80,443,8000-8099` or `all`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Ranges(ranges) = self else {
            return f.write_str("all");
        };
        for (index, range) in ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}
