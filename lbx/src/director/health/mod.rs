//! The health part: which targets are probed, health applied to the desired state, and notifications.
//!
//! - [`prior`]: states and checks that go on from what was loaded before
//! - [`notify`]: commands that are run on events, in the order of `notify_queue`, and `notify_socket`: sockets that are told; `report`: the events in the log
//!
//! ```text
//! Desired → ProbePlan → ProbeThread → Monitors → Services → Desired with health applied → Tables::plan
//! ```

pub mod notification;
pub mod notify;
mod notify_queue;
mod notify_socket;
pub mod prior;
mod report;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    sync::Arc,
    time::Instant,
};

use tokio::sync::mpsc::UnboundedReceiver;

use self::{
    notify::Notifier,
    prior::{PriorConfiguration, PriorState, PriorStateLookup},
};
use super::required_actions::RequiredActions;
use crate::{
    desired::{CheckedAddress, DesiredState, ServerState, Service, VirtualService},
    health::{
        CheckState, HealthEvent, ProbeFailure, ProbeSteering, ServerHealth, ServiceHealthStates,
        probe_plan::{ProbePlan, ProbeTarget, ServerKey},
        probe_thread::{HealthUpdate, ProbePaths, ProbeThread, TargetState},
    },
};

/// The health checks of a director.
#[derive(Debug)]
pub struct HealthChecks {
    probes: ProbeThread,
    updates: UnboundedReceiver<HealthUpdate>,
    notifier: Notifier,
    began: Instant,
    probed: Probed,
    /// The plan that the probing thread has, and the generation up to which it has monitors.
    started: (Arc<ProbePlan>, u64),
    services: ServiceHealthStates,
    /// Why health checks are suspended, as it was logged.
    suspended: BTreeSet<String>,
    /// The desired state with health applied, as it was executed last.
    effective: DesiredState,
    /// The index of each service in it.
    indices: BTreeMap<VirtualService, usize>,
}

/// A desired state with health applied: comes into force when the plan for it has been executed.
#[derive(Debug)]
pub struct HealthView {
    /// The desired state, with health applied.
    pub effective_state: DesiredState,
    /// What is probed, where that may differ from before.
    probed: Option<Probed>,
    services: ServiceHealthStates,
    events: Vec<HealthEvent>,
}

/// What is probed, and the results so far.
#[derive(Debug, Default)]
struct Probed {
    plan: Arc<ProbePlan>,
    /// Of the last monitor that began.
    generation: u64,
    monitors: BTreeMap<ProbeTarget, TargetState>,
    /// Real servers that are out of the file and still have flows: their last checks go on.
    removed_servers: BTreeSet<ServerKey>,
}

impl HealthChecks {
    /// Starts with nothing to check.
    ///
    /// # Errors
    /// The probing thread cannot be started.
    pub fn start(director: &str, steering: Arc<dyn ProbeSteering>, nothing: DesiredState) -> io::Result<Self> {
        let (probes, updates) = ProbeThread::start(steering)?;
        Ok(Self {
            probes,
            updates,
            notifier: Notifier::start(director),
            began: Instant::now(),
            probed: Probed::default(),
            started: (Arc::default(), 0),
            suspended: BTreeSet::new(),
            indices: BTreeMap::new(),
            services: ServiceHealthStates::default(),
            effective: nothing,
        })
    }

    /// Applies health to a new desired state. Checks that stay go on as they are, those of real servers that are out of the file
    /// too; for those that begin, `former` gives the state of the real server.
    #[must_use]
    pub fn evaluate(
        &self,
        desired: &DesiredState,
        former: PriorConfiguration<'_>,
        resolved: impl Fn(IpAddr) -> bool,
    ) -> HealthView {
        let plan = ProbePlan::with_removed(desired, &former.last_checks(desired, &self.probed.plan));
        let mut generation = self.probed.generation;
        let mut monitors = BTreeMap::new();
        for (probe_target, servers) in plan.servers_by_target() {
            let watched = self.probed.monitors.get(probe_target).cloned().unwrap_or_else(|| {
                generation += 1;
                TargetState {
                    generation,
                    check_state: self.begin(probe_target, &servers, &former),
                }
            });
            monitors.insert(probe_target.clone(), watched);
        }
        let probed = Probed {
            plan: Arc::new(plan),
            generation,
            monitors,
            removed_servers: former.removed_servers,
        };
        let mut services = self.services.clone();
        services.rename(&former.renamed);
        let view = self.apply(desired, &probed, services, resolved);
        HealthView {
            probed: Some(probed),
            ..view
        }
    }

    /// Applies health to the desired state in force.
    #[must_use]
    pub fn reevaluate(&self, desired: &DesiredState, resolved: impl Fn(IpAddr) -> bool) -> HealthView {
        self.apply(desired, &self.probed, self.services.clone(), resolved)
    }

    fn apply(
        &self,
        desired: &DesiredState,
        probed: &Probed,
        mut services: ServiceHealthStates,
        resolved: impl Fn(IpAddr) -> bool,
    ) -> HealthView {
        let known = |service, server| probed.state((service, server), resolved(server));
        let (desired, events) =
            services.update_effective_state(desired, &probed.removed_servers, known, self.began.elapsed());
        HealthView {
            effective_state: desired,
            probed: None,
            services,
            events,
        }
    }

    /// A monitor for a target that was not probed before. It continues that of a check with other intervals or counts, where there
    /// was one, else it begins at the state of the real servers that the check decides about.
    fn begin(
        &self,
        probe_target: &ProbeTarget,
        servers: &BTreeSet<ServerKey>,
        former: &PriorConfiguration<'_>,
    ) -> CheckState {
        let mut targets = servers
            .iter()
            .flat_map(|&server| self.probed.plan.targets_for(former.former_key(server)));
        if let Some(same) = targets.find(|target| target.is_same_check(probe_target))
            && let Some(known) = self.probed.monitors.get(same)
        {
            return CheckState::replacing(&probe_target.health, &known.check_state);
        }
        let known: Vec<PriorState> = servers
            .iter()
            .filter_map(|&server| self.state_before(former.former_key(server), former.prior_states))
            .collect();
        let up = (!known.is_empty()).then(|| known.iter().any(|prior_state| prior_state.up));
        let weight = known.iter().find_map(|prior_state| prior_state.weight);
        let reports_weight = probe_target.health.check.reports_weight();
        CheckState::new(&probe_target.health, up).with_weight(weight.filter(|_| reports_weight))
    }

    /// The state of a real server whose check has changed, or is its first.
    fn state_before(&self, server: ServerKey, before: &PriorStateLookup<'_>) -> Option<PriorState> {
        let monitors: Vec<&CheckState> = self.probed.monitors_of(server).collect();
        if monitors.is_empty() {
            return before(server);
        }
        let known: Vec<bool> = monitors
            .iter()
            .map(|monitor| monitor.up_if_known())
            .collect::<Option<_>>()?;
        Some(PriorState {
            up: !known.contains(&false),
            weight: monitors.iter().find_map(|monitor| monitor.weight()),
        })
    }

    /// Puts a view into force whose plan has been executed. Returns its events.
    pub fn commit(&mut self, view: HealthView) -> Vec<HealthEvent> {
        if let Some(probed) = view.probed {
            self.probed = probed;
        }
        self.services = view.services;
        self.effective = view.effective_state;
        let services = self.effective.services.iter().enumerate();
        self.indices = services
            .map(|(index, service)| (service.virtual_service, index))
            .collect();
        view.events
    }

    /// Starts and stops probes as the view in force says. Real servers must be reachable by now.
    pub fn sync_probes(&mut self) {
        let due = (Arc::clone(&self.probed.plan), self.probed.generation);
        if self.started == due {
            return;
        }
        self.started = due;
        let probe_targets = self.probed.monitors.iter();
        self.probes.set_targets(
            probe_targets
                .map(|(probe_target, watched)| (probe_target.clone(), watched.clone()))
                .collect(),
        );
    }

    /// Updates how probes reach real servers.
    pub fn set_paths(&self, paths: ProbePaths) {
        self.probes.set_paths(paths);
    }

    /// Waits for the next update; none: the probing thread has ended.
    pub async fn next_update(&mut self) -> Option<HealthUpdate> {
        self.updates.recv().await
    }

    /// Takes in an update, and those that wait behind it.
    pub fn on_health_update(&mut self, update: HealthUpdate) -> RequiredActions {
        let mut changed = false;
        let mut waiting = Some(update);
        while let Some(update) = waiting {
            let known = self.probed.monitors.get_mut(&update.probe_target);
            // An update of a check that has ended is ignored.
            if let Some(known) = known.filter(|known| known.generation == update.generation) {
                let (before, now) = (&known.check_state, &update.check_state);
                let first = before.reason() == Some(&ProbeFailure::NotProbed) && now.reason() != before.reason();
                changed |= first || (before.up_if_known(), before.weight()) != (now.up_if_known(), now.weight());
                known.check_state = update.check_state;
            }
            waiting = self.updates.try_recv().ok();
        }
        self.log_suspension();
        RequiredActions::replan_if(changed)
    }

    /// Logs that health checks are suspended, once for every reason, and that they are resumed.
    fn log_suspension(&mut self) {
        let monitors = self.probed.monitors.values();
        let mut suspended: BTreeMap<String, usize> = BTreeMap::new();
        for reason in monitors.filter_map(|watched| watched.check_state.inconclusive_reason()) {
            *suspended.entry(reason.to_string()).or_default() += 1;
        }
        for (reason, checks) in suspended.iter().filter(|(reason, _)| !self.suspended.contains(*reason)) {
            tracing::error!(
                checks,
                "health checks suspended ({reason}); their real servers keep the last state"
            );
        }
        if suspended.is_empty() && !self.suspended.is_empty() {
            tracing::info!("no health checks are suspended any more");
        }
        self.suspended = suspended.into_keys().collect();
    }

    /// Why the checks of a real server are suspended, if they are.
    #[must_use]
    pub fn suspension_reason(&self, server: ServerKey) -> Option<&ProbeFailure> {
        self.probed
            .monitors_of(server)
            .find_map(CheckState::inconclusive_reason)
    }

    /// The real servers out of the file whose checks go on.
    #[must_use]
    pub const fn removed_servers(&self) -> &BTreeSet<ServerKey> {
        &self.probed.removed_servers
    }

    /// Whether any probe goes to a VIP.
    #[must_use]
    pub fn probes_vips(&self) -> bool {
        let mut targets = self.probed.monitors.keys();
        targets.any(|probe_target| probe_target.health.target == CheckedAddress::Vip)
    }

    /// Whether time alone changes what is scheduled: a slow start goes on, or a new service has waited long enough for the first
    /// results of its checks.
    #[must_use]
    pub fn needs_reevaluation(&self) -> bool {
        self.services.is_slow_start_active() || self.services.has_overdue_first_round(self.began.elapsed())
    }

    /// Whether a new service still waits for the first results of its checks.
    #[must_use]
    pub fn is_in_first_round(&self, service: VirtualService) -> bool {
        self.services.is_in_first_round(service)
    }

    /// The state of a real server by its checks.
    #[must_use]
    pub fn probe_state(&self, server: ServerKey, resolved: bool) -> ServerHealth {
        self.probed.state(server, resolved)
    }

    /// A service as it was executed last.
    fn effective(&self, service: VirtualService) -> Option<&Service> {
        self.indices.get(&service).map(|&index| &self.effective.services[index])
    }

    /// Whether a service has its quorum, as far as that is known.
    #[must_use]
    pub fn has_quorum(&self, service: VirtualService) -> bool {
        self.services.has_quorum(service) != Some(false)
    }

    /// The weight that a real server is scheduled by.
    #[must_use]
    pub fn effective_weight(&self, (id, address): ServerKey) -> Option<u16> {
        if self.probed.removed_servers.contains(&(id, address)) {
            return Some(0);
        }
        let service = self.effective(id)?;
        let server = service.servers.iter().find(|server| server.address == address)?;
        Some(match server.state {
            ServerState::Up => server.weight,
            ServerState::SlowStart(part) => (u32::from(server.weight) * u32::from(part.get())).div_ceil(100) as u16,
            ServerState::Draining | ServerState::Down(_) => 0,
        })
    }
}

impl Probed {
    fn state(&self, server: ServerKey, resolved: bool) -> ServerHealth {
        ServerHealth::of(self.monitors_of(server), resolved)
    }

    /// The monitors of a real server.
    fn monitors_of(&self, server: ServerKey) -> impl Iterator<Item = &CheckState> {
        let targets = self.plan.targets_for(server).iter();
        targets.filter_map(|probe_target| Some(&self.monitors.get(probe_target)?.check_state))
    }
}
