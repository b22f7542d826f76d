//! The addresses clients connect to: put on the first NIC, announced, removed with their last service.

use std::{collections::BTreeSet, net::IpAddr};

use super::{Director, DirectorError};
use crate::{
    desired::Desired,
    net::{Added, Net, NetError},
};

/// Announcements of a new VIP, a second apart: a switch may miss the first (RFC 5227 section 2.3 asks for two).
pub const ANNOUNCEMENTS: u32 = 3;

/// The VIPs of a desired state.
#[must_use]
pub fn of(desired: &Desired) -> BTreeSet<IpAddr> {
    desired
        .services
        .iter()
        .map(|service| service.virtual_service.vip)
        .collect()
}

/// Removes a VIP from a NIC if an lbx put it there.
///
/// # Errors
/// The kernel refuses.
pub async fn remove(net: &Net, ifindex: u32, vip: IpAddr) -> Result<(), NetError> {
    if net.remove_vip(ifindex, vip).await? {
        tracing::info!(%vip, "VIP removed");
    }
    Ok(())
}

impl Director {
    /// Puts every VIP of the desired state on the first NIC and announces it; removes those of before that are no longer.
    pub(super) async fn follow_vips(&mut self, before: &BTreeSet<IpAddr>) -> Result<(), DirectorError> {
        let primary = self.topology.primary;
        let wanted = of(&self.desired);
        let present = self.net.addresses().await?;
        // VIPs no longer wanted, and those a former primary NIC still has.
        let stale = present.iter().filter(|address| {
            let at_home = address.ifindex == primary && wanted.contains(&address.address);
            address.ours && !at_home && (before.contains(&address.address) || wanted.contains(&address.address))
        });
        for address in stale {
            remove(&self.net, address.ifindex, address.address).await?;
        }
        let there = |vip| {
            present
                .iter()
                .any(|a| a.ours && a.ifindex == primary && a.address == vip)
        };
        for &vip in wanted.iter().filter(|&&vip| !there(vip)) {
            match self.net.add_vip(primary, vip).await? {
                Added::New => {
                    self.added_vips.insert(vip);
                    tracing::info!(%vip, interface = self.interface(primary), "VIP added");
                }
                Added::AlreadyOurs => {}
                Added::AlreadyTheirs => {
                    tracing::info!(%vip, "the VIP is on the interface already and will stay there when lbx stops");
                }
            }
        }
        self.announcements = ANNOUNCEMENTS;
        self.announce();
        Ok(())
    }

    /// Announces every VIP, as often as still due.
    pub(super) fn announce(&mut self) {
        let Some(left) = self.announcements.checked_sub(1) else {
            return;
        };
        self.announcements = left;
        let primary = self.topology.primary;
        let Some(nic) = self.topology.nics.get(&primary) else {
            return;
        };
        let vips = self.tables.vips();
        if let Err(error) = self.neighbourhood.announce(primary, nic.link.mac, vips) {
            tracing::warn!(error = %anyhow::Error::from(error), "cannot announce the VIPs");
        }
    }

    pub(super) fn interface(&self, ifindex: u32) -> String {
        let nic = self.topology.nics.get(&ifindex);
        nic.map_or_else(|| format!("interface {ifindex}"), |nic| nic.link.name.clone())
    }
}
