//! Real servers' MAC addresses: taken from the kernel's neighbour table and followed live.
//!
//! A MAC address that changes silently outlives the kernel's own probing by minutes, so every real server is asked by
//! broadcast about once a second; whoever answers with another address updates the kernel's table, and its event
//! comes here. A real server without an answer keeps its last address for a few seconds before it counts as lost: an
//! entry that expires and is asked for anew has none for a moment. Behind a NIC without a carrier nobody can answer: its
//! real servers keep theirs until it is back.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    segment::Segment,
    topology::{Topology, Way},
};
use crate::{
    net::{Neighbour, Net, NetError, SegmentSocket},
    tables::{NextHop, NextHops, Tables},
};

/// Seconds without a MAC address after which a real server is lost.
const PATIENCE: u32 = 3;

/// What is known of every real server's MAC address.
#[derive(Debug, Default)]
pub struct Neighbourhood {
    servers: BTreeMap<IpAddr, Known>,
    sockets: BTreeMap<u32, SegmentSocket>,
    /// NICs without a carrier.
    cut_off: BTreeSet<u32>,
}

/// What was known of every real server at one moment.
#[derive(Debug)]
pub struct Memory(BTreeMap<IpAddr, Known>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    way: Way,
    /// The last MAC address it had.
    mac: Option<[u8; 6]>,
    /// Seconds since it had one.
    silent: u32,
}

impl Neighbourhood {
    /// What is known, to be restored.
    #[must_use]
    pub fn known(&self) -> Memory {
        Memory(self.servers.clone())
    }

    /// Goes back to what was known.
    pub fn restore(&mut self, memory: Memory) {
        self.servers = memory.0;
    }

    /// Takes over a topology: new real servers are unknown, those that are reached otherwise become so.
    pub fn follow(&mut self, topology: &Topology) {
        let mut servers = BTreeMap::new();
        for (&server, &way) in &topology.ways {
            let before = self.servers.get(&server).filter(|known| known.way == way);
            let unknown = Known {
                way,
                mac: None,
                silent: PATIENCE,
            };
            servers.insert(server, before.copied().unwrap_or(unknown));
        }
        self.servers = servers;
        self.sockets.retain(|ifindex, _| topology.device(*ifindex).is_some());
        for device in topology.devices() {
            self.hear_carrier(device.index, device.up && device.carrier);
        }
    }

    /// Takes MAC addresses over from adopted tables: better old ones than none until the kernel has spoken.
    pub fn adopt(&mut self, tables: &Tables) {
        let members = tables.services.values().flat_map(|service| service.members.values());
        for member in members.filter(|member| member.state.is_usable()) {
            if let Some(known) = self.servers.get_mut(&member.address)
                && known.way.segment == Segment::from(&member.next_hop)
            {
                known.hear(Some(member.next_hop.mac));
            }
        }
    }

    /// Takes in what the kernel says of a neighbour; whether that changes a hop.
    pub fn hear(&mut self, neighbour: &Neighbour) -> bool {
        let Some(known) = self.servers.get_mut(&neighbour.address) else {
            return false;
        };
        known.way.ifindex == neighbour.ifindex && known.hear(neighbour.mac)
    }

    /// Reads the kernel's whole table; whether that changes a hop.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn read(&mut self, net: &Net) -> Result<bool, NetError> {
        let mut changed = false;
        for neighbour in net.neighbours().await? {
            changed |= self.hear(&neighbour);
        }
        Ok(changed)
    }

    /// Asks every real server for its address, through the kernel (which then knows it) and by broadcast.
    pub async fn ask(&mut self, net: &Net, topology: &Topology) {
        for (&server, known) in &self.servers {
            let Way { ifindex, source, .. } = known.way;
            let asked = net.solicit(ifindex, server).await.and_then(|()| {
                let socket = socket(&mut self.sockets, ifindex)?;
                match topology.device(ifindex) {
                    Some(device) => socket.solicit(device.mac, source, server),
                    None => Ok(()),
                }
            });
            if let Err(error) = asked {
                tracing::debug!(%server, error = %anyhow::Error::from(error), "cannot ask for a MAC address");
            }
        }
    }

    /// Announces VIPs on a NIC, so that switches and clients learn where they are.
    ///
    /// # Errors
    /// The NIC cannot send.
    pub fn announce(
        &mut self,
        ifindex: u32,
        mac: [u8; 6],
        vips: impl IntoIterator<Item = IpAddr>,
    ) -> Result<(), NetError> {
        let socket = socket(&mut self.sockets, ifindex)?;
        vips.into_iter().try_for_each(|vip| socket.announce(mac, vip))
    }

    /// Takes in whether a NIC has a carrier.
    pub fn hear_carrier(&mut self, ifindex: u32, carrier: bool) {
        if !carrier {
            self.cut_off.insert(ifindex);
        } else if self.cut_off.remove(&ifindex) {
            let behind = self.servers.values_mut().filter(|known| known.way.ifindex == ifindex);
            for known in behind.filter(|known| known.silent <= PATIENCE) {
                known.silent = known.silent.min(1);
            }
        }
    }

    /// Whether a real server is behind a NIC without a carrier.
    #[must_use]
    pub fn is_cut_off(&self, server: IpAddr) -> bool {
        let known = self.servers.get(&server);
        known.is_some_and(|known| self.cut_off.contains(&known.way.ifindex))
    }

    /// A second has passed; whether that loses a hop.
    pub fn age(&mut self) -> bool {
        let mut lost = false;
        let cut_off = &self.cut_off;
        for known in self
            .servers
            .values_mut()
            .filter(|known| !cut_off.contains(&known.way.ifindex))
        {
            let before = known.hop_mac();
            known.silent = known.silent.saturating_add(u32::from(known.silent > 0));
            lost |= known.hop_mac() != before;
        }
        lost
    }

    /// The hops of those whose MAC address is known.
    #[must_use]
    pub fn hops(&self, topology: &Topology) -> NextHops {
        let hop = |(&server, known): (&IpAddr, &Known)| {
            let Segment { ifindex, vlan } = known.way.segment;
            let hop = NextHop {
                mac: known.hop_mac()?,
                ifindex,
                vlan,
                source: topology.segments.get(&known.way.segment)?.device.mac,
            };
            Some((server, hop))
        };
        self.servers.iter().filter_map(hop).collect()
    }

    /// Whether the MAC address of a real server is known.
    #[must_use]
    pub fn knows(&self, server: IpAddr) -> bool {
        self.servers.get(&server).is_some_and(|known| known.hop_mac().is_some())
    }

    /// Whether some real server has no MAC address.
    #[must_use]
    pub fn incomplete(&self) -> bool {
        self.servers.values().any(|known| known.hop_mac().is_none())
    }
}

impl Known {
    fn hear(&mut self, mac: Option<[u8; 6]>) -> bool {
        let before = self.hop_mac();
        match mac {
            Some(_) => {
                self.mac = mac;
                self.silent = 0;
            }
            None => self.silent = self.silent.max(1),
        }
        self.hop_mac() != before
    }

    /// Its MAC address, unless it has been silent for too long.
    fn hop_mac(&self) -> Option<[u8; 6]> {
        self.mac.filter(|_| self.silent <= PATIENCE)
    }
}

fn socket(sockets: &mut BTreeMap<u32, SegmentSocket>, ifindex: u32) -> Result<&SegmentSocket, NetError> {
    use std::collections::btree_map::Entry;
    match sockets.entry(ifindex) {
        Entry::Occupied(entry) => Ok(entry.into_mut()),
        Entry::Vacant(entry) => Ok(entry.insert(SegmentSocket::open(ifindex)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Option<[u8; 6]> = Some([2, 0, 0, 0, 0, 1]);

    fn unknown() -> Known {
        Known {
            way: Way {
                segment: Segment {
                    ifindex: 2,
                    vlan: [0; 2],
                },
                ifindex: 2,
                source: IpAddr::from([192, 168, 1, 2]),
            },
            mac: None,
            silent: PATIENCE,
        }
    }

    #[test]
    fn an_address_is_kept_for_some_seconds_of_silence() {
        let mut neighbourhood = Neighbourhood::default();
        let server = IpAddr::from([192, 168, 1, 185]);
        neighbourhood.servers.insert(server, unknown());
        let hear = |neighbourhood: &mut Neighbourhood, mac| {
            neighbourhood.hear(&Neighbour {
                ifindex: 2,
                address: server,
                mac,
            })
        };
        assert!(!hear(&mut neighbourhood, None));
        assert!(neighbourhood.incomplete());
        assert!(hear(&mut neighbourhood, MAC));
        assert!(!hear(&mut neighbourhood, MAC), "the same again is no news");
        assert!(!neighbourhood.age(), "nothing ages while there is an answer");
        assert!(!hear(&mut neighbourhood, None), "no answer yet");
        assert!(!neighbourhood.age());
        assert!(!neighbourhood.age());
        neighbourhood.hear_carrier(2, false);
        assert!(!neighbourhood.age(), "nobody can answer");
        neighbourhood.hear_carrier(2, true);
        assert!(!neighbourhood.age(), "patience begins anew");
        assert!(!neighbourhood.age());
        assert!(neighbourhood.age(), "lost after three seconds");
        assert!(!neighbourhood.age());
        assert!(hear(&mut neighbourhood, MAC), "back again");
    }

    #[test]
    fn another_nic_is_not_heard() {
        let mut neighbourhood = Neighbourhood::default();
        let server = IpAddr::from([192, 168, 1, 185]);
        neighbourhood.servers.insert(server, unknown());
        assert!(!neighbourhood.hear(&Neighbour {
            ifindex: 3,
            address: server,
            mac: MAC,
        }));
    }
}
