//! Where everything is: which NICs take part in which role, and by which of them each real server is reached.
//!
//! - [`snapshot`]: the network, read
//! - [`error`]: why it does not fit
//! - [`native`]: devices on which a native program would lose frames

pub mod error;
pub mod native;
pub mod snapshot;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use lbx_common::nic::{CLIENT_FACING, SERVER_FACING};

pub use self::{error::TopologyError, native::NativeObstacle, snapshot::NetworkSnapshot};
use super::segment::Segment;
use crate::{
    desired::{DesiredState, PortSet, Service},
    net::{DeviceKind, Link, NetError, Route, RouteNetlink},
};

/// The network as the desired state needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Every NIC the program is attached to, by index.
    pub nics: BTreeMap<u32, Link>,
    /// The members of those NICs among them that are bonds, by the bond's index: a native program runs on them, and frames carry
    /// their indices (`bond_xdp_set`, drivers/net/bonding/bond_main.c).
    pub bond_members: BTreeMap<u32, Vec<Link>>,
    /// Every segment that takes part: some NICs, and VLANs on some.
    pub segments: BTreeMap<Segment, SegmentRole>,
    /// Those NICs among them that have VLANs, whether these take part or not.
    pub trunks: BTreeSet<u32>,
    /// The device the VIPs are put on: the first of `interface`. None while that is missing.
    pub primary_ifindex: Option<u32>,
    /// The route to each real server.
    pub server_routes: BTreeMap<IpAddr, ServerRoute>,
    /// Real servers among them whose route is gone while their NIC stands, since when: a network manager that restarts, or a
    /// lease that is renewed, takes addresses away for a moment.
    pub route_lost_since: BTreeMap<IpAddr, Instant>,
    /// Why the other real servers are not reached.
    pub unreachable: BTreeMap<IpAddr, String>,
    /// NICs on which a native program would lose frames.
    pub native_obstacles: BTreeMap<u32, NativeObstacle>,
    /// MAC addresses and names of this host's devices where no clients' packets are served.
    pub non_client_devices: BTreeMap<[u8; 6], String>,
    /// An IPv6 address of each device that has one besides VIPs, link-local if there is one: where VIPs are probed from.
    pub ipv6_sources: BTreeMap<u32, Ipv6Addr>,
}

/// A segment and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentRole {
    /// The device that this host has there: the NIC itself, or the VLAN device on it.
    pub device: Link,
    /// [`CLIENT_FACING`], [`SERVER_FACING`].
    pub roles: u16,
}

/// How a real server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerRoute {
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
    pub async fn resolve(
        net: &RouteNetlink,
        desired: &DesiredState,
        draining: &[IpAddr],
    ) -> Result<Self, TopologyError> {
        let snapshot = NetworkSnapshot::read(net, servers(desired).chain(draining.iter().copied())).await?;
        refuse_all_ports_of_others(&snapshot, desired)?;
        let (mut topology, mismatches) = Self::of(&snapshot, desired, draining, None);
        topology.native_obstacles = NativeObstacle::find(net, &topology).await;
        match mismatches.into_iter().next() {
            Some(mismatch) => Err(mismatch),
            None => Ok(topology),
        }
    }

    /// Evaluates the changed network: what does not match is left out and logged. Behind a NIC that is down or has no carrier
    /// everything stays as it was until it is back.
    ///
    /// # Errors
    /// The network cannot be read.
    pub async fn update(
        &self,
        net: &RouteNetlink,
        desired: &DesiredState,
        draining: &[IpAddr],
    ) -> Result<(Self, Vec<TopologyError>), NetError> {
        let snapshot = NetworkSnapshot::read(net, servers(desired).chain(draining.iter().copied())).await?;
        let (mut topology, mismatches) = Self::of(&snapshot, desired, draining, Some(self));
        topology.native_obstacles = NativeObstacle::find(net, &topology).await;
        Ok((topology, mismatches))
    }

    /// What fits, and what does not.
    fn of(
        snapshot: &NetworkSnapshot,
        desired: &DesiredState,
        draining: &[IpAddr],
        before: Option<&Self>,
    ) -> (Self, Vec<TopologyError>) {
        let mut topology = Self::default();
        let mut mismatches = Vec::new();
        for (place, name) in desired.interfaces.iter().enumerate() {
            let added = snapshot.device(name).and_then(|device| {
                if place == 0 {
                    topology.primary_ifindex = Some(device.index);
                }
                topology.add_client_device(snapshot, device, before)
            });
            mismatches.extend(added.err());
        }
        let mut tried = BTreeSet::new();
        let before = before.map(|before| (before, Duration::from_secs(desired.network_grace_seconds.into())));
        for service in &desired.services {
            for server in service.server_addresses() {
                if tried.insert(server)
                    && let Err(mismatch) = topology.add_server(snapshot, server, &service.name, before)
                {
                    topology.unreachable.insert(server, mismatch.reason_without_server());
                    mismatches.push(mismatch);
                }
            }
        }
        for &server in draining {
            if tried.insert(server) {
                let _left_behind = topology.add_server(snapshot, server, "", before);
            }
        }
        let segments = snapshot
            .links
            .values()
            .filter_map(|device| Segment::of_device(&snapshot.links, device).ok());
        topology.trunks = segments
            .filter(|segment| segment.is_tagged() && topology.nics.contains_key(&segment.ifindex))
            .map(|segment| segment.ifindex)
            .collect();
        topology.non_client_devices = topology.without_clients(snapshot);
        let vips = desired.services.iter().map(|service| service.virtual_service.vip);
        topology.ipv6_sources = snapshot.ipv6_sources(&vips.collect());
        (topology, mismatches)
    }

    fn without_clients(&self, snapshot: &NetworkSnapshot) -> BTreeMap<[u8; 6], String> {
        let clients: BTreeSet<[u8; 6]> = self.client_devices().map(|device| device.mac).collect();
        let devices = snapshot.links.values().map(|device| (device.mac, device.name.clone()));
        devices
            .filter(|(mac, _)| *mac != [0; 6] && !clients.contains(mac))
            .collect()
    }

    /// The devices by which clients are served.
    pub fn client_devices(&self) -> impl Iterator<Item = &Link> {
        let segments = self
            .segments
            .values()
            .filter(|segment| segment.roles & CLIENT_FACING != 0);
        segments.map(|segment| &segment.device)
    }

    /// Adds a device where clients arrive.
    fn add_client_device(
        &mut self,
        snapshot: &NetworkSnapshot,
        device: &Link,
        before: Option<&Self>,
    ) -> Result<(), TopologyError> {
        let segment = segment_of(snapshot, device)?;
        refuse_port(snapshot, device)?;
        match usable(device) {
            Err(down @ TopologyError::InterfaceDown { .. }) => {
                let known = before.is_some_and(|before| before.segments.contains_key(&segment));
                if !known {
                    return Err(down);
                }
            }
            usable => usable?,
        }
        self.add_segment(snapshot, segment, device, CLIENT_FACING);
        Ok(())
    }

    /// Adds a real server, and the route to it.
    fn add_server(
        &mut self,
        snapshot: &NetworkSnapshot,
        server: IpAddr,
        service: &str,
        before: Option<(&Self, Duration)>,
    ) -> Result<(), TopologyError> {
        let found = self.route(snapshot, server, service);
        let route = match (found, before) {
            (Ok(route), _) => route,
            (Err(mismatch), Some((before, grace))) => {
                let disconnected = before.disconnected_route(snapshot, server);
                match (disconnected, before.kept_route(snapshot, server, grace)) {
                    (Some(route), _) => route,
                    (None, Some((route, since))) if matches!(mismatch, TopologyError::NotOnLink { .. }) => {
                        self.route_lost_since.insert(server, since);
                        route
                    }
                    _ => return Err(mismatch),
                }
            }
            (Err(mismatch), None) => return Err(mismatch),
        };
        if let Some(device) = snapshot.links.get(&route.ifindex) {
            self.add_segment(snapshot, route.segment, device, SERVER_FACING);
            self.server_routes.insert(server, route);
        }
        Ok(())
    }

    fn add_segment(&mut self, snapshot: &NetworkSnapshot, segment: Segment, device: &Link, role: u16) {
        if let Some(nic) = snapshot.links.get(&segment.ifindex) {
            self.nics.insert(segment.ifindex, nic.clone());
            if nic.kind == DeviceKind::Bond {
                let members = snapshot
                    .links
                    .values()
                    .filter(|link| link.master_ifindex == Some(nic.index));
                self.bond_members.insert(nic.index, members.cloned().collect());
            }
        }
        let entry = self.segments.entry(segment).or_insert_with(|| SegmentRole {
            device: device.clone(),
            roles: 0,
        });
        entry.roles |= role;
    }

    /// The route to a real server.
    fn route(&self, snapshot: &NetworkSnapshot, server: IpAddr, service: &str) -> Result<ServerRoute, TopologyError> {
        if matches!(server, IpAddr::V6(address) if address.is_unicast_link_local()) {
            let service = service.to_owned();
            return Err(TopologyError::LinkLocal { server, service });
        }
        let not_on_link = |why| {
            let service = service.to_owned();
            TopologyError::NotOnLink { server, service, why }
        };
        let (ifindex, source) = match snapshot.routes.get(&server).copied().unwrap_or(Route::None) {
            Route::OnLink { ifindex, source } => (ifindex, source),
            Route::Local => {
                let service = service.to_owned();
                return Err(TopologyError::ServerIsLocal { server, service });
            }
            Route::Via { gateway, ifindex } => {
                let why = format!("it is behind router {gateway} on {}", snapshot.name(ifindex));
                return Err(not_on_link(why));
            }
            Route::None => return Err(not_on_link("there is no route to it".into())),
        };
        let device = snapshot
            .links
            .get(&ifindex)
            .ok_or_else(|| not_on_link("the interface it was behind is gone".into()))?;
        usable(device)?;
        self.refuse_small_mtu(device, server, service)?;
        Ok(ServerRoute {
            segment: segment_of(snapshot, device)?,
            ifindex,
            source,
        })
    }

    /// Packets that come in by a NIC must fit through the others.
    fn refuse_small_mtu(&self, device: &Link, server: IpAddr, service: &str) -> Result<(), TopologyError> {
        let clients = self
            .segments
            .values()
            .filter(|segment| segment.roles & CLIENT_FACING != 0);
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

    /// Whether there is a route to a real server, by a device that has its carrier.
    #[must_use]
    pub fn is_connected(&self, server: IpAddr) -> bool {
        let route = self.server_routes.get(&server);
        let device = route.and_then(|route| self.device(route.ifindex));
        device.is_some_and(|device| device.up && device.carrier)
    }

    /// The route that a real server had, if it was by a device that still exists and has no carrier now.
    fn disconnected_route(&self, snapshot: &NetworkSnapshot, server: IpAddr) -> Option<ServerRoute> {
        let route = self.server_routes.get(&server)?;
        let disconnected = |device: &Link| !device.up || !device.carrier;
        snapshot
            .links
            .get(&route.ifindex)
            .is_some_and(disconnected)
            .then_some(*route)
    }

    /// The route that a real server had and has lost, if its NIC stands and the time is not over; and since when it is kept.
    fn kept_route(
        &self,
        snapshot: &NetworkSnapshot,
        server: IpAddr,
        grace: Duration,
    ) -> Option<(ServerRoute, Instant)> {
        let route = self.server_routes.get(&server)?;
        let device = snapshot.links.get(&route.ifindex)?;
        usable(device).ok()?;
        let since = self.route_lost_since.get(&server).copied().unwrap_or_else(Instant::now);
        (since.elapsed() < grace).then_some((*route, since))
    }

    /// Leaves out a NIC that cannot be attached to, with everything behind it.
    pub fn exclude(&mut self, ifindex: u32) {
        self.nics.remove(&ifindex);
        self.bond_members.remove(&ifindex);
        self.native_obstacles.remove(&ifindex);
        self.segments.retain(|segment, _| segment.ifindex != ifindex);
        self.server_routes.retain(|_, route| route.segment.ifindex != ifindex);
    }

    /// The members of a NIC that is a bond; none of any other.
    #[must_use]
    pub fn members_of_bond(&self, ifindex: u32) -> &[Link] {
        self.bond_members.get(&ifindex).map_or(&[], Vec::as_slice)
    }

    /// Whether the program runs on a device: a NIC, or a member of one.
    #[must_use]
    pub fn runs_program(&self, ifindex: u32) -> bool {
        let mut members = self.bond_members.values().flatten();
        self.nics.contains_key(&ifindex) || members.any(|member| member.index == ifindex)
    }

    /// Whether a link is a member of a bond that takes part, or becomes one, or was one; and says something new.
    #[must_use]
    pub fn changes_bond_members(&self, link: &Link) -> bool {
        let of = |link: &Link| (link.mac, link.master_ifindex);
        let mut members = self.bond_members.values().flatten();
        match members.find(|member| member.index == link.index) {
            Some(member) => of(member) != of(link),
            None => link
                .master_ifindex
                .is_some_and(|bond| self.bond_members.contains_key(&bond)),
        }
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
pub fn servers(desired: &DesiredState) -> impl Iterator<Item = IpAddr> {
    desired.services.iter().flat_map(Service::server_addresses)
}

fn segment_of(snapshot: &NetworkSnapshot, device: &Link) -> Result<Segment, TopologyError> {
    Segment::of_device(&snapshot.links, device).map_err(|why| TopologyError::UnsupportedVlan {
        name: device.name.clone(),
        why,
    })
}

/// A port of a bridge, bond or switch is not where clients' packets arrive, nor where a VIP answers ARP.
fn refuse_port(snapshot: &NetworkSnapshot, device: &Link) -> Result<(), TopologyError> {
    let controller = device.master_ifindex.and_then(|index| snapshot.links.get(&index));
    match controller {
        Some(controller) if controller.kind == DeviceKind::OpenVswitch => Err(TopologyError::OpenVswitchPort {
            name: device.name.clone(),
        }),
        Some(controller) if controller.kind.takes_frames_of_ports() => Err(TopologyError::BridgeOrBondPort {
            name: device.name.clone(),
            controller: controller.name.clone(),
        }),
        _ => Ok(()),
    }
}

fn usable(link: &Link) -> Result<(), TopologyError> {
    let name = || link.name.clone();
    if link.mac == [0; 6] {
        Err(TopologyError::NotEthernet { name: name() })
    } else if !link.up {
        Err(TopologyError::InterfaceDown { name: name() })
    } else {
        Ok(())
    }
}

/// A service that takes all ports of an address would take ssh with them, if the address is the host's own.
fn refuse_all_ports_of_others(snapshot: &NetworkSnapshot, desired: &DesiredState) -> Result<(), TopologyError> {
    for service in desired.services.iter().filter(|service| service.ports == PortSet::All) {
        let vip = service.virtual_service.vip;
        let theirs = snapshot
            .addresses
            .iter()
            .find(|present| present.address == vip && !present.added_by_lbx);
        if let Some(present) = theirs {
            return Err(TopologyError::AllPortsOnHostAddress {
                service: service.name.clone(),
                vip,
                name: snapshot.name(present.ifindex),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
