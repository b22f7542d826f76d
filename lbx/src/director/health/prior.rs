//! What was loaded before a desired state: states and checks that go on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    desired::{DesiredState, VirtualService},
    health::probe_plan::{LastCheck, ProbePlan, ServerKey, checked_port},
};

/// What was loaded before a desired state.
pub struct PriorConfiguration<'f> {
    /// The states of real servers.
    pub prior_states: &'f PriorStateLookup<'f>,
    /// Services that had another identity: the former one by the new one.
    pub renamed: BTreeMap<VirtualService, VirtualService>,
    /// Real servers that are out of the file and still have flows, by the service's new identity.
    pub removed_servers: BTreeSet<ServerKey>,
    /// Whether a former daemon has left it: the last checks are not known then.
    pub is_adopted: bool,
}

/// The state of a real server before this check of it began.
#[derive(Clone, Copy, Debug)]
pub struct PriorState {
    /// Whether it was up.
    pub up: bool,
    /// The weight it had.
    pub weight: Option<u16>,
}

/// The state of real servers before their checks begin.
pub type PriorStateLookup<'b> = dyn Fn(ServerKey) -> Option<PriorState> + 'b;

impl PriorConfiguration<'_> {
    /// The real server by the former identity of its service.
    #[must_use]
    pub fn former_key(&self, (service, address): ServerKey) -> ServerKey {
        (self.renamed.get(&service).copied().unwrap_or(service), address)
    }

    /// The last checks of real servers that are out of the file: those of the former plan, or after an adoption those that their
    /// services have now.
    #[must_use]
    pub fn last_checks(&self, desired: &DesiredState, former_plan: &ProbePlan) -> Vec<LastCheck> {
        let last = |&server: &ServerKey| {
            if let Some(target) = former_plan.targets_for(self.former_key(server)).first() {
                return Some(LastCheck {
                    server,
                    health: Arc::clone(&target.health),
                    port: target.port,
                });
            }
            let mut services = desired.services.iter().filter(|_| self.is_adopted);
            let service = services.find(|service| service.virtual_service == server.0)?;
            let health = service.health.as_ref()?;
            Some(LastCheck {
                server,
                health: Arc::clone(health),
                port: checked_port(server.0, health),
            })
        };
        self.removed_servers.iter().filter_map(last).collect()
    }
}
