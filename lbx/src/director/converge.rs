//! From a desired state to what is loaded: the one way for start, reload, and whatever happens in between.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use tokio::time::Instant;

use super::{Director, DirectorError, RESOLVE_PATIENCE, checks::Outlook, nics, topology::Topology, vips};
use crate::{
    config,
    dataplane::clock,
    desired::Desired,
    tables::{Plan, scan::FlowScan},
};

impl Director {
    /// Takes a new configuration: validated whole before the first change, or refused whole.
    ///
    /// # Errors
    /// See [`DirectorError`]; what was loaded stays.
    pub async fn reload(&mut self) -> Result<(), DirectorError> {
        let desired = config::load(&self.config)?;
        let draining: Vec<_> = self.tables.addresses().collect();
        let topology = Topology::resolve(&self.net, &desired, &draining).await?;
        self.announced = None;
        self.converge(desired, topology, RESOLVE_PATIENCE).await?;
        self.tell_sizes();
        // It fits whole, or it would have been refused.
        self.misfit.clear();
        Ok(())
    }

    /// Follows a network that has changed, as far as it goes: one bad NIC or real server keeps no other from working.
    /// What does not fit is left out and told.
    pub(super) async fn refit(&mut self) -> Result<Vec<String>, DirectorError> {
        let desired = self.desired.clone();
        let draining: Vec<_> = self.tables.addresses().collect();
        let (mut topology, misfits) = self.topology.refit(&self.net, &desired, &draining).await?;
        let refused = nics::attach_what_can_be(&mut self.dataplane, &mut self.offloads, &mut topology, desired.mode)?;
        self.converge(desired, topology, Duration::ZERO).await?;
        let misfits = misfits.into_iter().map(anyhow::Error::from);
        let refused = refused.into_iter().map(anyhow::Error::from);
        Ok(misfits.chain(refused).map(|reason| format!("{reason:#}")).collect())
    }

    /// Leads everything to a desired state on a network: NICs, tables, VIPs. Waits so long for the MAC addresses of new
    /// real servers.
    pub(super) async fn converge(
        &mut self,
        desired: Desired,
        topology: Topology,
        patience: Duration,
    ) -> Result<(), DirectorError> {
        let before = std::mem::replace(&mut self.topology, topology);
        let known = self.neighbourhood.known();
        if let Err(error) = self.converge_tables(&desired, patience).await {
            // NICs that were attached on the way have no role and pass everything; they go with the next success.
            self.topology = before;
            self.neighbourhood.restore(known);
            // What was heard on the way is news to the tables.
            self.neighbourhood.read(&self.net).await?;
            self.unsettled = true;
            return Err(error);
        }
        let vips = vips::of(&self.desired);
        self.desired = desired;
        let done = self.converge_surroundings(&vips).await;
        if done.is_err() {
            // The tables are the new ones: the rest is tried again until it follows.
            self.look_again = true;
        }
        done
    }

    /// What follows the tables: roles of NICs, and VIPs.
    pub(super) async fn converge_surroundings(&mut self, vips: &BTreeSet<IpAddr>) -> Result<(), DirectorError> {
        nics::set_roles(&mut self.dataplane, &self.topology)?;
        nics::leave_others(&mut self.dataplane, &self.topology)?;
        self.offloads
            .restore(|ifindex| self.topology.nics.contains_key(&ifindex));
        self.follow_own_traffic();
        self.checks.follow();
        self.follow_vips(vips).await
    }

    pub(super) async fn converge_tables(&mut self, desired: &Desired, patience: Duration) -> Result<(), DirectorError> {
        self.resolve(desired, patience).await?;
        let outlook = self.outlook(desired, false);
        let plan = self.plan(&outlook)?;
        nics::attach(&mut self.dataplane, &mut self.offloads, &self.topology, desired.mode)?;
        self.go(plan, outlook)
    }

    /// Learns the MAC addresses of all real servers; gives those that do not answer a moment.
    pub(super) async fn resolve(&mut self, desired: &Desired, patience: Duration) -> Result<(), DirectorError> {
        self.neighbourhood.follow(&self.topology);
        self.neighbourhood.read(&self.net).await?;
        if patience.is_zero() {
            return Ok(());
        }
        let deadline = Instant::now() + patience;
        while self.neighbourhood.incomplete() && Instant::now() < deadline {
            self.neighbourhood.ask(&self.net, &self.topology).await;
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                self.neighbourhood.read(&self.net).await?;
                if !self.neighbourhood.incomplete() {
                    break;
                }
            }
        }
        for service in &desired.services {
            for server in service.addresses().filter(|server| !self.neighbourhood.knows(*server)) {
                tracing::warn!(
                    service = service.name,
                    %server,
                    "the real server does not tell its MAC address: no connections go there until it does"
                );
            }
        }
        Ok(())
    }

    /// Plans anew with the hops there are now, and what is known of the real servers.
    pub(super) fn replan(&mut self) -> Result<(), DirectorError> {
        let outlook = self
            .checks
            .again(&self.desired, |server| self.neighbourhood.knows(server));
        let plan = self.plan(&outlook)?;
        self.go(plan, outlook)
    }

    /// What health makes of a new desired state; `adopted`: what is loaded is a former daemon's.
    pub(super) fn outlook(&self, desired: &Desired, adopted: bool) -> Outlook {
        let before = |place| Self::stood(&self.tables, adopted, place);
        self.checks
            .outlook(desired, &before, |server| self.neighbourhood.knows(server))
    }

    pub(super) fn plan(&self, outlook: &Outlook) -> Result<Plan, DirectorError> {
        let hops = self.neighbourhood.hops(&self.topology);
        Ok(self.tables.plan(&outlook.desired, &hops, clock::now())?)
    }

    /// Carries out the plan for what health makes of a desired state.
    pub(super) fn go(&mut self, plan: Plan, outlook: Outlook) -> Result<(), DirectorError> {
        self.carry_out(plan)?;
        let events = self.checks.accept(outlook);
        self.checks.reach(self.reached());
        self.tell_health(&events);
        Ok(())
    }

    /// Carries out a plan and tells of it. If the kernel refuses half-way, the tables are read back: the next plan starts
    /// from what is really there.
    pub(super) fn carry_out(&mut self, plan: Plan) -> Result<(), DirectorError> {
        match self.dataplane.apply(&plan.writes) {
            Ok(()) => self.tables = plan.tables,
            Err(error) => {
                self.tables = self.dataplane.read_tables(clock::now())?;
                self.unsettled = true;
                return Err(error.into());
            }
        }
        for event in &plan.events {
            event.log();
        }
        Ok(())
    }

    /// Counts all flows now.
    pub(super) fn scan(&self) -> FlowScan {
        self.dataplane.sweep(&self.tables, clock::now())
    }
}
