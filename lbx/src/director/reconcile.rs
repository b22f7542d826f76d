//! From a desired state to what is loaded: the one way for start, reload, and every event in between.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use tokio::time::Instant;

use super::{
    Director, DirectorError,
    configuration::resolve_timeout,
    health::{
        HealthView,
        prior::{PriorConfiguration, PriorState},
    },
    network::{neighbours::NeighbourTable, nics, topology::Topology, vips},
};
use crate::{
    config,
    dataplane::clock,
    desired::DesiredState,
    health::probe_plan::ServerKey,
    tables::{Plan, Tables, event::TableEvent},
};

/// How far a desired state has come into force.
#[derive(Debug)]
pub(super) enum ReconcileOutcome {
    /// Wholly.
    Complete,
    /// Its services and real servers have; NICs or VIPs do not follow yet, and are tried again every second.
    NicsOrVipsPending(DirectorError),
}

/// Between two looks at what real servers have answered before the loop runs.
const RESOLVE_INTERVAL_AT_START: Duration = Duration::from_millis(10);

impl Director {
    /// Reads the configuration file again: validated whole before the first change, or refused whole. It is loaded by
    /// [`Director::commit_reload`] once the MAC addresses of its real servers are known.
    ///
    /// # Errors
    /// See [`DirectorError`]; what was loaded stays.
    pub(super) async fn prepare_reload(&mut self) -> Result<(), DirectorError> {
        let desired = config::load(&self.configuration.file)?;
        let draining = self.draining();
        self.network.prepare_pending_configuration(&desired, &draining).await?;
        let unresolved = self.network.pending_unresolved_count();
        self.configuration.set_pending(desired, unresolved);
        if unresolved > 0 {
            let config = self.configuration.file.display();
            tracing::info!(%config, "configuration read; resolving MAC addresses of real servers before it is loaded");
        }
        Ok(())
    }

    /// Loads a configuration whose preparation has ended.
    ///
    /// # Errors
    /// See [`DirectorError`]; what was loaded stays.
    pub(super) async fn commit_reload(&mut self, desired: DesiredState) -> Result<ReconcileOutcome, DirectorError> {
        let draining = self.draining();
        // The network may have changed while MAC addresses were resolved.
        let topology = Topology::resolve(&self.network.netlink, &desired, &draining).await?;
        let neighbours = self.network.neighbours_after_reload(&topology);
        let outcome = self.reconcile(desired, topology, neighbours).await?;
        self.loaded.log_table_size_mismatches(&self.configuration.desired);
        self.network.check_netfilter_rules(&self.configuration.desired);
        log_unresolved(&self.configuration.desired, &self.network.neighbours);
        // It matches as a whole, or it would have been refused.
        self.network.mismatch.clear();
        Ok(outcome)
    }

    /// Follows a network that has changed, as far as it matches: one bad NIC or real server keeps no other from working. Returns
    /// what was left out, and why.
    pub(super) async fn reconcile_network(&mut self) -> Result<Vec<String>, DirectorError> {
        let desired = self.configuration.desired.clone();
        let draining = self.draining();
        let (mut topology, mismatches) = self.network.reread_topology(&desired, &draining).await?;
        let refused = nics::attach_usable(
            &mut self.loaded.dataplane,
            &mut self.network.offloads,
            &mut topology,
            desired.mode,
        )?;
        let neighbours = self.network.neighbours_after_change(&topology);
        let pending = match self.reconcile(desired, topology, neighbours).await? {
            ReconcileOutcome::Complete => None,
            ReconcileOutcome::NicsOrVipsPending(error) => Some(anyhow::Error::from(error)),
        };
        let mismatches = mismatches.into_iter().map(anyhow::Error::from);
        let refused = refused.into_iter().map(anyhow::Error::from);
        Ok(mismatches
            .chain(refused)
            .chain(pending)
            .map(|reason| format!("{reason:#}"))
            .collect())
    }

    /// Real servers that are loaded: those that the configuration no longer names drain.
    pub(super) fn draining(&self) -> Vec<IpAddr> {
        self.loaded.tables.backend_addresses().collect()
    }

    /// Brings everything to a desired state on a network: NICs, tables, VIPs.
    ///
    /// # Errors
    /// The tables cannot be brought to it; they and everything else stay what they were.
    async fn reconcile(
        &mut self,
        desired: DesiredState,
        topology: Topology,
        mut neighbours: NeighbourTable,
    ) -> Result<ReconcileOutcome, DirectorError> {
        neighbours.on_kernel_table(&self.network.netlink.neighbours().await?);
        let before = self.network.replace_topology(topology, neighbours);
        if let Err(error) = self.reconcile_tables(&desired) {
            // NICs that were attached on the way have no role and pass everything; they are detached with the next success.
            self.network.restore(before).await?;
            self.loaded.retry_later();
            return Err(error);
        }
        let vips = vips::desired_vips(&self.configuration.desired);
        self.configuration.desired = desired;
        Ok(match self.reconcile_nics_and_vips(&vips).await {
            Ok(()) => ReconcileOutcome::Complete,
            Err(error) => {
                // The tables are the new ones: the rest is tried again until it follows.
                self.network.mismatch.request_recheck();
                ReconcileOutcome::NicsOrVipsPending(error)
            }
        })
    }

    /// What follows the tables: roles of NICs, and VIPs.
    pub(super) async fn reconcile_nics_and_vips(&mut self, vips: &BTreeSet<IpAddr>) -> Result<(), DirectorError> {
        nics::set_roles(&mut self.loaded.dataplane, &self.network.topology)?;
        nics::detach_others(&mut self.loaded.dataplane, &self.network.topology)?;
        self.network.restore_unused_offloads();
        self.self_test.request();
        self.reconcile_local_traffic();
        self.health.sync_probes();
        let wanted = vips::desired_vips(&self.configuration.desired);
        let reconciled = self.network.reconcile_vips(wanted, vips).await;
        self.network.announce_vips(self.loaded.tables.vips());
        Ok(reconciled?)
    }

    pub(super) fn reconcile_local_traffic(&mut self) {
        self.network.local_traffic.reconcile(
            &mut self.loaded.dataplane,
            &self.network.topology,
            &self.configuration.desired,
            self.health.probes_vips(),
        );
    }

    fn reconcile_tables(&mut self, desired: &DesiredState) -> Result<(), DirectorError> {
        let view = self.evaluate(desired, false);
        let plan = self.plan(&view)?;
        self.attach(desired)?;
        self.commit(plan, view)
    }

    /// Attaches the program to every NIC in use.
    pub(super) fn attach(&mut self, desired: &DesiredState) -> Result<(), DirectorError> {
        nics::attach(
            &mut self.loaded.dataplane,
            &mut self.network.offloads,
            &mut self.network.topology,
            desired.mode,
        )?;
        Ok(())
    }

    /// Resolves the MAC addresses of all real servers at the start, before the loop runs; waits a moment for those that do not
    /// answer.
    pub(super) async fn resolve_at_start(&mut self) -> Result<(), DirectorError> {
        let network = &mut self.network;
        network.neighbours.set_topology(&network.topology);
        network.read_kernel_neighbours().await?;
        let deadline = Instant::now() + resolve_timeout(network.neighbours.unresolved_count());
        network.resolve_neighbours();
        while network.neighbours.unresolved_count() > 0 && Instant::now() < deadline {
            tokio::time::sleep(RESOLVE_INTERVAL_AT_START).await;
            network.resolve_neighbours();
        }
        log_unresolved(&self.configuration.desired, &network.neighbours);
        Ok(())
    }

    /// Plans again with the next hops and the health of now. Checks of real servers that have drained end.
    pub(super) fn replan(&mut self) -> Result<(), DirectorError> {
        let desired = &self.configuration.desired;
        let resolved = |server| self.network.neighbours.is_resolved(server);
        let view = if self.have_removed_servers_changed() {
            self.evaluate(desired, false)
        } else {
            self.health.reevaluate(desired, resolved)
        };
        let plan = self.plan(&view)?;
        self.commit(plan, view)?;
        self.health.sync_probes();
        Ok(())
    }

    /// Whether real servers that are out of the file have drained, or have been cut, since the last plan; or a drain timeout is
    /// over.
    pub(super) fn is_drain_due(&self) -> bool {
        let tables = &self.loaded.tables;
        self.have_removed_servers_changed()
            || tables.is_drain_timeout_over(&self.configuration.desired, clock::current_tick())
    }

    fn have_removed_servers_changed(&self) -> bool {
        self.loaded.tables.draining_servers() != *self.health.removed_servers()
    }

    /// A new desired state as far as health allows; `adopted`: what is loaded is a former daemon's.
    pub(super) fn evaluate(&self, desired: &DesiredState, adopted: bool) -> HealthView {
        let tables = &self.loaded.tables;
        let former = PriorConfiguration {
            prior_states: &|server| prior_state(tables, adopted, server),
            renamed: tables.former_identities(desired),
            removed_servers: tables.removed_servers(desired),
            is_adopted: adopted,
        };
        let resolved = |server| self.network.neighbours.is_resolved(server);
        self.health.evaluate(desired, former, resolved)
    }

    pub(super) fn plan(&self, view: &HealthView) -> Result<Plan, DirectorError> {
        self.loaded.plan(&view.effective_state, &self.network.next_hops())
    }

    /// Executes the plan for a health view, which comes into force with it.
    pub(super) fn commit(&mut self, plan: Plan, view: HealthView) -> Result<(), DirectorError> {
        let planned = self.loaded.execute(plan)?;
        self.self_test.request();
        let events = self.health.commit(view);
        self.health.set_paths(self.network.server_paths());
        // One line for one change: health knows the reason.
        let planned = planned
            .iter()
            .filter(|event| !self.health.is_already_logged(&events, event));
        planned.for_each(TableEvent::log);
        self.health.log_and_notify(&events);
        Ok(())
    }
}

/// The state of a real server before it was checked: up unless it has failed. One that is not among those of a former daemon
/// (`adopted`) was down.
fn prior_state(tables: &Tables, adopted: bool, (id, address): ServerKey) -> Option<PriorState> {
    let loaded = tables.services.get(&id)?;
    match loaded.usable_backend(address) {
        Some((_, member)) => Some(PriorState {
            up: !member.state.has_failed(),
            weight: Some(member.weight),
        }),
        None => adopted.then_some(PriorState {
            up: false,
            weight: None,
        }),
    }
}

fn log_unresolved(desired: &DesiredState, neighbours: &NeighbourTable) {
    for service in &desired.services {
        for server in service
            .server_addresses()
            .filter(|server| !neighbours.is_resolved(*server))
        {
            tracing::warn!(
                service = service.name,
                real_server = %server,
                "MAC address of real server {server} not resolved: no connections until it answers"
            );
        }
    }
}
