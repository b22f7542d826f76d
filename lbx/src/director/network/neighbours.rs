//! Real servers' MAC addresses: taken from the kernel's neighbour table and followed live.
//!
//! A MAC address that changes silently outlives the kernel's own probing by minutes, so every real server is solicited by
//! broadcast about once a second; an answer with another address updates the kernel's table, and its event
//! arrives here. A real server without an answer keeps its last address for a few seconds before it counts as lost: an
//! entry that expires and is asked for anew has none for a moment. Behind a NIC without a carrier
//! no answer is possible: its real servers keep theirs until it is back.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    segment::Segment,
    topology::{ServerRoute, Topology},
};
use crate::{
    net::{Neighbour, NetError, RouteNetlink, SegmentSocket},
    tables::{NextHop, NextHops, Tables},
};

/// Seconds without a MAC address after which a real server is lost.
const LOST_AFTER: u32 = 3;

/// The MAC address of every real server.
#[derive(Debug, Default)]
pub struct NeighbourTable {
    servers: BTreeMap<IpAddr, Entry>,
    sockets: BTreeMap<u32, SegmentSocket>,
    /// NICs without a carrier.
    disconnected: BTreeSet<u32>,
    /// Real servers whose route is gone for a moment: they keep their MAC addresses.
    kept: BTreeSet<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    route: ServerRoute,
    /// The last MAC address it had.
    mac: Option<[u8; 6]>,
    /// Seconds since it had one.
    silent: u32,
}

impl NeighbourTable {
    /// The table for another topology, with the MAC addresses that stay known; to be filled while this one stays in force.
    #[must_use]
    pub fn for_topology(&self, topology: &Topology) -> Self {
        let mut table = Self {
            servers: self.servers.clone(),
            sockets: BTreeMap::new(),
            disconnected: self.disconnected.clone(),
            kept: BTreeSet::new(),
        };
        table.set_topology(topology);
        table
    }

    /// Puts another table into force; returns the one before, without its sockets.
    pub fn replace(&mut self, other: Self) -> Self {
        let before = Self {
            servers: std::mem::replace(&mut self.servers, other.servers),
            sockets: BTreeMap::new(),
            disconnected: std::mem::replace(&mut self.disconnected, other.disconnected),
            kept: std::mem::replace(&mut self.kept, other.kept),
        };
        for (ifindex, socket) in other.sockets {
            self.sockets.entry(ifindex).or_insert(socket);
        }
        before
    }

    /// Takes over a topology: new real servers are unresolved, those with another route become so.
    pub fn set_topology(&mut self, topology: &Topology) {
        let mut servers = BTreeMap::new();
        for (&server, &route) in &topology.server_routes {
            let before = self.servers.get(&server).filter(|known| known.route == route);
            let unknown = Entry {
                route,
                mac: None,
                silent: LOST_AFTER,
            };
            servers.insert(server, before.copied().unwrap_or(unknown));
        }
        self.servers = servers;
        // Those that have their route again get as long as behind a NIC that has its carrier again.
        for server in self
            .kept
            .iter()
            .filter(|server| !topology.route_lost_since.contains_key(*server))
        {
            if let Some(known) = self.servers.get_mut(server) {
                known.restart();
            }
        }
        self.kept = topology.route_lost_since.keys().copied().collect();
        self.sockets.retain(|ifindex, _| topology.device(*ifindex).is_some());
        for device in topology.devices() {
            self.on_carrier(device.index, device.up && device.carrier);
        }
    }

    /// Takes MAC addresses over from adopted tables: better old ones than none until the kernel has spoken.
    pub fn adopt_macs(&mut self, tables: &Tables) {
        let members = tables.services.values().flat_map(|service| service.backends.values());
        for member in members.filter(|member| member.state.may_own_flows()) {
            if let Some(known) = self.servers.get_mut(&member.address)
                && known.route.segment == Segment::from(&member.next_hop)
            {
                known.update(Some(member.next_hop.mac));
            }
        }
    }

    /// Takes in an event of the kernel's neighbour table; whether that changes a next hop.
    pub fn on_event(&mut self, neighbour: &Neighbour) -> bool {
        let Some(known) = self.servers.get_mut(&neighbour.address) else {
            return false;
        };
        known.route.ifindex == neighbour.ifindex && known.update(neighbour.mac)
    }

    /// Reads the kernel's whole table; whether that changes a next hop.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn read(&mut self, net: &RouteNetlink) -> Result<bool, NetError> {
        Ok(self.on_events(&net.neighbours().await?))
    }

    /// Takes in several events; whether they change a next hop.
    pub fn on_events(&mut self, neighbours: &[Neighbour]) -> bool {
        let changes = neighbours.iter().filter(|neighbour| self.on_event(neighbour));
        changes.count() > 0
    }

    /// Solicits the MAC address of every real server, through the kernel (which then knows it) and by broadcast.
    pub async fn solicit(&mut self, net: &RouteNetlink, topology: &Topology) {
        for (&server, known) in self.servers.iter().filter(|(server, _)| !self.kept.contains(server)) {
            let ServerRoute { ifindex, source, .. } = known.route;
            let sent = net.solicit(ifindex, server).await.and_then(|()| {
                let socket = socket(&mut self.sockets, ifindex)?;
                match topology.device(ifindex) {
                    Some(device) => socket.solicit(device.mac, source, server),
                    None => Ok(()),
                }
            });
            if let Err(error) = sent {
                tracing::debug!(real_server = %server, error = %anyhow::Error::from(error), "cannot solicit the MAC address");
            }
        }
    }

    /// Announces a VIP on a NIC, so that switches and clients learn where it is.
    ///
    /// # Errors
    /// The NIC cannot send.
    pub fn announce(&mut self, ifindex: u32, mac: [u8; 6], vip: IpAddr) -> Result<(), NetError> {
        socket(&mut self.sockets, ifindex)?.announce(mac, vip)
    }

    /// Takes in whether a NIC has a carrier.
    pub fn on_carrier(&mut self, ifindex: u32, carrier: bool) {
        if !carrier {
            self.disconnected.insert(ifindex);
        } else if self.disconnected.remove(&ifindex) {
            let behind = self.servers.values_mut().filter(|known| known.route.ifindex == ifindex);
            behind.for_each(Entry::restart);
        }
    }

    /// Whether a real server cannot be asked for its MAC address: it is behind a NIC without a carrier, or its route is gone
    /// for a moment.
    #[must_use]
    pub fn is_disconnected(&self, server: IpAddr) -> bool {
        if self.kept.contains(&server) {
            return true;
        }
        let known = self.servers.get(&server);
        known.is_some_and(|known| self.disconnected.contains(&known.route.ifindex))
    }

    /// A second has passed; whether that loses a next hop.
    pub fn expire(&mut self) -> bool {
        let mut lost = false;
        let (disconnected, kept) = (&self.disconnected, &self.kept);
        let servers = self.servers.iter_mut().filter(|(server, _)| !kept.contains(server));
        for known in servers
            .map(|(_, known)| known)
            .filter(|known| !disconnected.contains(&known.route.ifindex))
        {
            let before = known.usable_mac();
            known.silent = known.silent.saturating_add(u32::from(known.silent > 0));
            lost |= known.usable_mac() != before;
        }
        lost
    }

    /// The next hops of real servers whose MAC address is known.
    #[must_use]
    pub fn next_hops(&self, topology: &Topology) -> NextHops {
        let hop = |(&server, known): (&IpAddr, &Entry)| {
            let Segment {
                ifindex,
                vlan_tags: vlan,
            } = known.route.segment;
            let hop = NextHop {
                mac: known.usable_mac()?,
                ifindex,
                vlan_tags: vlan,
                source: topology.segments.get(&known.route.segment)?.device.mac,
            };
            Some((server, hop))
        };
        self.servers.iter().filter_map(hop).collect()
    }

    /// Whether the MAC address of a real server is known.
    #[must_use]
    pub fn is_resolved(&self, server: IpAddr) -> bool {
        self.servers
            .get(&server)
            .is_some_and(|known| known.usable_mac().is_some())
    }

    /// Whether some real server has no MAC address.
    #[must_use]
    pub fn has_unresolved(&self) -> bool {
        self.servers.values().any(|known| known.usable_mac().is_none())
    }
}

impl Entry {
    fn update(&mut self, mac: Option<[u8; 6]>) -> bool {
        let before = self.usable_mac();
        match mac {
            Some(_) => {
                self.mac = mac;
                self.silent = 0;
            }
            None => self.silent = self.silent.max(1),
        }
        self.usable_mac() != before
    }

    /// It can be asked again: it has as long to answer as one that has just fallen silent.
    fn restart(&mut self) {
        if self.silent <= LOST_AFTER {
            self.silent = self.silent.min(1);
        }
    }

    /// Its MAC address, unless it has not answered for too long.
    fn usable_mac(&self) -> Option<[u8; 6]> {
        self.mac.filter(|_| self.silent <= LOST_AFTER)
    }
}

fn socket(sockets: &mut BTreeMap<u32, SegmentSocket>, ifindex: u32) -> Result<&SegmentSocket, NetError> {
    use std::collections::btree_map::Entry as Slot;
    match sockets.entry(ifindex) {
        Slot::Occupied(entry) => Ok(entry.into_mut()),
        Slot::Vacant(entry) => Ok(entry.insert(SegmentSocket::open(ifindex)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Option<[u8; 6]> = Some([2, 0, 0, 0, 0, 1]);

    fn unknown() -> Entry {
        Entry {
            route: ServerRoute {
                segment: Segment {
                    ifindex: 2,
                    vlan_tags: [0; 2],
                },
                ifindex: 2,
                source: IpAddr::from([192, 168, 1, 2]),
            },
            mac: None,
            silent: LOST_AFTER,
        }
    }

    #[test]
    fn an_address_is_kept_for_some_seconds_of_silence() {
        let mut neighbours = NeighbourTable::default();
        let server = IpAddr::from([192, 168, 1, 185]);
        neighbours.servers.insert(server, unknown());
        let learn = |neighbours: &mut NeighbourTable, mac| {
            neighbours.on_event(&Neighbour {
                ifindex: 2,
                address: server,
                mac,
            })
        };
        assert!(!learn(&mut neighbours, None));
        assert!(neighbours.has_unresolved());
        assert!(learn(&mut neighbours, MAC));
        assert!(!learn(&mut neighbours, MAC), "the same again is no news");
        assert!(!neighbours.expire(), "nothing ages while there is an answer");
        assert!(!learn(&mut neighbours, None), "no answer yet");
        assert!(!neighbours.expire());
        assert!(!neighbours.expire());
        neighbours.on_carrier(2, false);
        assert!(!neighbours.expire(), "no carrier: nothing expires");
        neighbours.on_carrier(2, true);
        assert!(!neighbours.expire(), "patience begins anew");
        assert!(!neighbours.expire());
        assert!(neighbours.expire(), "lost after three seconds");
        assert!(!neighbours.expire());
        assert!(learn(&mut neighbours, MAC), "back again");
    }

    #[test]
    fn another_nic_is_not_heard() {
        let mut neighbours = NeighbourTable::default();
        let server = IpAddr::from([192, 168, 1, 185]);
        neighbours.servers.insert(server, unknown());
        assert!(!neighbours.on_event(&Neighbour {
            ifindex: 3,
            address: server,
            mac: MAC,
        }));
    }
}
