//! Local ports for probes: outside the kernel's ephemeral port range, as long as there are enough.

use std::{fs, ops::RangeInclusive};

/// The kernel's ephemeral port range (ip-sysctl.rst).
const KERNEL: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// The fewest ports a range outside the kernel's must have to be used.
const ENOUGH: u16 = 1024;
/// The most ports used below the kernel's range: low ports belong to services.
const BELOW: u16 = 16_384;
/// A range is taken for full after so many ports in a row that cannot be bound: ports are released in the order of use.
const TRIES: usize = 16;

/// The ports of probes, used in rotation.
pub struct ProbePorts {
    /// In the order of preference.
    ranges: Vec<Turns>,
}

/// A range of ports, and the next to try.
struct Turns {
    first: u16,
    len: usize,
    next: usize,
}

impl ProbePorts {
    /// The ports for probes on this host.
    pub fn for_this_host() -> Self {
        Self::of(&ranges(&fs::read_to_string(KERNEL).unwrap_or_default()))
    }

    fn of(ranges: &[RangeInclusive<u16>]) -> Self {
        let turns = |range: &RangeInclusive<u16>| Turns {
            first: *range.start(),
            len: range.len(),
            next: 0,
        };
        Self {
            ranges: ranges.iter().map(turns).collect(),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.ranges.iter().map(|range| range.len).sum()
    }

    /// The next port for which `take` returns true; none if there is none.
    ///
    /// # Errors
    /// The first error of `take`.
    pub fn next_free<E>(&mut self, mut take: impl FnMut(u16) -> Result<bool, E>) -> Result<Option<u16>, E> {
        // All ports are tried only if every range seems full.
        for tries in [TRIES, usize::MAX] {
            for range in &mut self.ranges {
                if let Some(port) = range.next(tries, &mut take)? {
                    return Ok(Some(port));
                }
            }
        }
        Ok(None)
    }
}

impl Turns {
    fn next<E>(&mut self, tries: usize, take: &mut impl FnMut(u16) -> Result<bool, E>) -> Result<Option<u16>, E> {
        for _ in 0..tries.min(self.len) {
            let port = self.first + self.next as u16;
            self.next = (self.next + 1) % self.len;
            if take(port)? {
                return Ok(Some(port));
            }
        }
        Ok(None)
    }
}

fn ranges(kernel: &str) -> Vec<RangeInclusive<u16>> {
    let mut bounds = kernel.split_whitespace().filter_map(|bound| bound.parse::<u16>().ok());
    // The kernel's own default.
    let (low, high) = (bounds.next().unwrap_or(32_768), bounds.next().unwrap_or(60_999));
    let mut ranges = Vec::new();
    if u16::MAX - high >= ENOUGH {
        ranges.push(high + 1..=u16::MAX);
    }
    let below = low.saturating_sub(BELOW).max(ENOUGH);
    if low > below && low - below >= ENOUGH {
        ranges.push(below..=low - 1);
    }
    if ranges.is_empty() {
        ranges.push(61_000..=u16::MAX);
    }
    ranges
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, convert::Infallible};

    use super::*;

    #[test]
    fn ports_are_outside_the_ephemeral_range() {
        assert_eq!(ranges("32768\t60999\n"), [61_000..=65_535, 16_384..=32_767]);
        assert_eq!(ranges("1024 65535"), [61_000..=65_535]);
        assert_eq!(ranges("20000 65000"), [3_616..=19_999]);
        assert_eq!(ranges("2000 50000"), [50_001..=65_535]);
        assert_eq!(ranges(""), [61_000..=65_535, 16_384..=32_767]);
    }

    /// The next free port, and how many were tried.
    fn next(ports: &mut ProbePorts, taken: &mut HashSet<u16>) -> (Option<u16>, usize) {
        let mut tried = 0;
        let next = ports.next_free(|port| {
            tried += 1;
            Ok::<_, Infallible>(taken.insert(port))
        });
        let Ok(port) = next;
        (port, tried)
    }

    #[test]
    fn every_port_is_used_once_the_first_range_before_the_others() {
        let mut ports = ProbePorts::of(&[60_000..=60_999, 1_000..=4_999]);
        assert_eq!(ports.count(), 5_000);
        let mut taken = HashSet::new();
        let mut all = 0;
        for number in 0..5_000 {
            let (port, tried) = next(&mut ports, &mut taken);
            assert_eq!(port.is_some_and(|port| port >= 60_000), number < 1_000);
            all += tried;
        }
        // A full range is not searched for every port.
        assert!(all <= 5_000 + 4_000 * TRIES, "{all}");
        assert_eq!(next(&mut ports, &mut taken).0, None);
    }

    #[test]
    fn a_released_port_is_found_in_any_range() {
        let mut ports = ProbePorts::of(&[60_000..=60_999, 1_000..=4_999]);
        let mut taken: HashSet<u16> = (60_000..=60_999).chain(1_000..=4_999).collect();
        for port in [60_500, 4_999, 1_000, 60_999] {
            taken.remove(&port);
            assert_eq!(next(&mut ports, &mut taken).0, Some(port));
        }
    }

    #[test]
    fn ports_are_used_in_rotation() {
        let mut ports = ProbePorts::of(std::slice::from_ref(&(61_000..=61_009)));
        let mut given = Vec::new();
        for _ in 0..12 {
            // Each is released at once.
            given.extend(next(&mut ports, &mut HashSet::new()).0);
        }
        let expected: Vec<u16> = (61_000..=61_009).chain(61_000..=61_001).collect();
        assert_eq!(given, expected);
    }

    #[test]
    fn an_error_ends_the_search() {
        let mut tried = 0;
        let failed = ProbePorts::of(std::slice::from_ref(&(1..=9))).next_free(|_| {
            tried += 1;
            Err(())
        });
        assert_eq!((failed, tried), (Err(()), 1));
    }
}
