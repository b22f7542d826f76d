//! The mirror of the lookup tables: VIPs and ports in their buckets (see [`lbx_common::lookup`]).

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use lbx_common::{
    address::Address,
    hash,
    lookup::{PORTS_PER_BUCKET, PRESENT, PortEntry, VIPS_PER_BUCKET, VipEntry, split_port_key, strip_flags},
    maps,
};

use super::allocate::TableFull;

/// An address as the maps hold it.
#[must_use]
pub fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(ip) => Address::from_ipv4(ip.octets()),
        IpAddr::V6(ip) => Address::from_octets(ip.octets()),
    }
}

/// An address of the maps as an `IpAddr`.
#[must_use]
pub fn ip(address: Address) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(address.octets())).to_canonical()
}

/// Where an entry is in its table, and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupEntry {
    /// Bucket times ways, plus way.
    pub index: u32,
    /// As in the map.
    pub value: u64,
}

/// The VIPs and ports that packets are matched against.
#[derive(Clone, Debug)]
pub struct LookupTables {
    seed: u64,
    /// By address.
    pub vips: BTreeMap<IpAddr, LookupEntry>,
    /// By [`port_key`](lbx_common::lookup::port_key).
    pub ports_by_key: BTreeMap<u64, LookupEntry>,
    vip_buckets: Buckets,
    port_buckets: Buckets,
}

impl LookupTables {
    /// Empty tables with a capacity of so many ports (a power of two), hashed with a seed.
    #[must_use]
    pub fn new(seed: u64, ports: u32) -> Self {
        Self {
            seed,
            vips: BTreeMap::new(),
            ports_by_key: BTreeMap::new(),
            vip_buckets: Buckets::new("VIPs", maps::VIP_BUCKETS, VIPS_PER_BUCKET as u32),
            port_buckets: Buckets::new("ports", ports, PORTS_PER_BUCKET as u32),
        }
    }

    /// The VIP of a number.
    #[must_use]
    pub fn vip_by_number(&self, vip: u16) -> Option<IpAddr> {
        let (&address, _) = self.vips.iter().find(|(_, entry)| strip_flags(entry.value) == vip)?;
        Some(address)
    }

    /// Sets the value of a VIP, allocating an index if it is new; returns the entry to be written, if it differs.
    ///
    /// # Errors
    /// Both of its buckets are full.
    pub fn set_vip(&mut self, vip: IpAddr, value: u64) -> Result<Option<(u32, VipEntry)>, TableFull> {
        let value = value | PRESENT;
        let address = address(vip);
        if self.vips.get(&vip).is_some_and(|entry| entry.value == value) {
            return Ok(None);
        }
        let index = match self.vips.get(&vip) {
            Some(entry) => entry.index,
            None => self.vip_buckets.take(hash::vip(address, self.seed))?,
        };
        self.vips.insert(vip, LookupEntry { index, value });
        let entry = VipEntry {
            vip_number_and_flags: value,
            address,
            pad: 0,
        };
        Ok(Some((index, entry)))
    }

    /// Sets the value of a port, allocating an index if it is new; returns the entry to be written, if it differs.
    ///
    /// # Errors
    /// Both of its buckets are full.
    pub fn insert_port(&mut self, key: u64, value: u64) -> Result<Option<(u32, PortEntry)>, TableFull> {
        let value = value | PRESENT;
        if self.ports_by_key.get(&key).is_some_and(|entry| entry.value == value) {
            return Ok(None);
        }
        let index = match self.ports_by_key.get(&key) {
            Some(entry) => entry.index,
            None => self.port_buckets.take(hash::port(key, self.seed))?,
        };
        self.ports_by_key.insert(key, LookupEntry { index, value });
        Ok(Some((
            index,
            PortEntry {
                service_number_and_flags: value,
                key,
            },
        )))
    }

    /// Takes over a VIP found in the map; false if its index is in use.
    pub fn restore_vip(&mut self, index: u32, entry: VipEntry) -> bool {
        let value = entry.vip_number_and_flags;
        self.vip_buckets.reserve(index)
            && self
                .vips
                .insert(ip(entry.address), LookupEntry { index, value })
                .is_none()
    }

    /// Takes over a port found in the map; false if its index is in use.
    pub fn restore_port(
        &mut self,
        index: u32,
        PortEntry {
            service_number_and_flags: value,
            key,
        }: PortEntry,
    ) -> bool {
        self.port_buckets.reserve(index) && self.ports_by_key.insert(key, LookupEntry { index, value }).is_none()
    }

    /// Frees the index of a VIP that no packet reads any more.
    pub fn free_vip(&mut self, index: u32) {
        self.vip_buckets.free(index);
    }

    /// Frees the index of a port that no packet reads any more.
    pub fn free_port(&mut self, index: u32) {
        self.port_buckets.free(index);
    }

    /// The VIP, protocol number and port (host byte order) of a port's key; none for a VIP that is not there.
    #[must_use]
    pub fn resolve_port_key(&self, key: u64) -> Option<(IpAddr, u8, u16)> {
        let (vip, protocol, port) = split_port_key(key);
        Some((self.vip_by_number(vip)?, protocol, port))
    }
}

/// Which entries of a bucketed table are in use.
#[derive(Clone, Debug)]
struct Buckets {
    table: &'static str,
    buckets: u32,
    ways: u32,
    /// A bit per way, for every bucket that is not empty.
    taken: BTreeMap<u32, u8>,
}

impl Buckets {
    const fn new(table: &'static str, buckets: u32, ways: u32) -> Self {
        Self {
            table,
            buckets,
            ways,
            taken: BTreeMap::new(),
        }
    }

    /// Allocates an entry in the emptier of the two buckets of a hash.
    fn take(&mut self, hash: u64) -> Result<u32, TableFull> {
        let [first, second] = hash::buckets(hash, self.buckets - 1);
        let count = |bucket| self.taken.get(&bucket).map_or(0, |bits: &u8| bits.count_ones());
        let bucket = if count(second) < count(first) { second } else { first };
        let bits = self.taken.entry(bucket).or_default();
        let way = bits.trailing_ones();
        if way >= self.ways {
            return Err(TableFull {
                table: self.table,
                capacity: self.buckets * self.ways,
                wanted: 1,
            });
        }
        *bits |= 1 << way;
        Ok(bucket * self.ways + way)
    }

    fn reserve(&mut self, index: u32) -> bool {
        let bits = self.taken.entry(index / self.ways).or_default();
        let bit = 1 << (index % self.ways);
        let free = *bits & bit == 0;
        *bits |= bit;
        free && index / self.ways < self.buckets
    }

    fn free(&mut self, index: u32) {
        let bucket = index / self.ways;
        if let Some(bits) = self.taken.get_mut(&bucket) {
            *bits &= !(1 << (index % self.ways));
            if *bits == 0 {
                self.taken.remove(&bucket);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lbx_common::lookup::port_key;

    use super::*;

    #[test]
    fn entries_are_in_the_buckets_the_program_searches() {
        let mut lookup = LookupTables::new(7, 1 << 10);
        for port in 0..1_024u16 {
            let key = port_key(3, 6, port.to_be_bytes());
            let (index, entry) = lookup.insert_port(key, 5).unwrap().unwrap();
            let bucket = index / PORTS_PER_BUCKET as u32;
            assert!(hash::buckets(hash::port(key, 7), (1 << 10) - 1).contains(&bucket));
            assert_eq!((entry.key, strip_flags(entry.service_number_and_flags)), (key, 5));
            assert_eq!(lookup.insert_port(key, 5).unwrap(), None);
        }
    }

    #[test]
    fn the_configured_number_of_ports_fits() {
        let mut lookup = LookupTables::new(1, 1 << 16);
        for port in 0..=u16::MAX {
            lookup.insert_port(port_key(0, 6, port.to_be_bytes()), 0).unwrap();
        }
    }

    #[test]
    fn a_freed_entry_is_reused() {
        let mut lookup = LookupTables::new(1, 1);
        let indices: Vec<u32> = (0..4)
            .map(|vip| lookup.insert_port(port_key(vip, 6, [0, 80]), 0).unwrap().unwrap().0)
            .collect();
        assert_eq!(indices, [0, 1, 2, 3]);
        assert!(lookup.insert_port(port_key(4, 6, [0, 80]), 0).is_err());
        lookup.free_port(2);
        assert_eq!(lookup.insert_port(port_key(4, 6, [0, 80]), 0).unwrap().unwrap().0, 2);
        assert!(!lookup.restore_port(
            2,
            PortEntry {
                service_number_and_flags: PRESENT,
                key: 1
            }
        ));
    }
}
