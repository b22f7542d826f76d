//! Devices on which the kernel accepts a native XDP program that would lose frames.

use std::collections::BTreeMap;

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
