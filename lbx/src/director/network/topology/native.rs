//! Devices on which the kernel accepts a native XDP program that would lose frames.

use std::collections::BTreeMap;

use crate::net::{DeviceKind, Link, Net};

/// Why a native program would lose frames on a NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NativeObstacle {
    /// It runs on the members of the bond, and frames carry their indices.
    #[error("native XDP on a bond runs on its members, which lbx does not serve one by one")]
    Bond,
    /// The other end of a veth device throws frames of XDP_TX away unless it runs an XDP program itself
    /// (`veth_xdp_flush` in drivers/net/veth.c).
    #[error(
        "the other end of this veth device runs no XDP program, or cannot be seen from here, and would drop what native XDP sends"
    )]
    VethPeer,
}

impl NativeObstacle {
    /// Those of NICs, by their indices.
    pub async fn find(net: &Net, nics: impl Iterator<Item = &Link>) -> BTreeMap<u32, Self> {
        let mut obstacles = BTreeMap::new();
        for nic in nics {
            let obstacle = match nic.kind {
                DeviceKind::Bond | DeviceKind::Team => Some(Self::Bond),
                DeviceKind::Veth if !peer_runs_xdp(net, nic).await => Some(Self::VethPeer),
                _ => None,
            };
            obstacles.extend(obstacle.map(|obstacle| (nic.index, obstacle)));
        }
        obstacles
    }
}

async fn peer_runs_xdp(net: &Net, nic: &Link) -> bool {
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
