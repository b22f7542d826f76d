//! The network part: links, segments, neighbours and VIPs, as the kernel has them and as the configuration needs them.
//!
//! - [`topology`]: which NIC has which role, and the route to each real server; [`segment`]: NICs and VLANs
//! - [`neighbours`]: MAC addresses of real servers; [`segment_sockets`]: how they are solicited; [`kernel_neighbours`]: the
//!   kernel's table of them; [`resolve`] joins the three
//! - [`nics`]: the program on the NICs, and `xdp_advice` where a driver refuses it; [`offloads`]: NIC settings that would hide frames from it
//! - [`vips`]: the addresses clients connect to; [`announcements`] of them; [`vip_conflicts`]: other hosts that answer for them
//! - [`routed_replies`]: real servers that have this host as their gateway
//! - [`netfilter_rules`]: rules of the firewall that match a VIP
//! - [`lost_frames`]: frames that are dropped after the verdict; [`host_packets`]: packets for VIPs that reach this host's own stack
//! - [`local_traffic`]: the director's own packets to VIPs
//! - [`mismatch`]: what of the desired state the network does not allow

pub mod announcements;
pub mod host_packets;
pub mod kernel_neighbours;
pub mod local_traffic;
pub mod lost_frames;
pub mod mismatch;
pub mod neighbours;
pub mod netfilter_rules;
pub mod nics;
pub mod offloads;
pub mod resolve;
pub mod routed_replies;
pub mod segment;
pub mod segment_sockets;
pub mod topology;
pub mod vip_conflicts;
pub mod vips;
mod xdp_advice;

use std::{collections::BTreeSet, net::IpAddr};

use tokio::sync::mpsc;

use self::{
    announcements::Announcements,
    host_packets::HostPacketsByDevice,
    kernel_neighbours::KernelNeighbours,
    local_traffic::LocalTraffic,
    lost_frames::LostFrames,
    mismatch::NetworkMismatch,
    neighbours::NeighbourTable,
    offloads::Offloads,
    routed_replies::DroppedReplies,
    segment_sockets::SegmentSockets,
    topology::{NativeObstacle, Topology, TopologyError},
    vip_conflicts::VipConflicts,
    vips::Vips,
};
use super::required_actions::RequiredActions;
use crate::{
    desired::DesiredState,
    health::probe_thread::{ProbePath, ProbePaths},
    net::{Keeper, Link, Neighbour, NetError, NetEvent, RouteNetlink},
    tables::{NextHops, Tables},
};

/// What the director knows of the network, and what it has put there.
#[derive(Debug)]
pub struct Network {
    /// The kernel's network configuration.
    pub netlink: RouteNetlink,
    /// The kernel's events.
    events: mpsc::Receiver<NetEvent>,
    /// NICs, segments and routes that are in use.
    pub topology: Topology,
    /// MAC addresses of the real servers.
    pub neighbours: NeighbourTable,
    /// Those of them that the kernel's table holds.
    kernel_neighbours: KernelNeighbours,
    /// Where real servers and VIPs are solicited and announced.
    sockets: SegmentSockets,
    /// The network of a configuration that is not in force yet.
    next: Option<NextNetwork>,
    /// NIC settings changed while lbx runs.
    pub offloads: Offloads,
    /// The VIPs on the primary NIC.
    pub vips: Vips,
    announcements: Announcements,
    /// Other hosts that answer for a VIP.
    pub conflicts: VipConflicts,
    /// Replies of real servers that this host drops.
    pub dropped_replies: DroppedReplies,
    /// Packets for services that reach this host's own stack.
    pub host_packets: HostPacketsByDevice,
    /// Frames that are dropped after the verdict.
    pub lost_frames: LostFrames,
    /// Programs on the director's own packets to VIPs.
    pub local_traffic: LocalTraffic,
    /// What does not match.
    pub mismatch: NetworkMismatch,
}

/// The network as a new configuration needs it, while the MAC addresses of its real servers are resolved.
#[derive(Debug)]
struct NextNetwork {
    topology: Topology,
    neighbours: NeighbourTable,
}

impl Network {
    /// A network that was read.
    #[must_use]
    pub fn new(net: RouteNetlink, events: mpsc::Receiver<NetEvent>, topology: Topology, offloads: Offloads) -> Self {
        Self {
            kernel_neighbours: KernelNeighbours::start(net.clone()),
            netlink: net,
            events,
            topology,
            offloads,
            neighbours: NeighbourTable::default(),
            sockets: SegmentSockets::default(),
            next: None,
            vips: Vips::default(),
            announcements: Announcements::default(),
            conflicts: VipConflicts::default(),
            dropped_replies: DroppedReplies::default(),
            host_packets: HostPacketsByDevice::default(),
            lost_frames: LostFrames::default(),
            local_traffic: LocalTraffic::default(),
            mismatch: NetworkMismatch::default(),
        }
    }

    /// Waits for the kernel's next event; none: there will be no more.
    pub async fn next_event(&mut self) -> Option<NetEvent> {
        self.events.recv().await
    }

    /// Takes in an event, and those that wait behind it.
    pub async fn on_event(&mut self, event: NetEvent, desired: &DesiredState) -> RequiredActions {
        let mut change = RequiredActions::NONE;
        let mut waiting = Some(event);
        while let Some(event) = waiting {
            change |= match event {
                NetEvent::Neighbour(neighbour) => self.on_neighbour_event(&neighbour),
                NetEvent::NeighbourGone { ifindex, address } => self.on_neighbour_event(&Neighbour {
                    ifindex,
                    address,
                    mac: None,
                    keeper: Keeper::Kernel,
                }),
                NetEvent::Link(link) => self.on_link_event(&link, desired),
                NetEvent::LinkGone { index, .. } => {
                    RequiredActions::reread_network_if(self.topology.device(index).is_some())
                }
                NetEvent::AddressGone(address) => {
                    let is_vip = vips::desired_vips(desired).contains(&address.address);
                    let mut removed = is_vip && Some(address.ifindex) == self.topology.primary_ifindex;
                    if removed && self.vips.is_preexisting(address.address) {
                        removed = false;
                        tracing::warn!(
                            vip = %address.address,
                            "VIP that lbx did not add was removed from the interface; lbx does not add it again: clients are not served here until its owner does"
                        );
                    }
                    if removed {
                        tracing::warn!(vip = %address.address, "VIP is gone from the interface; adding it again");
                    }
                    RequiredActions::reread_network_if(removed)
                }
                NetEvent::Overrun => self.on_overrun().await,
                // At once: until it is known that the route is kept, health checks fail.
                NetEvent::RouteGone(route) if topology::servers(desired).any(|server| route.covers(server)) => {
                    RequiredActions::reread_network_if(true)
                }
                NetEvent::Route(route) | NetEvent::RouteGone(route) => {
                    if topology::servers(desired).any(|server| route.covers(server)) {
                        self.mismatch.request_recheck();
                    }
                    RequiredActions::NONE
                }
                NetEvent::Address(_) => RequiredActions::NONE,
            };
            waiting = self.events.try_recv().ok();
        }
        change
    }

    fn on_link_event(&mut self, link: &Link, desired: &DesiredState) -> RequiredActions {
        for neighbours in self.tables() {
            neighbours.on_carrier(link.index, link.up && link.carrier);
        }
        if self.topology.device(link.index).is_some() {
            // With the carrier the kernel drops its neighbours.
            self.kernel_neighbours.mark_changed();
        }
        RequiredActions {
            update_server_paths: self.topology.device(link.index).is_some(),
            reread_network: self.is_relevant(link, desired),
            ..RequiredActions::NONE
        }
    }

    /// Events were lost: everything is read again.
    async fn on_overrun(&mut self) -> RequiredActions {
        tracing::warn!("network events lost; reading everything again");
        match self.netlink.neighbours().await {
            Ok(present) => {
                for neighbours in self.tables() {
                    neighbours.on_kernel_table(&present);
                }
                self.kernel_neighbours.on_kernel_table(&present);
            }
            Err(error) => tracing::error!("cannot read the neighbours: {:#}", anyhow::Error::from(error)),
        }
        RequiredActions {
            replan: true,
            reread_network: true,
            ..RequiredActions::NONE
        }
    }

    /// Whether a link event says something new about a device in use, or brings one back.
    fn is_relevant(&self, link: &Link, desired: &DesiredState) -> bool {
        if self.topology.changes_bond_members(link) {
            return true;
        }
        match self.topology.device(link.index) {
            Some(device) => {
                let of = |link: &Link| (link.mac, link.up, link.mtu, link.master_ifindex);
                of(device) != of(link) || device.name != link.name
            }
            None => {
                let below = link.vlan.and_then(|vlan| vlan.lower_ifindex);
                let on_ours = below.is_some_and(|lower| self.topology.device(lower).is_some());
                on_ours || desired.interfaces.contains(&link.name)
            }
        }
    }

    /// What has to be done every second.
    pub async fn on_second_elapsed(&mut self) -> RequiredActions {
        RequiredActions {
            reread_network: self.mismatch.on_second_elapsed()
                | self.have_peers_changed().await
                | !self.topology.route_lost_since.is_empty(),
            ..RequiredActions::NONE
        }
    }

    /// Whether the other end of a veth device takes native frames now, or no longer: its namespace sends no events here.
    async fn have_peers_changed(&self) -> bool {
        NativeObstacle::find(&self.netlink, &self.topology).await != self.topology.native_obstacles
    }

    /// Reads the network for the desired state that is in force: what does not match is left out. `draining` are real servers
    /// that the configuration no longer names.
    ///
    /// # Errors
    /// The network cannot be read.
    pub async fn reread_topology(
        &self,
        desired: &DesiredState,
        draining: &[IpAddr],
    ) -> Result<(Topology, Vec<TopologyError>), NetError> {
        self.topology.update(&self.netlink, desired, draining).await
    }

    /// Reads the network for a new configuration, and begins to resolve the MAC addresses of its real servers.
    ///
    /// # Errors
    /// The network does not match the configuration, or cannot be read.
    pub async fn prepare_pending_configuration(
        &mut self,
        desired: &DesiredState,
        draining: &[IpAddr],
    ) -> Result<(), TopologyError> {
        let topology = Topology::resolve(&self.netlink, desired, draining).await?;
        let mut neighbours = self.neighbours.for_topology(&topology);
        neighbours.on_kernel_table(&self.netlink.neighbours().await?);
        self.next = Some(NextNetwork { topology, neighbours });
        Ok(())
    }

    /// Gives up a new configuration.
    pub fn abandon_pending_configuration(&mut self) {
        self.next = None;
    }

    /// The neighbours of a network that has changed, from those in force; not in force before [`Network::replace_topology`].
    #[must_use]
    pub fn neighbours_after_change(&self, topology: &Topology) -> NeighbourTable {
        self.neighbours.for_topology(topology)
    }

    /// The neighbours of a new configuration, from those resolved for it; not in force before [`Network::replace_topology`].
    #[must_use]
    pub fn neighbours_after_reload(&mut self, topology: &Topology) -> NeighbourTable {
        let resolved = self.next.take().map(|next| next.neighbours);
        resolved.as_ref().unwrap_or(&self.neighbours).for_topology(topology)
    }

    /// The table in force, and that of a new configuration.
    fn tables(&mut self) -> impl Iterator<Item = &mut NeighbourTable> {
        let next = self.next.as_mut().map(|next| &mut next.neighbours);
        std::iter::once(&mut self.neighbours).chain(next)
    }

    /// Has a topology take the place of the one before, with the MAC addresses known by it. Returns what it replaced.
    pub fn replace_topology(&mut self, topology: Topology, neighbours: NeighbourTable) -> (Topology, NeighbourTable) {
        let before = std::mem::replace(&mut self.topology, topology);
        let next = self.next.as_ref().map(|next| &next.topology);
        let in_use: Vec<&Topology> = std::iter::once(&self.topology).chain(next).collect();
        self.sockets.retain(&in_use);
        self.kernel_neighbours.mark_changed();
        self.log_kept(&before);
        (before, self.neighbours.replace(neighbours))
    }

    /// Logs the real servers whose routes have gone or are back.
    fn log_kept(&self, before: &Topology) {
        let [before, now] = [before, &self.topology].map(|topology| &topology.route_lost_since);
        for real_server in now.keys().filter(|server| !before.contains_key(server)) {
            tracing::warn!(
                %real_server,
                "real server is no longer on-link, its NIC is up: packets are forwarded as before for `network_grace`, health checks are suspended"
            );
        }
        for real_server in before.keys().filter(|server| !now.contains_key(server)) {
            // A NIC that has lost its carrier keeps the route too, and says so itself.
            if self.topology.is_connected(*real_server) {
                tracing::info!(%real_server, "route to the real server is back");
            }
        }
    }

    /// Goes back to what [`Network::replace_topology`] has replaced, with what the kernel knows now.
    ///
    /// # Errors
    /// The kernel's neighbour table cannot be read.
    pub async fn restore(&mut self, (topology, neighbours): (Topology, NeighbourTable)) -> Result<(), NetError> {
        self.topology = topology;
        self.neighbours.replace(neighbours);
        self.read_kernel_neighbours().await
    }

    /// The next hops of real servers whose MAC address is known.
    #[must_use]
    pub fn next_hops(&self) -> NextHops {
        self.neighbours.next_hops(&self.topology)
    }

    /// How health checks reach the real servers.
    #[must_use]
    pub fn server_paths(&self) -> ProbePaths {
        let next_hops = self.next_hops();
        let reach = |(&server, next_hop): (&IpAddr, &crate::tables::NextHop)| {
            let route = self.topology.server_routes.get(&server)?;
            Some((
                server,
                ProbePath {
                    source: route.source,
                    mac: next_hop.mac,
                    suspended: self.neighbours.is_disconnected(server),
                },
            ))
        };
        next_hops.iter().filter_map(reach).collect()
    }

    /// Looks for netfilter rules that match a VIP, in the background.
    pub fn check_netfilter_rules(&self, desired: &DesiredState) {
        let nics = self.topology.nics.values().map(|nic| nic.name.clone()).collect();
        netfilter_rules::spawn_check(vips::desired_vips(desired), nics);
    }

    /// Restores NIC settings on NICs that are no longer in use.
    pub fn restore_unused_offloads(&mut self) {
        let topology = &self.topology;
        self.offloads.restore(|ifindex| topology.runs_program(ifindex));
    }

    /// Puts the VIPs of a desired state on the primary NIC; removes those of `before` that are no longer wanted.
    ///
    /// # Errors
    /// The kernel refuses one: the first; all are tried.
    pub async fn reconcile_vips(
        &mut self,
        wanted: BTreeSet<IpAddr>,
        before: &BTreeSet<IpAddr>,
    ) -> Result<(), NetError> {
        let reconciled = self.vips.reconcile(&self.netlink, &self.topology, wanted, before).await;
        for vip in self.vips.take_new() {
            self.announcements.renew(vip);
        }
        reconciled
    }

    /// Announces what of these VIPs is due.
    pub fn announce_vips(&mut self, vips: impl IntoIterator<Item = IpAddr>) {
        let devices = announcements::client_device_macs(&self.topology);
        self.announcements.set(devices, vips.into_iter().collect());
        let sockets = &mut self.sockets;
        let sent = self
            .announcements
            .send(|due| sockets.announce(due.ifindex, due.mac, due.vip));
        if let Err(error) = sent {
            tracing::warn!(error = %anyhow::Error::from(error), "cannot announce VIPs");
        }
    }

    /// Looks for other hosts that answer for a VIP, and logs what is new.
    pub fn check_vip_conflicts(&mut self, tables: &Tables) {
        self.conflicts.check(&mut self.sockets, &self.topology, tables);
    }
}

#[cfg(test)]
mod tests;
