//! Real servers that are out of the file and still have flows.

use std::{
    collections::{BTreeSet, HashSet},
    net::IpAddr,
    sync::Arc,
};

use super::{
    Tables,
    flow_policy::ticks_of_seconds,
    service::{LoadedBackend, LoadedService},
};
use crate::desired::{DesiredState, VirtualService};

impl Tables {
    /// The real servers that have, or will have, flows of a service of the desired state and are not in it: by the service's
    /// identity there.
    #[must_use]
    pub fn removed_servers(&self, desired: &DesiredState) -> BTreeSet<(VirtualService, IpAddr)> {
        let renamed = self.former_identities(desired);
        let mut removed = BTreeSet::new();
        for service in &desired.services {
            let id = service.virtual_service;
            let Some(loaded) = self.services.get(renamed.get(&id).unwrap_or(&id)) else {
                continue;
            };
            let addresses: HashSet<IpAddr> = service.server_addresses().collect();
            let is_removed =
                |member: &&LoadedBackend| member.state.may_own_flows() && !addresses.contains(&member.address);
            let members = loaded.backends.values().filter(is_removed);
            removed.extend(members.map(|member| (id, member.address)));
        }
        removed
    }

    /// Likewise for the desired state that is loaded.
    #[must_use]
    pub fn draining_servers(&self) -> BTreeSet<(VirtualService, IpAddr)> {
        let is_draining = |member: &&LoadedBackend| !member.is_configured() && member.state.may_own_flows();
        let of_service = |(&id, loaded): (&VirtualService, &'_ Arc<LoadedService>)| {
            let members = loaded.backends.values().filter(is_draining);
            members.map(|member| (id, member.address)).collect::<Vec<_>>()
        };
        self.services.iter().flat_map(of_service).collect()
    }

    /// Whether a drain timeout of the desired state, which is loaded, is over: a plan cuts the flows that are left.
    #[must_use]
    pub fn is_drain_timeout_over(&self, desired: &DesiredState, now: u32) -> bool {
        desired.services.iter().any(|service| {
            let loaded = self.services.get(&service.virtual_service);
            let timeout = service.drain_timeout_seconds.map(ticks_of_seconds);
            loaded.zip(timeout).is_some_and(|(loaded, timeout)| {
                let mut members = loaded.backends.values();
                members.any(|member| member.drain_ticks_left(timeout, now) == Some(0))
            })
        })
    }
}
