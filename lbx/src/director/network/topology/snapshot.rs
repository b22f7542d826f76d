//! The network as it was at one moment, as far as a topology is made from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
};

use super::TopologyError;
use crate::net::{InterfaceAddress, Link, NetError, Route, RouteNetlink};

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct NetworkSnapshot {
    /// All links by index.
    pub links: BTreeMap<u32, Link>,
    /// All addresses.
    pub addresses: Vec<InterfaceAddress>,
    /// Where the kernel sends what is for each real server.
    pub routes: BTreeMap<IpAddr, Route>,
}

impl NetworkSnapshot {
    /// Reads it, with the routes to these addresses.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn read(net: &RouteNetlink, servers: impl Iterator<Item = IpAddr>) -> Result<Self, NetError> {
        let servers: BTreeSet<_> = servers.collect();
        let links = net.links().await?;
        Ok(Self {
            links: links.into_iter().map(|link| (link.index, link)).collect(),
            addresses: net.addresses().await?,
            routes: net.routes_to(servers).await?,
        })
    }

    /// The device of a name.
    ///
    /// # Errors
    /// There is none.
    pub fn device(&self, name: &str) -> Result<&Link, TopologyError> {
        let device = self.links.values().find(|link| link.name == name);
        device.ok_or_else(|| {
            let known: Vec<_> = self.links.values().map(|link| link.name.as_str()).collect();
            TopologyError::InterfaceMissing {
                name: name.to_owned(),
                known: known.join(", "),
            }
        })
    }

    /// The name of a device, for messages.
    #[must_use]
    pub fn name(&self, ifindex: u32) -> String {
        let link = self.links.get(&ifindex);
        link.map_or_else(|| format!("interface {ifindex}"), |link| link.name.clone())
    }

    /// For each device its IPv6 address besides VIPs, link-local if there is one.
    #[must_use]
    pub fn ipv6_sources(&self, vips: &BTreeSet<IpAddr>) -> BTreeMap<u32, Ipv6Addr> {
        let mut sources: BTreeMap<u32, Ipv6Addr> = BTreeMap::new();
        for present in &self.addresses {
            if let IpAddr::V6(address) = present.address
                && !present.added_by_lbx
                && !vips.contains(&present.address)
            {
                let source = sources.entry(present.ifindex).or_insert(address);
                if address.is_unicast_link_local() {
                    *source = address;
                }
            }
        }
        sources
    }
}
