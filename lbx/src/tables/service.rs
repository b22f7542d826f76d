//! One service as loaded, and its own part of a plan.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
};

use lbx_common::{
    backend::{self, Backend, Head, mac_word},
    flow::TICK_SHIFT,
    service::{self as abi, ServiceKey},
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
    /// Those that slots and ring lead new connections to, in the order of the file; none where that is not known, a
    /// former daemon having had the service last.
    pub candidates: Option<Vec<Candidate>>,
    /// A UDP service that records every flow and hashed until this tick: some of its flows have no record yet.
    pub hashed_until: Option<u32>,
}

/// A backend as it stands in the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// RIP.
    pub address: IpAddr,
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
            address: mapped(self.address).octets(),
            weight: u32::from(self.weight),
            ..Backend::NONE
        }
    }
}

/// An address as 128 bits: IPv4 mapped (RFC 4291 section 2.5.5.2).
fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// An address as the maps of services and VIPs hold it: they have room for IPv4 alone, and so the configuration takes
/// nothing else.
#[must_use]
pub fn map_address(address: IpAddr) -> [u8; 4] {
    let [.., a, b, c, d] = mapped(address).octets();
    [a, b, c, d]
}

/// The key packets are matched by.
#[must_use]
pub fn key(service: &VirtualService) -> ServiceKey {
    ServiceKey::new(map_address(service.vip), service.port, service.protocol.number())
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
            flags: self.flags(),
            slots_base: self.slots_range.base,
            slots_len: self.slots_range.len,
            ring_base: self.ring_range.base,
            ring_len: self.ring_range.len,
            backends_base: self.backends_range.base,
            backends_len: self.backends_range.len,
            timeouts: self.timeouts,
        }
    }

    /// Whether every flow gets a record.
    #[must_use]
    pub fn records_all(&self) -> bool {
        !self.scheduler.hashes()
    }

    fn flags(&self) -> u8 {
        match (self.records_all(), self.hashed_until) {
            (false, _) => 0,
            (true, None) => abi::RECORD_ALL,
            (true, Some(_)) => abi::RECORD_ALL | abi::HASHED,
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

    /// Whether time will bring it nothing: only the dead whose real server may come back stay as they are.
    #[must_use]
    pub fn at_rest(&self) -> bool {
        let mut addresses = BTreeSet::new();
        self.slots.at_rest()
            && self.hashed_until.is_none()
            && self
                .members
                .values()
                .all(|member| member.wanted && addresses.insert(member.address))
    }

    /// The counters of its backends: one goes on counting where another of the same real server has died.
    #[must_use]
    pub fn counters(&self) -> BTreeSet<u32> {
        self.members.values().map(|member| member.counter).collect()
    }

    /// The backend of an address that gets packets.
    #[must_use]
    pub fn up(&self, address: IpAddr) -> Option<(u16, &Member)> {
        let (&index, member) = self
            .members
            .iter()
            .find(|(_, member)| member.address == address && member.life == Life::Up)?;
        Some((index, member))
    }

    /// The indices of all backends that get packets.
    fn indices(&self) -> BTreeMap<IpAddr, u16> {
        self.members
            .iter()
            .filter(|(_, member)| member.life == Life::Up)
            .map(|(&index, member)| (member.address, index))
            .collect()
    }

    /// Whether packets may go to an index.
    #[must_use]
    pub fn usable(&self, index: u16) -> bool {
        self.members.get(&index).is_some_and(|member| member.life == Life::Up)
    }

    /// The lowest index no backend has, the dead included.
    #[must_use]
    pub fn free_index(&self) -> u16 {
        let together = (0..).zip(self.members.keys()).take_while(|&(n, &index)| n == index);
        together.count() as u16
    }

    /// The counter that a dead backend of this address had: whoever comes back goes on counting.
    #[must_use]
    pub fn former_counter(&self, address: IpAddr) -> Option<u32> {
        self.members
            .values()
            .find(|member| member.address == address)
            .map(|member| member.counter)
    }

    /// Whether a plan would change nothing. With thousands of services that is so for nearly all of them.
    #[must_use]
    pub fn fits(&self, service: &desired::Service, timeouts: abi::Timeouts, hops: &Hops) -> bool {
        let weights = weights(&service.servers);
        let settled = |member: &Member| {
            let mut after = *member;
            after.settle(&weights, hops, 0, &mut Vec::new());
            after == *member
        };
        self.scheduler == service.scheduler
            && self.timeouts == timeouts
            && self.members.values().all(settled)
            && self.missing(&service.servers, hops).is_empty()
            && self.candidates == Some(self.candidates(&service.servers))
    }

    /// The wanted real servers that have a hop and no backend that gets packets.
    #[must_use]
    pub fn missing(&self, wanted: &[RealServer], hops: &Hops) -> Vec<(RealServer, Hop)> {
        let up = self.indices();
        wanted
            .iter()
            .filter(|server| !up.contains_key(&server.address))
            .filter_map(|server| Some((*server, *hops.get(&server.address)?)))
            .collect()
    }

    /// Brings the backends there are to what is wanted; tells which indices have changed in the map.
    pub fn settle_members(&mut self, wanted: &[RealServer], hops: &Hops, now: u32) -> (Vec<u16>, Vec<What>) {
        let weights = weights(wanted);
        let mut changed = Vec::new();
        let mut told = Vec::new();
        for (&index, member) in &mut self.members {
            let before = member.to_backend();
            member.settle(&weights, hops, now, &mut told);
            if member.to_backend() != before {
                changed.push(index);
            }
        }
        (changed, told)
    }

    /// Those that get new connections, in the order of the file.
    #[must_use]
    pub fn candidates(&self, wanted: &[RealServer]) -> Vec<Candidate> {
        let up = self.indices();
        wanted
            .iter()
            .filter(|server| server.weight > 0)
            .filter_map(|server| {
                Some(Candidate {
                    index: *up.get(&server.address)?,
                    address: server.address,
                    weight: server.weight,
                })
            })
            .collect()
    }

    /// Lets the slots of a service no packet knows yet begin with the candidates.
    pub fn begin(&mut self, candidates: &[Candidate], now: u32) -> Changes {
        self.slots = Slots::resting(&maglev::table(candidates, self.slots_range.len), now);
        self.slots.all()
    }

    /// Lets the slots follow the candidates.
    pub fn follow(&mut self, candidates: &[Candidate], now: u32) -> Changes {
        let table = maglev::table(candidates, self.slots_range.len);
        let members = &self.members;
        let usable = |index: u16| members.get(&index).is_some_and(|member| member.life == Life::Up);
        self.slots.follow(&table, usable, now)
    }

    /// The ring the candidates are to be walked by; empty where the slots schedule.
    #[must_use]
    pub fn due_ring(&self, candidates: &[Candidate]) -> Vec<u16> {
        let ring = match self.scheduler {
            Scheduler::Rr => ring::equal(candidates),
            scheduler if scheduler.hashes() => Vec::new(),
            _ => ring::weighted(candidates),
        };
        ring.iter().map(|turn| turn.index).collect()
    }
}

/// The weights of real servers by address.
type Weights = BTreeMap<IpAddr, u16>;

fn weights(servers: &[RealServer]) -> Weights {
    servers.iter().map(|server| (server.address, server.weight)).collect()
}

impl Member {
    /// Takes over weight and hop, drains what the file no longer names, dies where no hop is left.
    fn settle(&mut self, weights: &Weights, hops: &Hops, now: u32, told: &mut Vec<What>) {
        let server = self.address;
        let weight = weights.get(&server).copied();
        let wanted_before = std::mem::replace(&mut self.wanted, weight.is_some());
        if self.life != Life::Up {
            return;
        }
        match weight {
            None if wanted_before => told.push(What::Draining(server)),
            Some(weight) if weight != self.weight => told.push(What::Weight {
                server,
                from: self.weight,
                to: weight,
            }),
            _ => {}
        }
        self.weight = weight.unwrap_or(0);
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

/// The number of slots a new service gets.
#[must_use]
pub fn slot_count(service: &desired::Service) -> u32 {
    let by_weights = || maglev::size(service.servers.iter().map(|server| server.weight));
    service.slots.unwrap_or_else(by_weights)
}
