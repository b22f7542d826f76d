//! Local ports that probes may take: none that the kernel gives to others by itself, as long as there are enough.

use std::{fs, ops::RangeInclusive};

/// Where the kernel says which ports it gives to sockets that ask for none (ip-sysctl.rst).
const KERNEL: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Ports that are worth keeping to.
const ENOUGH: u16 = 1024;
/// Ports below the kernel's that are taken at most: where services listen there are few left.
const BELOW: u16 = 16_384;

/// Ranges of ports, those that are taken first at the front.
pub fn for_probes() -> Vec<RangeInclusive<u16>> {
    ranges(&fs::read_to_string(KERNEL).unwrap_or_default())
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
    use super::*;

    #[test]
    fn ports_are_not_those_the_kernel_gives_away() {
        assert_eq!(ranges("32768\t60999\n"), [61_000..=65_535, 16_384..=32_767]);
        assert_eq!(ranges("1024 65535"), [61_000..=65_535]);
        assert_eq!(ranges("20000 65000"), [3_616..=19_999]);
        assert_eq!(ranges("2000 50000"), [50_001..=65_535]);
        assert_eq!(ranges(""), [61_000..=65_535, 16_384..=32_767]);
    }
}
