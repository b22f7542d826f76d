//! The reference program with its tables filled; the BPF side is bench/ebpf/src/reference.rs.

use std::path::Path;

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, PerCpuArray},
    programs::ProgramFd,
};
use lbx_bench_common::reference::{self as names, Backend, Service, ServiceKey4, ServiceKey6, Traffic};

use crate::{
    packet_generator,
    tables::{TableContents, server_mac},
    traffic::{DIRECTOR_MAC, IpVersion, vip4, vip6},
};

/// Minimum capacity of the table of flows.
const MIN_FLOWS: u32 = 4_096;

/// The reference program.
pub struct ReferenceProgram {
    ebpf: Ebpf,
    program: ProgramFd,
    services: u32,
}

impl ReferenceProgram {
    /// Loads it and adds services and backends.
    ///
    /// # Errors
    /// The kernel refuses something.
    pub fn load(object: &Path, tables: &TableContents) -> Result<Self> {
        let (used, unused) = match tables.ip_version {
            IpVersion::V4 => (names::FLOWS4, names::FLOWS6),
            IpVersion::V6 => (names::FLOWS6, names::FLOWS4),
        };
        let mut ebpf = EbpfLoader::new()
            // Half load.
            .map_max_entries(used, (tables.flows * 2).max(MIN_FLOWS))
            .map_max_entries(unused, 1)
            .load_file(object)
            .with_context(|| format!("cannot load {}", object.display()))?;
        let program = packet_generator::load(&mut ebpf, names::PROGRAM)?;
        let mut reference = Self {
            ebpf,
            program,
            services: tables.services,
        };
        for service in 0..tables.services {
            reference.add(service, tables)?;
        }
        Ok(reference)
    }

    fn add(&mut self, number: u32, tables: &TableContents) -> Result<()> {
        let (servers, ring_len) = (tables.servers_per_service(), tables.slots_per_service());
        let (first, ring_base) = (number * servers, number * ring_len);
        let mut backends = Array::<_, Backend>::try_from(self.ebpf.map_mut(names::BACKENDS).context("no backends")?)?;
        for server in 0..servers {
            let [a, b, c, d, e, f] = server_mac(server);
            let [g, h, i, j, k, l] = DIRECTOR_MAC;
            let backend = Backend {
                head: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
                tail: u32::from_le_bytes([i, j, k, l]),
                pad: 0,
            };
            backends.set(first + server, backend, 0)?;
        }
        let mut rings = Array::<_, u32>::try_from(self.ebpf.map_mut(names::RINGS).context("no rings")?)?;
        for position in 0..ring_len {
            rings.set(ring_base + position, first + position % servers, 0)?;
        }
        let service = Service {
            number,
            ring_base,
            ring_len,
        };
        let protocol = tables.protocol.number();
        match tables.ip_version {
            IpVersion::V4 => {
                let (vip, port) = vip4(number);
                let key = ServiceKey4 {
                    vip: u32::from_le_bytes(vip.octets()),
                    port_key: names::port_key(port.to_be(), protocol),
                };
                let services = self.ebpf.map_mut(names::SERVICES4).context("no services")?;
                HashMap::<_, ServiceKey4, Service>::try_from(services)?.insert(key, service, 0)?;
            }
            IpVersion::V6 => {
                let (vip, port) = vip6(number);
                let octets = vip.octets();
                let (words, _) = octets.as_chunks::<4>();
                let key = ServiceKey6 {
                    vip: [words[0], words[1], words[2], words[3]].map(u32::from_le_bytes),
                    port_key: names::port_key(port.to_be(), protocol),
                };
                let services = self.ebpf.map_mut(names::SERVICES6).context("no services")?;
                HashMap::<_, ServiceKey6, Service>::try_from(services)?.insert(key, service, 0)?;
            }
        }
        Ok(())
    }

    /// The program.
    pub fn program(&self) -> &ProgramFd {
        &self.program
    }

    /// Number of packets it has forwarded.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn forwarded(&self) -> Result<u64> {
        let stats = self.ebpf.map(names::SERVICE_STATS).context("no counters")?;
        let stats = PerCpuArray::<_, Traffic>::try_from(stats)?;
        (0..self.services).try_fold(0, |sum, service| {
            let traffic = stats.get(&service, 0)?;
            Ok(sum + traffic.iter().map(|traffic| traffic.packets).sum::<u64>())
        })
    }

    /// Number of lookups without an entry: one per flow, and one after each eviction.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn misses(&self) -> Result<u64> {
        let misses = PerCpuArray::<_, u64>::try_from(self.ebpf.map(names::MISSES).context("no misses")?)?;
        Ok(misses.get(&0, 0)?.iter().sum())
    }
}
