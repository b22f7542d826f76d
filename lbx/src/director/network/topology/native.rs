//! Devices on which the kernel accepts a native XDP program that would lose frames.

use std::collections::{BTreeMap, BTreeSet};

use lbx_common::nic::{CLIENT_FACING, SERVER_FACING};

use super::Topology;
use crate::net::{DeviceKind, Link, RouteNetlink};

/// Why a native program would lose frames on a NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NativeObstacle {
    /// The other end of a veth device throws frames of XDP_TX away unless it runs an XDP program itself
    /// (`veth_xdp_flush` in drivers/net/veth.c).
    #[error(
        "the other end of this veth device runs no native XDP program, or cannot be seen from here, and would drop what native XDP sends (`mode: auto` takes generic mode)"
    )]
    VethPeer,
}

impl NativeObstacle {
    /// Those of a topology's NICs, by their indices; of a bond those of its members.
    pub async fn find(net: &RouteNetlink, topology: &Topology) -> BTreeMap<u32, Self> {
        let mut obstacles = BTreeMap::new();
        for nic in topology.nics.values() {
            for device in std::iter::once(nic).chain(topology.members_of_bond(nic.index)) {
                if device.kind == DeviceKind::Veth && !peer_runs_xdp(net, device).await {
                    obstacles.insert(nic.index, Self::VethPeer);
                }
            }
        }
        obstacles
    }
}

impl Topology {
    /// NICs that cannot run the program natively because of these, which run it in generic mode: packets of clients arrive on them, and
    /// are redirected to one of these. `__xdp_enqueue` in kernel/bpf/devmap.c drops what a native program redirects to a NIC without
    /// `ndo_xdp_xmit`, which most drivers have with a native program alone; a generic program redirects to any
    /// (`dev_map_generic_redirect`). With each of them comes a NIC that it redirects to.
    #[must_use]
    pub fn redirecting_to(&self, generic: &BTreeSet<u32>) -> BTreeMap<u32, u32> {
        let with_role = |role| -> BTreeSet<u32> {
            let segments = self.segments.iter().filter(|(_, segment)| segment.roles & role != 0);
            segments.map(|(segment, _)| segment.ifindex).collect()
        };
        let (clients, servers) = (with_role(CLIENT_FACING), with_role(SERVER_FACING));
        let mut found = BTreeMap::new();
        loop {
            let is_generic = |nic: &u32| generic.contains(nic) || found.contains_key(nic);
            let egresses: Vec<u32> = servers.iter().copied().filter(is_generic).collect();
            let next = clients.iter().filter(|&nic| !is_generic(nic)).find_map(|&nic| {
                let egress = egresses.iter().find(|&&egress| egress != nic)?;
                Some((nic, *egress))
            });
            match next {
                Some((nic, egress)) => found.insert(nic, egress),
                None => return found,
            };
        }
    }
}

async fn peer_runs_xdp(net: &RouteNetlink, nic: &Link) -> bool {
    let Some(peer) = nic.peer else {
        return false;
    };
    match net.peer(peer).await {
        Ok(peer) => peer.and_then(|peer| peer.xdp).is_some_and(|xdp| xdp.native),
        Err(error) => {
            tracing::debug!("{:#}", anyhow::Error::from(error));
            false
        }
    }
}
