//! What the program has counted, and what it should have.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use lbx::{
    dataplane::Dataplane,
    desired::VirtualService,
    tables::{MapWrite, Tables},
};
use lbx_common::{counters::Traffic, drops::DropReason};

/// Every counter as it must stand.
#[derive(Default)]
pub struct Counters {
    services: BTreeMap<u16, Traffic>,
    backends: BTreeMap<u32, Traffic>,
    drops: BTreeMap<DropReason, u64>,
}

/// What one packet was counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    Nothing,
    Dropped(DropReason),
    Sent {
        service: VirtualService,
        /// The backend's counter.
        counter: u32,
        traffic: Traffic,
    },
}

impl Counters {
    /// Drops have been counted before; all else begins anew with services and backends.
    pub fn open(maps: &Dataplane) -> Result<Self> {
        let mut counters = Self::default();
        for &reason in DropReason::ALL {
            counters.drops.insert(reason, maps.drops(reason)?);
        }
        Ok(counters)
    }

    /// Follows the writes that set counters to zero.
    pub fn reset(&mut self, writes: &[MapWrite]) {
        for write in writes {
            match write {
                MapWrite::ResetServiceCounters(number) => drop(self.services.insert(*number, Traffic::default())),
                MapWrite::ResetBackendCounters(counter) => drop(self.backends.insert(*counter, Traffic::default())),
                _ => {}
            }
        }
    }

    /// What has been counted since the last time, for one packet at most.
    ///
    /// # Errors
    /// Counters disagree with each other, or count what nobody sent.
    pub fn follow(&mut self, maps: &Dataplane, tables: &[Tables]) -> Result<Counted> {
        let mut services = Vec::new();
        let mut backends = Vec::new();
        // What a plan under way is to make may not be there yet.
        let settled = tables.len() == 1;
        for (&id, loaded) in tables.iter().flat_map(|tables| &tables.services) {
            let found = maps.service_traffic(loaded.service_number)?;
            if let Some(known) = self.services.get_mut(&loaded.service_number) {
                services.extend(grown(known, found).map(|more| (id, more)));
            } else if settled {
                bail!("the counters of {id} were not reset");
            }
            for counter in loaded.counter_indices() {
                let found = maps.backend_traffic(counter)?;
                if let Some(known) = self.backends.get_mut(&counter) {
                    backends.extend(grown(known, found).map(|more| (counter, more)));
                } else if settled {
                    bail!("counter {counter} of {id} was not reset");
                }
            }
        }
        let mut dropped = Vec::new();
        for (&reason, known) in &mut self.drops {
            let found = maps.drops(reason)?;
            dropped.extend((*known..found).map(|_| reason));
            *known = found;
        }
        match (services.as_slice(), backends.as_slice(), dropped.as_slice()) {
            ([], [], []) => Ok(Counted::Nothing),
            ([], [], [reason]) => Ok(Counted::Dropped(*reason)),
            ([(service, traffic)], [(counter, same)], []) if traffic == same => Ok(Counted::Sent {
                service: *service,
                counter: *counter,
                traffic: *traffic,
            }),
            _ => bail!("counted for services {services:?}, for backends {backends:?}, drops {dropped:?}"),
        }
    }
}

/// By what a counter has grown.
fn grown(known: &mut Traffic, found: Traffic) -> Option<Traffic> {
    let more = Traffic {
        packets: found.packets.wrapping_sub(known.packets),
        bytes: found.bytes.wrapping_sub(known.bytes),
        connections: found.connections.wrapping_sub(known.connections),
        fin_rst_packets: found.fin_rst_packets.wrapping_sub(known.fin_rst_packets),
    };
    *known = found;
    (more != Traffic::default()).then_some(more)
}
