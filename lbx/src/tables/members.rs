//! The real servers of a service, as wanted and as loaded.

use std::{collections::BTreeMap, net::IpAddr};

use lbx_common::backend::{self, Backend, Head, Tags, mac_word};

use super::{Hop, Hops, event::What, lookup::address};
use crate::desired::Service;

/// A real server as the file wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// RIP.
    pub address: IpAddr,
    /// Weight; 0 drains.
    pub weight: u16,
    /// Connections at which it gets no more; 0: no limit.
    pub upper: u32,
    /// Connections below which it gets new ones again; 0: three quarters of `upper`.
    pub lower: u32,
    /// Its server id in QUIC connection ids.
    pub quic_id: Option<u16>,
    /// Whether it gets connections when nobody else does, and only then.
    pub sorry: bool,
}

/// The real servers of a service in the order of the file, the sorry server last.
#[must_use]
pub fn wanted(service: &Service) -> Vec<Wanted> {
    let sorry = service.sorry_server.map(|address| Wanted {
        address,
        weight: 0,
        upper: 0,
        lower: 0,
        quic_id: None,
        sorry: true,
    });
    let servers = service.servers.iter().map(|server| Wanted {
        address: server.address,
        weight: server.weight,
        upper: server.upper,
        lower: server.lower,
        quic_id: server.quic_id,
        sorry: false,
    });
    servers.chain(sorry).collect()
}

/// A backend as it stands in the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// RIP.
    pub address: IpAddr,
    /// Weight; 0 drains.
    pub weight: u16,
    /// Connections at which it gets no more; 0: no limit.
    pub upper: u32,
    /// Connections below which it gets new ones again.
    pub lower: u32,
    /// Whether it is the sorry server.
    pub sorry: bool,
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
    /// A real server that begins.
    #[must_use]
    pub const fn new(wanted: &Wanted, hop: Hop, counter: u32) -> Self {
        Self {
            address: wanted.address,
            weight: wanted.weight,
            upper: wanted.upper,
            lower: wanted.lower,
            sorry: wanted.sorry,
            hop,
            counter,
            life: Life::Up,
            wanted: true,
        }
    }

    /// Whether it keeps what it has and gets no new connections.
    #[must_use]
    pub const fn drains(&self) -> bool {
        self.weight == 0 && !self.sorry
    }

    /// The backend as the map holds it.
    #[must_use]
    pub fn to_backend(&self) -> Backend {
        let state = match self.life {
            Life::Dead { .. } => backend::DEAD,
            Life::Up if !self.wanted => backend::LEAVING,
            Life::Up if self.drains() => backend::DRAINING,
            Life::Up => backend::UP,
        };
        let [outer, inner] = self.hop.vlan;
        Backend {
            head: Head {
                mac: self.hop.mac,
                state,
            }
            .to_word(),
            source: mac_word(self.hop.source),
            tags: Tags { outer, inner },
            ifindex: self.hop.ifindex,
            counter: self.counter,
            address: address(self.address).octets(),
            upper: self.upper,
            lower: self.lower,
            weight: u32::from(self.weight),
            ..Backend::NONE
        }
    }

    /// Takes over what is wanted, and the hop; drains what the file no longer names, dies where no hop is left.
    pub fn settle(&mut self, all: &BTreeMap<IpAddr, Wanted>, hops: &Hops, now: u32, told: &mut Vec<What>) {
        let server = self.address;
        let wanted = all.get(&server);
        let wanted_before = std::mem::replace(&mut self.wanted, wanted.is_some());
        if self.life != Life::Up {
            return;
        }
        let weight = wanted.map_or(0, |wanted| wanted.weight);
        if wanted.is_none() && wanted_before {
            told.push(What::Draining(server));
        } else if weight != self.weight {
            told.push(What::Weight {
                server,
                from: self.weight,
                to: weight,
            });
        }
        self.weight = weight;
        self.sorry = wanted.is_some_and(|wanted| wanted.sorry);
        if let Some(wanted) = wanted {
            self.upper = wanted.upper;
            self.lower = wanted.lower;
        }
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
