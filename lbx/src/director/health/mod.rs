//! The health part: what is probed, what the results mean for the real servers, and who is notified.
//!
//! - [`notify`]: commands that are run on events; `report`: the events in the log
//!
//! ```text
//! Desired → ProbePlan → Watch → Monitors → Services → Desired as far as health allows → Tables::plan
//! ```

pub mod notify;
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

use self::notify::Notifier;
use super::change::Change;
use crate::{
    desired::{Desired, ServerState, Service, VirtualService},
    health::{
        Dialer, Event, Failure, Monitor, ProbeState, Services,
        probe_plan::{Place, ProbePlan, ProbeTarget},
        watch::{HealthUpdate, Reached, Watch, Watched},
    },
};

/// Health, as the director sees it.
#[derive(Debug)]
pub struct HealthChecks {
    watch: Watch,
    update: UnboundedReceiver<HealthUpdate>,
    notifier: Notifier,
    began: Instant,
    probed: Probed,
    /// Whom the thread was told to probe, and up to which generation.
    told: (Arc<ProbePlan>, u64),
    services: Services,
    /// Why checks see nothing, as it was told.
    blind: BTreeSet<String>,
    /// The file's state as far as health allows, as it was carried out last.
    effective: Desired,
    /// Where in it each service is.
    places: BTreeMap<VirtualService, usize>,
}

/// What health makes of a desired state: comes into force when the plan for it has been carried out.
#[derive(Debug)]
pub struct HealthView {
    /// The file's state, as far as health allows.
    pub desired: Desired,
    /// Who is probed, where that may be others than before.
    probed: Option<Probed>,
    services: Services,
    events: Vec<Event>,
}

/// Who is probed, and what is known of them.
#[derive(Debug, Default)]
struct Probed {
    probe_plan: Arc<ProbePlan>,
    /// Of the last monitor that began.
    generation: u64,
    monitors: BTreeMap<ProbeTarget, Watched>,
}

/// What a real server was before anybody had asked this of it.
#[derive(Clone, Copy, Debug)]
pub struct PriorState {
    /// Whether it was up.
    pub up: bool,
    /// The weight it had.
    pub weight: Option<u16>,
}

/// What real servers were that are there already: where their checks begin.
pub type Before<'b> = dyn Fn(Place) -> Option<PriorState> + 'b;

impl HealthChecks {
    /// Begins with nothing to check.
    ///
    /// # Errors
    /// The thread that probes cannot be had.
    pub fn start(director: &str, dialer: Arc<dyn Dialer>, nothing: Desired) -> io::Result<Self> {
        let (watch, update) = Watch::start(dialer)?;
        Ok(Self {
            watch,
            update,
            notifier: Notifier::start(director),
            began: Instant::now(),
            probed: Probed::default(),
            told: (Arc::default(), 0),
            blind: BTreeSet::new(),
            places: BTreeMap::new(),
            services: Services::default(),
            effective: nothing,
        })
    }

    /// What to make of a new desired state. HealthChecks that stay go on as they are; of those that begin `before` says what the
    /// real server was.
    #[must_use]
    pub fn evaluate(&self, desired: &Desired, before: &Before<'_>, resolved: impl Fn(IpAddr) -> bool) -> HealthView {
        let probe_plan = ProbePlan::of(desired);
        let mut generation = self.probed.generation;
        let mut monitors = BTreeMap::new();
        for (probe_target, places) in probe_plan.probe_targets() {
            let watched = self.probed.monitors.get(probe_target).cloned().unwrap_or_else(|| {
                generation += 1;
                Watched {
                    generation,
                    monitor: self.begin(probe_target, &places, before),
                }
            });
            monitors.insert(probe_target.clone(), watched);
        }
        let probed = Probed {
            probe_plan: Arc::new(probe_plan),
            generation,
            monitors,
        };
        let health_view = self.judge(desired, &probed, resolved);
        HealthView {
            probed: Some(probed),
            ..health_view
        }
    }

    /// What to make of the desired state there is.
    #[must_use]
    pub fn reevaluate(&self, desired: &Desired, resolved: impl Fn(IpAddr) -> bool) -> HealthView {
        self.judge(desired, &self.probed, resolved)
    }

    fn judge(&self, desired: &Desired, probed: &Probed, resolved: impl Fn(IpAddr) -> bool) -> HealthView {
        let mut services = self.services.clone();
        let known = |service, server| probed.known((service, server), resolved(server));
        let (desired, events) = services.follow(desired, known, self.began.elapsed());
        HealthView {
            desired,
            probed: None,
            services,
            events,
        }
    }

    /// A monitor for a probe_target that was not probed before. Where the same was asked by other numbers it goes on from there;
    /// else from what the real servers were that it speaks for.
    fn begin(&self, probe_target: &ProbeTarget, places: &BTreeSet<Place>, before: &Before<'_>) -> Monitor {
        let former = || places.iter().flat_map(|&place| self.probed.probe_plan.speakers(place));
        if let Some(same) = former().find(|former| former.asks_the_same(probe_target))
            && let Some(known) = self.probed.monitors.get(same)
        {
            return Monitor::resumed(&probe_target.health, &known.monitor);
        }
        let known: Vec<PriorState> = places.iter().filter_map(|&place| self.was(place, before)).collect();
        let up = (!known.is_empty()).then(|| known.iter().any(|prior_state| prior_state.up));
        let weight = known.iter().find_map(|prior_state| prior_state.weight);
        let tells = probe_target.health.check.reports_weight();
        Monitor::new(&probe_target.health, up).with_weight(weight.filter(|_| tells))
    }

    /// What a real server was that is checked otherwise now, or for the first time.
    fn was(&self, place: Place, before: &Before<'_>) -> Option<PriorState> {
        let monitors: Vec<&Monitor> = self.probed.speaking(place).collect();
        if monitors.is_empty() {
            return before(place);
        }
        let known: Vec<bool> = monitors.iter().map(|monitor| monitor.known()).collect::<Option<_>>()?;
        Some(PriorState {
            up: !known.contains(&false),
            weight: monitors.iter().find_map(|monitor| monitor.weight()),
        })
    }

    /// Puts an health_view into force: its plan has been carried out. Returns what there is to tell.
    pub fn accept(&mut self, health_view: HealthView) -> Vec<Event> {
        if let Some(probed) = health_view.probed {
            self.probed = probed;
        }
        self.services = health_view.services;
        self.effective = health_view.desired;
        let services = self.effective.services.iter().enumerate();
        self.places = services
            .map(|(place, service)| (service.virtual_service, place))
            .collect();
        health_view.events
    }

    /// Has those probed that are to be: the way there must stand.
    pub fn start_probes(&mut self) {
        let due = (Arc::clone(&self.probed.probe_plan), self.probed.generation);
        if self.told == due {
            return;
        }
        self.told = due;
        let probe_targets = self.probed.monitors.iter();
        self.watch.follow(
            probe_targets
                .map(|(probe_target, watched)| (probe_target.clone(), watched.clone()))
                .collect(),
        );
    }

    /// Says where real servers are.
    pub fn reach(&self, reached: Reached) {
        self.watch.reach(reached);
    }

    /// Waits until a probe tells something new; none: nothing will ever come again.
    pub async fn next_update(&mut self) -> Option<HealthUpdate> {
        self.update.recv().await
    }

    /// Takes in update, and those that wait behind; whether they may change who gets packets, or what is told.
    pub fn on_health_update(&mut self, update: HealthUpdate) -> Change {
        let mut matters = false;
        let mut waiting = Some(update);
        while let Some(update) = waiting {
            let known = self.probed.monitors.get_mut(&update.probe_target);
            // What was told by a check that is no longer is old.
            if let Some(known) = known.filter(|known| known.generation == update.generation) {
                let (before, now) = (&known.monitor, &update.monitor);
                let first = before.reason() == Some(&Failure::NotProbed) && now.reason() != before.reason();
                matters |= first || (before.known(), before.weight()) != (now.known(), now.weight());
                known.monitor = update.monitor;
            }
            waiting = self.update.try_recv().ok();
        }
        self.log_suspension();
        Change::plan_if(matters)
    }

    /// Says that checks see nothing, once for every reason, and that they see again.
    fn log_suspension(&mut self) {
        let monitors = self.probed.monitors.iter();
        let blind: BTreeMap<String, &ProbeTarget> = monitors
            .filter_map(|(probe_target, watched)| Some((watched.monitor.blind()?.to_string(), probe_target)))
            .collect();
        for (reason, probe_target) in blind.iter().filter(|(reason, _)| !self.blind.contains(*reason)) {
            tracing::error!(
                real_server = %probe_target.rip, vip = %probe_target.vip, check = %probe_target.health.check,
                "health checks suspended ({reason}); real servers keep their last state"
            );
        }
        if blind.is_empty() && !self.blind.is_empty() {
            tracing::info!("health checks resumed");
        }
        self.blind = blind.into_keys().collect();
    }

    /// Why the checks of a real server see nothing, if they do.
    #[must_use]
    pub fn blind(&self, place: Place) -> Option<&Failure> {
        self.probed.speaking(place).find_map(Monitor::blind)
    }

    /// Whether time alone changes weights.
    #[must_use]
    pub fn is_slow_start_active(&self) -> bool {
        self.services.rising()
    }

    /// What is known of a real server.
    #[must_use]
    pub fn known(&self, place: Place, resolved: bool) -> ProbeState {
        self.probed.known(place, resolved)
    }

    /// A service as it was carried out last.
    fn effective(&self, service: VirtualService) -> Option<&Service> {
        self.places.get(&service).map(|&place| &self.effective.services[place])
    }

    /// Whether a service has its quorum, as far as that is known.
    #[must_use]
    pub fn quorum(&self, service: VirtualService) -> bool {
        self.services.quorum(service) != Some(false)
    }

    /// The weight that a real server is scheduled by.
    #[must_use]
    pub fn effective_weight(&self, (id, address): Place) -> Option<u16> {
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
    fn known(&self, place: Place, resolved: bool) -> ProbeState {
        ProbeState::of(self.speaking(place), resolved)
    }

    /// The monitors that speak for a real server.
    fn speaking(&self, place: Place) -> impl Iterator<Item = &Monitor> {
        let speakers = self.probe_plan.speakers(place).iter();
        speakers.filter_map(|probe_target| Some(&self.monitors.get(probe_target)?.monitor))
    }
}
