//! The addresses clients connect to: put on the first NIC, announced, removed with their last service.

use std::{collections::BTreeSet, net::IpAddr};

use super::{Director, DirectorError};
use crate::{
    desired::Desired,
    net::{Added, Address, Net, NetError},
};

/// Announcements of a new VIP, a second apart: a switch may miss the first (RFC 5227 section 2.3 asks for two, RFC 4861
/// section 7.2.6 for up to three).
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

/// Removes those addresses that are VIPs an lbx has put on a NIC. All are tried.
///
/// # Errors
/// The kernel refuses one: the first.
pub async fn remove(net: &Net, vips: impl IntoIterator<Item = &Address>) -> Result<(), NetError> {
    let mut first = Ok(());
    for (Address { address, .. }, removed) in net.remove_vips(vips).await {
        match removed {
            Ok(true) => tracing::info!(vip = %address, "VIP removed"),
            Ok(false) => {}
            Err(error) => first = first.and(Err(error)),
        }
    }
    first
}

impl Director {
    /// Puts every VIP of the desired state on the first NIC and announces it; removes those of before that are no longer.
    pub(super) async fn follow_vips(&mut self, before: &BTreeSet<IpAddr>) -> Result<(), DirectorError> {
        let primary = self.topology.primary;
        let wanted = of(&self.desired);
        let present = self.net.addresses().await?;
        // VIPs no longer wanted, and those a former primary NIC still has.
        let stale = present.iter().filter(|address| {
            let at_home = Some(address.ifindex) == primary && wanted.contains(&address.address);
            !at_home && (before.contains(&address.address) || wanted.contains(&address.address))
        });
        let removed = remove(&self.net, stale).await;
        let added = match primary {
            Some(primary) => self.add_vips(primary, wanted, &present).await,
            // It is a misfit, and told as one.
            None => Ok(()),
        };
        let device = primary.and_then(|primary| self.topology.device(primary));
        let here = device.map(|device| (device.index, device.mac));
        if self.announced != here {
            self.announced = here;
            self.announcements = ANNOUNCEMENTS;
        }
        self.announce();
        Ok(removed.and(added)?)
    }

    /// Takes VIPs off the first NIC.
    pub(super) async fn remove_vips(&self, vips: &BTreeSet<IpAddr>) -> Result<(), NetError> {
        let present = self.net.addresses().await?;
        let here =
            |address: &&Address| Some(address.ifindex) == self.topology.primary && vips.contains(&address.address);
        remove(&self.net, present.iter().filter(here)).await
    }

    /// Adds VIPs to the first NIC where they are missing. All are tried; the error is the first.
    async fn add_vips(&mut self, primary: u32, wanted: BTreeSet<IpAddr>, present: &[Address]) -> Result<(), NetError> {
        let interface = self.topology.device(primary).map(|device| device.name.clone());
        let mut first = Ok(());
        for (vip, added) in self.net.add_vips(primary, wanted, present).await {
            match added {
                Ok(Added::New) => {
                    self.added_vips.insert(vip);
                    self.announcements = ANNOUNCEMENTS;
                    tracing::info!(%vip, interface, "VIP added");
                }
                Ok(Added::AlreadyOurs) => {}
                Ok(Added::AlreadyTheirs) => {
                    tracing::info!(%vip, "the VIP is on the interface already and will stay there when lbx stops");
                }
                Err(error) => first = first.and(Err(error)),
            }
        }
        first
    }

    /// Announces every VIP, as often as still due.
    pub(super) fn announce(&mut self) {
        let Some(left) = self.announcements.checked_sub(1) else {
            return;
        };
        self.announcements = left;
        let Some((ifindex, mac)) = self.announced else {
            return;
        };
        let vips = self.tables.vips();
        if let Err(error) = self.neighbourhood.announce(ifindex, mac, vips) {
            tracing::warn!(error = %anyhow::Error::from(error), "cannot announce the VIPs");
        }
    }
}
