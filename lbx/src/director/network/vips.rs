//! The addresses clients connect to: put on the primary NIC (the first of `interface`), announced, removed with their last service.

use std::{collections::BTreeSet, net::IpAddr};

use super::{neighbours::NeighbourTable, topology::Topology};
use crate::{
    desired::Desired,
    net::{Added, Address, Net, NetError},
};

/// Announcements of a new VIP, a second apart: a switch may miss the first (RFC 5227 section 2.3 asks for two, RFC 4861
/// section 7.2.6 for up to three).
pub const ANNOUNCEMENTS: u32 = 3;

/// What of the VIPs is on the primary NIC, and announced.
#[derive(Debug, Default)]
pub struct Vips {
    /// Announcements still due, one a second.
    due: u32,
    /// Device and MAC address the VIPs were last announced with.
    announced: Option<(u32, [u8; 6])>,
    /// The VIPs that this daemon added itself.
    added: BTreeSet<IpAddr>,
}

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
async fn remove(net: &Net, vips: impl IntoIterator<Item = &Address>) -> Result<(), NetError> {
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

impl Vips {
    /// The VIPs that this daemon added itself.
    #[must_use]
    pub const fn added(&self) -> &BTreeSet<IpAddr> {
        &self.added
    }

    /// Has all VIPs announced again.
    pub fn announce_again(&mut self) {
        self.announced = None;
    }

    /// Puts every wanted VIP on the primary NIC and has it announced; removes those of `before` that are no longer wanted.
    ///
    /// # Errors
    /// The kernel refuses one: the first; all are tried.
    pub async fn reconcile(
        &mut self,
        net: &Net,
        topology: &Topology,
        wanted: BTreeSet<IpAddr>,
        before: &BTreeSet<IpAddr>,
    ) -> Result<(), NetError> {
        let primary = topology.primary;
        let present = net.addresses().await?;
        // VIPs no longer wanted, and those that a former primary NIC still has.
        let stale = present.iter().filter(|address| {
            let in_place = Some(address.ifindex) == primary && wanted.contains(&address.address);
            !in_place && (before.contains(&address.address) || wanted.contains(&address.address))
        });
        let removed = remove(net, stale).await;
        let device = primary.and_then(|primary| topology.device(primary));
        let added = match primary {
            Some(primary) => {
                let interface = device.map(|device| device.name.as_str());
                self.add(net, (primary, interface), wanted, &present).await
            }
            // A missing NIC is a mismatch, and logged as one.
            None => Ok(()),
        };
        let here = device.map(|device| (device.index, device.mac));
        if self.announced != here {
            self.announced = here;
            self.due = ANNOUNCEMENTS;
        }
        removed.and(added)
    }

    /// Adds VIPs to the primary NIC where they are missing. All are tried; the error is the first.
    async fn add(
        &mut self,
        net: &Net,
        (primary, interface): (u32, Option<&str>),
        wanted: BTreeSet<IpAddr>,
        present: &[Address],
    ) -> Result<(), NetError> {
        let mut first = Ok(());
        for (vip, added) in net.add_vips(primary, wanted, present).await {
            match added {
                Ok(Added::New) => {
                    self.added.insert(vip);
                    self.due = ANNOUNCEMENTS;
                    tracing::info!(%vip, interface, "VIP added");
                }
                Ok(Added::AlreadyOurs) => {}
                Ok(Added::AlreadyTheirs) => {
                    tracing::info!(%vip, interface, "VIP is on the interface already; it stays when lbx stops");
                }
                Err(error) => first = first.and(Err(error)),
            }
        }
        first
    }

    /// Announces the VIPs, if that is still due.
    pub fn announce_vips(&mut self, neighbours: &mut NeighbourTable, vips: impl IntoIterator<Item = IpAddr>) {
        let Some(left) = self.due.checked_sub(1) else {
            return;
        };
        self.due = left;
        let Some((ifindex, mac)) = self.announced else {
            return;
        };
        if let Err(error) = neighbours.announce_vips(ifindex, mac, vips) {
            tracing::warn!(error = %anyhow::Error::from(error), "cannot announce the VIPs");
        }
    }
}

/// Takes VIPs off the primary NIC.
///
/// # Errors
/// The kernel refuses one: the first; all are tried.
pub async fn remove_from_primary(net: &Net, topology: &Topology, vips: &BTreeSet<IpAddr>) -> Result<(), NetError> {
    let present = net.addresses().await?;
    let here = |address: &&Address| Some(address.ifindex) == topology.primary && vips.contains(&address.address);
    remove(net, present.iter().filter(here)).await
}
