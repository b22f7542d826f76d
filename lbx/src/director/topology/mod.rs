//! Where everything is: which NICs take part in which role, and by which of them each real server is reached.
//!
//! - [`seen`]: the network, read
//! - [`error`]: why it does not fit

pub mod error;
pub mod seen;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use lbx_common::nic::{CLIENTS, SERVERS};

pub use self::{error::TopologyError, seen::Seen};
use super::segment::Segment;
use crate::{
    desired::{Desired, Ports, Service},
    net::{Link, Net, NetError, Route},
};

/// The network as the desired state needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Every NIC the program is attached to, by index.
    pub nics: BTreeMap<u32, Link>,
    /// Every segment that takes part: some NICs, and VLANs on some.
    pub segments: BTreeMap<Segment, SegmentRole>,
    /// Those NICs among them that have VLANs, whether these take part or not.
    pub trunks: BTreeSet<u32>,
    /// The device the VIPs are put on: the first of `interface`. None while that is missing.
    pub primary: Option<u32>,
    /// The way to each real server.
    pub ways: BTreeMap<IpAddr, Way>,
}

/// A segment and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentRole {
    /// The device that this host has there: the NIC itself, or the VLAN device on it.
    pub device: Link,
    /// [`CLIENTS`], [`SERVERS`].
    pub roles: u16,
}

/// How a real server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// On this segment.
    pub segment: Segment,
    /// By this device of it: the one the kernel knows it behind.
    pub ifindex: u32,
    /// From this address (DIP): what it is asked for its MAC address from.
    pub source: IpAddr,
}

impl Topology {
    /// Finds out, for a new desired state: everything must fit. `draining` are real servers that the file no longer
    /// names: they come along if they can.
    ///
    /// # Errors
    /// See [`TopologyError`].
    pub async fn resolve(net: &Net, desired: &Desired, draining: &[IpAddr]) -> Result<Self, TopologyError> {
        let seen = Seen::read(net, servers(desired).chain(draining.iter().copied())).await?;
        refuse_all_ports_of_others(&seen, desired)?;
        let (topology, misfits) = Self::of(&seen, desired, draining, None);
        match misfits.into_iter().next() {
            Some(misfit) => Err(misfit),
            None => Ok(topology),
        }
    }

    /// Finds out anew after the network has changed: what does not fit is left out, and told. Where a NIC is down or cut
    /// off everything behind it stays as it was: nobody can know better until it is back.
    ///
    /// # Errors
    /// The network cannot be read.
    pub async fn refit(
        &self,
        net: &Net,
        desired: &Desired,
        draining: &[IpAddr],
    ) -> Result<(Self, Vec<TopologyError>), NetError> {
        let seen = Seen::read(net, servers(desired).chain(draining.iter().copied())).await?;
        Ok(Self::of(&seen, desired, draining, Some(self)))
    }

    /// What fits, and what does not.
    fn of(seen: &Seen, desired: &Desired, draining: &[IpAddr], before: Option<&Self>) -> (Self, Vec<TopologyError>) {
        let mut topology = Self::default();
        let mut misfits = Vec::new();
        for (place, name) in desired.interfaces.iter().enumerate() {
            let added = seen.device(name).and_then(|device| {
                if place == 0 {
                    topology.primary = Some(device.index);
                }
                topology.add_clients(seen, device, before)
            });
            misfits.extend(added.err());
        }
        let mut tried = BTreeSet::new();
        for service in &desired.services {
            for server in servers_of(service) {
                if tried.insert(server) {
                    let added = topology.add_server(seen, server, &service.name, before);
                    misfits.extend(added.err());
                }
            }
        }
        for &server in draining {
            if tried.insert(server) {
                let _left_behind = topology.add_server(seen, server, "", before);
            }
        }
        let segments = seen
            .links
            .values()
            .filter_map(|device| Segment::of(&seen.links, device).ok());
        topology.trunks = segments
            .filter(|segment| segment.is_tagged() && topology.nics.contains_key(&segment.ifindex))
            .map(|segment| segment.ifindex)
            .collect();
        (topology, misfits)
    }

    /// Adds a device where clients arrive.
    fn add_clients(&mut self, seen: &Seen, device: &Link, before: Option<&Self>) -> Result<(), TopologyError> {
        let segment = segment_of(seen, device)?;
        match usable(device) {
            Err(down @ TopologyError::Down { .. }) => {
                let known = before.is_some_and(|before| before.segments.contains_key(&segment));
                if !known {
                    return Err(down);
                }
            }
            usable => usable?,
        }
        self.add_segment(seen, segment, device, CLIENTS);
        Ok(())
    }

    /// Adds a real server, and the way it is reached.
    fn add_server(
        &mut self,
        seen: &Seen,
        server: IpAddr,
        service: &str,
        before: Option<&Self>,
    ) -> Result<(), TopologyError> {
        let found = self.way(seen, server, service);
        let way = match (found, before) {
            (Ok(way), _) => way,
            (Err(misfit), Some(before)) => before.way_cut_off(seen, server).ok_or(misfit)?,
            (Err(misfit), None) => return Err(misfit),
        };
        if let Some(device) = seen.links.get(&way.ifindex) {
            self.add_segment(seen, way.segment, device, SERVERS);
            self.ways.insert(server, way);
        }
        Ok(())
    }

    fn add_segment(&mut self, seen: &Seen, segment: Segment, device: &Link, role: u16) {
        if let Some(nic) = seen.links.get(&segment.ifindex) {
            self.nics.insert(segment.ifindex, nic.clone());
        }
        let entry = self.segments.entry(segment).or_insert_with(|| SegmentRole {
            device: device.clone(),
            roles: 0,
        });
        entry.roles |= role;
    }

    /// The way to a real server.
    fn way(&self, seen: &Seen, server: IpAddr, service: &str) -> Result<Way, TopologyError> {
        if matches!(server, IpAddr::V6(address) if address.is_unicast_link_local()) {
            let service = service.to_owned();
            return Err(TopologyError::LinkLocal { server, service });
        }
        let not_on_link = |why| {
            let service = service.to_owned();
            TopologyError::NotOnLink { server, service, why }
        };
        let (ifindex, source) = match seen.routes.get(&server).copied().unwrap_or(Route::None) {
            Route::OnLink { ifindex, source } => (ifindex, source),
            Route::Local => {
                let service = service.to_owned();
                return Err(TopologyError::Local { server, service });
            }
            Route::Via { gateway, ifindex } => {
                let why = format!("it is behind router {gateway} on {}", seen.name(ifindex));
                return Err(not_on_link(why));
            }
            Route::None => return Err(not_on_link("there is no route to it".into())),
        };
        let device = seen
            .links
            .get(&ifindex)
            .ok_or_else(|| not_on_link("the interface it was behind is gone".into()))?;
        usable(device)?;
        self.refuse_small_mtu(device, server, service)?;
        Ok(Way {
            segment: segment_of(seen, device)?,
            ifindex,
            source,
        })
    }

    /// Packets that come in by a NIC must fit through the others.
    fn refuse_small_mtu(&self, device: &Link, server: IpAddr, service: &str) -> Result<(), TopologyError> {
        let clients = self.segments.values().filter(|segment| segment.roles & CLIENTS != 0);
        let widest = clients.map(|segment| &segment.device).max_by_key(|device| device.mtu);
        match widest {
            Some(ingress) if ingress.mtu > device.mtu => Err(TopologyError::SmallMtu {
                server,
                service: service.to_owned(),
                name: device.name.clone(),
                mtu: device.mtu,
                ingress: ingress.name.clone(),
                ingress_mtu: ingress.mtu,
            }),
            _ => Ok(()),
        }
    }

    /// The way a real server had, if it was by a device that is still there and leads nowhere now.
    fn way_cut_off(&self, seen: &Seen, server: IpAddr) -> Option<Way> {
        let way = self.ways.get(&server)?;
        let cut_off = |device: &Link| !device.up || !device.carrier;
        seen.links.get(&way.ifindex).is_some_and(cut_off).then_some(*way)
    }

    /// Leaves out a NIC that cannot be attached to, with everything behind it.
    pub fn leave_out(&mut self, ifindex: u32) {
        self.nics.remove(&ifindex);
        self.segments.retain(|segment, _| segment.ifindex != ifindex);
        self.ways.retain(|_, way| way.segment.ifindex != ifindex);
    }

    /// A device that takes part, whether as a NIC or as a VLAN device on one.
    #[must_use]
    pub fn device(&self, ifindex: u32) -> Option<&Link> {
        let mut segments = self.segments.values().map(|segment| &segment.device);
        segments
            .find(|device| device.index == ifindex)
            .or_else(|| self.nics.get(&ifindex))
    }

    /// Every device that takes part.
    pub fn devices(&self) -> impl Iterator<Item = &Link> {
        let on_nics = self.segments.values().map(|segment| &segment.device);
        let mut known = BTreeSet::new();
        on_nics
            .chain(self.nics.values())
            .filter(move |device| known.insert(device.index))
    }
}

/// Every address that must be reached: real servers, and those that stand in for them.
pub fn servers(desired: &Desired) -> impl Iterator<Item = IpAddr> {
    desired.services.iter().flat_map(servers_of)
}

fn servers_of(service: &Service) -> impl Iterator<Item = IpAddr> {
    let servers = service.servers.iter().map(|server| server.address);
    servers.chain(service.sorry_server)
}

fn segment_of(seen: &Seen, device: &Link) -> Result<Segment, TopologyError> {
    Segment::of(&seen.links, device).map_err(|why| TopologyError::Vlan {
        name: device.name.clone(),
        why,
    })
}

fn usable(link: &Link) -> Result<(), TopologyError> {
    let name = || link.name.clone();
    if link.mac == [0; 6] {
        Err(TopologyError::NotEthernet { name: name() })
    } else if !link.up {
        Err(TopologyError::Down { name: name() })
    } else {
        Ok(())
    }
}

/// A service that takes all ports of an address would take ssh with them, if the address is the host's own.
fn refuse_all_ports_of_others(seen: &Seen, desired: &Desired) -> Result<(), TopologyError> {
    for service in desired.services.iter().filter(|service| service.ports == Ports::All) {
        let vip = service.virtual_service.vip;
        let theirs = seen
            .addresses
            .iter()
            .find(|present| present.address == vip && !present.ours);
        if let Some(present) = theirs {
            return Err(TopologyError::OwnAddress {
                service: service.name.clone(),
                vip,
                name: seen.name(present.ifindex),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
