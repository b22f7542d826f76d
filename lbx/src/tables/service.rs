//! One service as loaded, and its own part of a plan.

use std::{collections::BTreeMap, net::Ipv4Addr};

use lbx_common::{
    backend::{self, Backend, Head, mac_word},
    flow::TICK_SHIFT,
    service::{self as abi, ServiceKey},
    slot,
};

use super::{
    Hop, Hops,
    allocate::Range,
    event::What,
    window::{Changes, Slots},
};
use crate::{
    desired::{self, Protocol, RealServer, Scheduler, Timeouts, VirtualService},
    schedule::{Candidate, maglev, ring},
};

/// A service as it stands in the maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Service number.
    pub number: u16,
    /// Who schedules new connections.
    pub scheduler: Scheduler,
    /// Idle timeouts in ticks, as the program sees them.
    pub timeouts: abi::Timeouts,
    /// Its slots' places, and the slots.
    pub slots_range: Range,
    /// The slots themselves.
    pub slots: Slots,
    /// Its ring's places; empty where the slots schedule.
    pub ring_range: Range,
    /// Backend indices, turn by turn.
    pub ring: Vec<u16>,
    /// Room for its backends.
    pub backends_range: Range,
    /// Its backends by index.
    pub members: BTreeMap<u16, Member>,
}

/// A backend as it stands in the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// RIP.
    pub address: Ipv4Addr,
    /// Weight; 0 drains.
    pub weight: u16,
    /// Where its frames go.
    pub hop: Hop,
    /// Its place in the backend counters.
    pub counter: u32,
    /// Whether it gets packets.
    pub life: Life,
    /// Whether the file names it.
    pub wanted: bool,
}

/// Whether a backend gets packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It does.
    Up,
    /// Failed or drained, since this tick: no packet goes there, and its index waits until no record names it.
    Dead {
        /// Since when.
        since: u32,
    },
}

impl Member {
    /// The backend as the map holds it.
    #[must_use]
    pub fn to_backend(&self) -> Backend {
        let state = match self.life {
            Life::Up => backend::UP,
            Life::Dead { .. } => backend::DEAD,
        };
        Backend {
            head: Head {
                mac: self.hop.mac,
                state,
            }
            .to_word(),
            source: mac_word(self.hop.source),
            ifindex: self.hop.ifindex,
            counter: self.counter,
            address: self.address.to_ipv6_mapped().octets(),
            weight: u32::from(self.weight),
            ..Backend::NONE
        }
    }
}

/// The key packets are matched by.
#[must_use]
pub fn key(service: &VirtualService) -> ServiceKey {
    ServiceKey::new(service.vip.octets(), service.port, service.protocol.number())
}

/// The service of a key, unless it is of a protocol lbx does not know.
#[must_use]
pub fn virtual_service(key: &ServiceKey) -> Option<VirtualService> {
    Some(VirtualService {
        vip: key.address.into(),
        port: u16::from_be_bytes(key.port),
        protocol: Protocol::from_number(key.protocol)?,
    })
}

/// Timeouts as the program sees them: in ticks, rounded up, so that none is shorter than asked.
#[must_use]
pub fn ticks(timeouts: &Timeouts) -> abi::Timeouts {
    let ticks = |seconds: u16| (u64::from(seconds) * 1_000_000_000).div_ceil(1 << TICK_SHIFT) as u16;
    abi::Timeouts {
        half_open: ticks(timeouts.half_open),
        established: ticks(timeouts.established),
        closing: ticks(timeouts.closing),
        closed: ticks(timeouts.closed),
        udp: ticks(timeouts.udp),
        pad: 0,
    }
}

impl Loaded {
    /// The service as the map holds it.
    #[must_use]
    pub fn to_service(&self) -> abi::Service {
        abi::Service {
            number: self.number,
            scheduler: self.scheduler as u8,
            flags: if self.scheduler.records_all() {
                abi::RECORD_ALL
            } else {
                0
            },
            slots_base: self.slots_range.base,
            slots_len: self.slots_range.len,
            ring_base: self.ring_range.base,
            ring_len: self.ring_range.len,
            backends_base: self.backends_range.base,
            backends_len: self.backends_range.len,
            timeouts: self.timeouts,
        }
    }

    /// How long an idle flow without a record keeps its owner, in ticks.
    #[must_use]
    pub fn window(&self, protocol: Protocol) -> u32 {
        u32::from(match protocol {
            Protocol::Tcp => self.timeouts.established,
            Protocol::Udp => self.timeouts.udp,
        })
    }

    /// The backend of an address that gets packets.
    #[must_use]
    pub fn up(&self, address: Ipv4Addr) -> Option<(u16, &Member)> {
        let (&index, member) = self
            .members
            .iter()
            .find(|(_, m)| m.address == address && m.life == Life::Up)?;
        Some((index, member))
    }

    /// Whether packets may go to an index.
    #[must_use]
    pub fn usable(&self, index: u16) -> bool {
        self.members.get(&index).is_some_and(|member| member.life == Life::Up)
    }

    /// The lowest index no backend has, the dead included.
    #[must_use]
    pub fn free_index(&self) -> u16 {
        (0..slot::NONE)
            .find(|index| !self.members.contains_key(index))
            .unwrap_or(slot::NONE)
    }

    /// The counter that a dead backend of this address had: whoever comes back goes on counting.
    #[must_use]
    pub fn former_counter(&self, address: Ipv4Addr) -> Option<u32> {
        self.members
            .values()
            .find(|member| member.address == address)
            .map(|member| member.counter)
    }

    /// Brings the backends that exist already to what is wanted; whoever has lost its hop dies. Returns the indices that
    /// changed, and what there is to tell.
    pub fn settle_members(&mut self, wanted: &[RealServer], hops: &Hops, now: u32) -> (Vec<u16>, Vec<What>) {
        let mut changed = Vec::new();
        let mut told = Vec::new();
        for (&index, member) in &mut self.members {
            let before = *member;
            match member.life {
                Life::Up => member.settle(wanted, hops, now, &mut told),
                Life::Dead { .. } => member.wanted = wanted.iter().any(|server| server.address == member.address),
            }
            if member.to_backend() != before.to_backend() {
                changed.push(index);
            }
        }
        (changed, told)
    }

    /// Those that get new connections, in the order of the file.
    #[must_use]
    pub fn candidates(&self, wanted: &[RealServer]) -> Vec<Candidate> {
        wanted
            .iter()
            .filter_map(|server| self.up(server.address))
            .filter(|(_, member)| member.weight > 0)
            .map(|(index, member)| Candidate {
                index,
                address: member.address,
                weight: member.weight,
            })
            .collect()
    }

    /// Lets the slots follow the candidates.
    pub fn follow(&mut self, candidates: &[Candidate], now: u32) -> Changes {
        let table = maglev::table(candidates, self.slots_range.len);
        let members = &self.members;
        let usable = |index: u16| members.get(&index).is_some_and(|member| member.life == Life::Up);
        self.slots.follow(&table, usable, now)
    }
}

impl Member {
    /// Takes over weight and hop, drains what the file no longer names, dies where no hop is left.
    fn settle(&mut self, wanted: &[RealServer], hops: &Hops, now: u32, told: &mut Vec<What>) {
        let server = self.address;
        let weight = wanted
            .iter()
            .find(|other| other.address == server)
            .map(|other| other.weight);
        if weight.is_none() && self.wanted {
            told.push(What::Draining(server));
        }
        self.wanted = weight.is_some();
        let weight = weight.unwrap_or(0);
        if self.wanted && weight != self.weight {
            told.push(What::Weight {
                server,
                from: self.weight,
                to: weight,
            });
        }
        self.weight = weight;
        match hops.get(&server) {
            Some(&hop) => {
                if hop.mac != self.hop.mac {
                    told.push(What::Moved {
                        server,
                        from: self.hop.mac,
                        to: hop.mac,
                    });
                }
                self.hop = hop;
            }
            None => {
                told.push(What::ServerLost(server));
                self.life = Life::Dead { since: now };
            }
        }
    }
}

/// The ring of a scheduler; empty where the slots schedule.
#[must_use]
pub fn ring(scheduler: Scheduler, candidates: &[Candidate]) -> Vec<u16> {
    match scheduler {
        Scheduler::Rr => ring::equal(candidates),
        Scheduler::Wrr => ring::weighted(candidates),
        Scheduler::Maglev => Vec::new(),
    }
}

/// The number of slots a new service gets.
#[must_use]
pub fn slot_count(service: &desired::Service) -> u32 {
    maglev::size(service.servers.iter().map(|server| server.weight))
}
