//! Kernel memory used by the maps: as the kernel counts it (array_map_mem_usage in kernel/bpf/arraymap.c,
//! htab_map_mem_usage in kernel/bpf/hashtab.c, Linux 6.6), but for headers and what is rounded up to pages.

use std::thread::available_parallelism;

use aya::maps::MapType;
use lbx_common::{
    flow::{RECORDS_PER_BUCKET4, RECORDS_PER_BUCKET6},
    maps::{FLOWS4, FLOWS6},
};

use super::maps::{MapSpec, SHAPES};
use crate::desired::TableSizes;

/// Bytes of a hash bucket's head (struct bucket).
const HASH_BUCKET: u64 = 16;
/// Bytes of an element of a hash, besides key and value (struct htab_elem).
const HASH_ELEMENT: u64 = 48;
/// Bytes of a pointer to the values of all CPUs.
const POINTER: u64 = 8;

/// The memory of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapMemory {
    /// Its name.
    pub map: &'static str,
    /// Its capacity.
    pub capacity: u64,
    /// Bytes from the start on. A hash that grows with what it holds takes more then.
    pub bytes: u64,
}

/// The memory of all maps, on a host of so many CPUs.
#[must_use]
pub fn map_memory(sizes: &TableSizes, cpus: u64) -> Vec<MapMemory> {
    SHAPES.iter().map(|shape| usage_of(shape, sizes, cpus)).collect()
}

fn usage_of(shape: &MapSpec, sizes: &TableSizes, cpus: u64) -> MapMemory {
    let entries = u64::from(shape.max_entries(sizes));
    let [key, value] = [shape.key_size, shape.value_size].map(|size| size.next_multiple_of(8) as u64);
    let heads = HASH_BUCKET * entries.next_power_of_two();
    let per_bucket = match shape.name {
        FLOWS4 => RECORDS_PER_BUCKET4,
        FLOWS6 => RECORDS_PER_BUCKET6,
        _ => 1,
    };
    MapMemory {
        map: shape.name,
        capacity: entries * per_bucket as u64,
        bytes: match shape.kind {
            MapType::PerCpuArray => entries * (value * cpus + POINTER),
            MapType::LruHash => heads + entries * (HASH_ELEMENT + key + value),
            MapType::Hash | MapType::DevMapHash => heads,
            _ => entries * value,
        },
    }
}

/// How many CPUs the kernel keeps counters for: those that are possible here.
#[must_use]
pub fn cpus() -> u64 {
    let present = || available_parallelism().map_or(1, usize::from);
    aya::util::nr_cpus().unwrap_or_else(|_| present()) as u64
}

#[cfg(test)]
mod tests {
    use lbx_common::maps::{self, PINNED_MAPS};

    use super::*;

    fn bytes(usage: &[MapMemory], map: &str) -> u64 {
        usage.iter().find(|usage| usage.map == map).unwrap().bytes
    }

    #[test]
    fn every_map_by_its_kind() {
        let usage = map_memory(&TableSizes::default(), 2);
        assert!(usage.iter().map(|usage| usage.map).eq(PINNED_MAPS));
        for (map, expected) in [
            (maps::FLOWS4, 16 << 20),
            (maps::FLOWS6, 8 << 20),
            (maps::SLOTS, 64 << 20),
            (maps::PORTS, 8 << 20),
            (maps::VIPS, 2 << 20),
            (maps::SERVICES, 1 << 20),
            (maps::BACKENDS, 16 << 20),
            (maps::BACKEND_LOADS, 1 << 20),
            (maps::RINGS, 2 << 20),
            (maps::FRAGMENTS, 8192 * (16 + 48 + 40 + 8)),
            (maps::BACKEND_STATS, 65_536 * (2 * 32 + 8)),
            (maps::RING_CURSORS, 128 << 10),
        ] {
            assert_eq!(bytes(&usage, map), expected, "{map}");
        }
    }

    #[test]
    fn what_is_configured_counts() {
        let sizes = TableSizes {
            flows4: 1 << 12,
            flows6: 1 << 11,
            slots: 5000,
            ports: 1 << 10,
            fragments: 3000,
        };
        let usage = map_memory(&sizes, 1);
        for (map, entries, expected) in [
            (maps::FLOWS4, 4096, 64 << 10),
            (maps::FLOWS6, 2048, 64 << 10),
            (maps::SLOTS, 5000, 40_000),
            (maps::PORTS, 1024, 64 << 10),
            (maps::FRAGMENTS, 3000, 4096 * 16 + 3000 * 96),
        ] {
            let found = usage.iter().find(|usage| usage.map == map).unwrap();
            assert_eq!((found.capacity, found.bytes), (entries, expected), "{map}");
        }
    }

    #[test]
    fn cpus_are_counted() {
        assert!(cpus() >= 1);
    }
}
