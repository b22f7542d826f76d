//! The addresses clients connect to: put on the primary NIC (the first of `interface`), removed with their last service.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::topology::Topology;
use crate::{
    desired::DesiredState,
    net::{AddVipOutcome, InterfaceAddress, NetError, RouteNetlink},
};

/// The VIPs on the primary NIC.
#[derive(Debug, Default)]
pub struct Vips {
    /// The VIPs that this daemon added itself.
    added: BTreeSet<IpAddr>,
    /// Those added since [`Vips::take_new`].
    new: BTreeSet<IpAddr>,
    /// VIPs that were on a NIC before lbx, and its index: their owner (keepalived, a network manager) adds and removes them.
    owned: BTreeMap<IpAddr, u32>,
}

/// The VIPs of a desired state.
#[must_use]
pub fn desired_vips(desired: &DesiredState) -> BTreeSet<IpAddr> {
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
async fn remove(net: &RouteNetlink, vips: impl IntoIterator<Item = &InterfaceAddress>) -> Result<(), NetError> {
    let mut first = Ok(());
    for (InterfaceAddress { address, .. }, removed) in net.remove_vips(vips).await {
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

    /// Whether a VIP was there before lbx: it is not added again when its owner removes it.
    #[must_use]
    pub fn is_preexisting(&self, vip: IpAddr) -> bool {
        self.owned.contains_key(&vip)
    }

    /// The VIPs added since the last call.
    pub fn take_new(&mut self) -> BTreeSet<IpAddr> {
        std::mem::take(&mut self.new)
    }

    /// Puts every wanted VIP on the primary NIC; removes those of `before` that are no longer wanted.
    ///
    /// # Errors
    /// The kernel refuses one: the first; all are tried.
    pub async fn reconcile(
        &mut self,
        net: &RouteNetlink,
        topology: &Topology,
        wanted: BTreeSet<IpAddr>,
        before: &BTreeSet<IpAddr>,
    ) -> Result<(), NetError> {
        let primary = topology.primary_ifindex;
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
        removed.and(added)
    }

    /// Adds VIPs to the primary NIC where they are missing. All are tried; the error is the first.
    async fn add(
        &mut self,
        net: &RouteNetlink,
        (primary, interface): (u32, Option<&str>),
        wanted: BTreeSet<IpAddr>,
        present: &[InterfaceAddress],
    ) -> Result<(), NetError> {
        let mut first = Ok(());
        self.owned
            .retain(|vip, ifindex| *ifindex == primary && wanted.contains(vip));
        let is_there = |vip: &IpAddr| {
            let mut present = present.iter();
            present.any(|address| address.ifindex == primary && address.address == *vip)
        };
        let wanted = wanted
            .into_iter()
            .filter(|vip| !self.is_preexisting(*vip) || is_there(vip));
        let wanted: Vec<IpAddr> = wanted.collect();
        for (vip, added) in net.add_vips(primary, wanted, present).await {
            match added {
                Ok(AddVipOutcome::Added) => {
                    self.added.insert(vip);
                    self.new.insert(vip);
                    tracing::info!(%vip, interface, "VIP added");
                }
                Ok(AddVipOutcome::PresentFromLbx) => {}
                Ok(AddVipOutcome::PresentFromOther) => {
                    if self.owned.insert(vip, primary).is_none() {
                        tracing::info!(%vip, interface, "VIP is on the interface already; lbx neither adds nor removes it");
                    }
                }
                Err(error) => first = first.and(Err(error)),
            }
        }
        first
    }
}

/// Takes VIPs off the primary NIC.
///
/// # Errors
/// The kernel refuses one: the first; all are tried.
pub async fn remove_vips_from_primary(
    net: &RouteNetlink,
    topology: &Topology,
    vips: &BTreeSet<IpAddr>,
) -> Result<(), NetError> {
    let present = net.addresses().await?;
    let here = |address: &&InterfaceAddress| {
        Some(address.ifindex) == topology.primary_ifindex && vips.contains(&address.address)
    };
    remove(net, present.iter().filter(here)).await
}
