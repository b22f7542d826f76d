//! What the director makes of the probes: which real servers get packets, what is told, and who is probed.
//!
//! ```text
//! Desired → Roster → Watch → Monitors → Services → Desired as far as health allows → Tables::plan
//! ```

mod tell;
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

use super::{Director, notify::Notifier};
use crate::{
    desired::{Desired, ServerState, Service, VirtualService},
    health::{
        Dialer, Event, Failure, Known, Monitor, Services,
        subject::{Place, Roster, Subject},
        watch::{News, Reach, Reached, Watch, Watched},
    },
    tables::Tables,
};

/// Health, as the director sees it.
#[derive(Debug)]
pub struct Checks {
    watch: Watch,
    news: UnboundedReceiver<News>,
    notifier: Notifier,
    began: Instant,
    probed: Probed,
    /// Whom the thread was told to probe, and up to which generation.
    told: (Arc<Roster>, u64),
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
pub struct Outlook {
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
    roster: Arc<Roster>,
    /// Of the last monitor that began.
    generation: u64,
    monitors: BTreeMap<Subject, Watched>,
}

/// What a real server was before anybody had asked this of it.
#[derive(Clone, Copy, Debug)]
pub struct Stood {
    /// Whether it was up.
    pub up: bool,
    /// The weight it had.
    pub weight: Option<u16>,
}

/// What real servers were that are there already: where their checks begin.
pub type Before<'b> = dyn Fn(Place) -> Option<Stood> + 'b;

impl Checks {
    /// Begins with nothing to check.
    ///
    /// # Errors
    /// The thread that probes cannot be had.
    pub fn start(director: &str, dialer: Arc<dyn Dialer>, nothing: Desired) -> io::Result<Self> {
        let (watch, news) = Watch::start(dialer)?;
        Ok(Self {
            watch,
            news,
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

    /// What to make of a new desired state. Checks that stay go on as they are; of those that begin `before` says what the
    /// real server was.
    #[must_use]
    pub fn outlook(&self, desired: &Desired, before: &Before<'_>, resolved: impl Fn(IpAddr) -> bool) -> Outlook {
        let roster = Roster::of(desired);
        let mut generation = self.probed.generation;
        let mut monitors = BTreeMap::new();
        for (subject, places) in roster.subjects() {
            let watched = self.probed.monitors.get(subject).cloned().unwrap_or_else(|| {
                generation += 1;
                Watched {
                    generation,
                    monitor: self.begin(subject, &places, before),
                }
            });
            monitors.insert(subject.clone(), watched);
        }
        let probed = Probed {
            roster: Arc::new(roster),
            generation,
            monitors,
        };
        let outlook = self.judge(desired, &probed, resolved);
        Outlook {
            probed: Some(probed),
            ..outlook
        }
    }

    /// What to make of the desired state there is.
    #[must_use]
    pub fn again(&self, desired: &Desired, resolved: impl Fn(IpAddr) -> bool) -> Outlook {
        self.judge(desired, &self.probed, resolved)
    }

    fn judge(&self, desired: &Desired, probed: &Probed, resolved: impl Fn(IpAddr) -> bool) -> Outlook {
        let mut services = self.services.clone();
        let known = |service, server| probed.known((service, server), resolved(server));
        let (desired, events) = services.follow(desired, known, self.began.elapsed());
        Outlook {
            desired,
            probed: None,
            services,
            events,
        }
    }

    /// A monitor for a subject that was not probed before. Where the same was asked by other numbers it goes on from there;
    /// else from what the real servers were that it speaks for.
    fn begin(&self, subject: &Subject, places: &BTreeSet<Place>, before: &Before<'_>) -> Monitor {
        let former = || places.iter().flat_map(|&place| self.probed.roster.speakers(place));
        if let Some(same) = former().find(|former| former.asks_the_same(subject))
            && let Some(known) = self.probed.monitors.get(same)
        {
            return Monitor::resumed(&subject.health, &known.monitor);
        }
        let known: Vec<Stood> = places.iter().filter_map(|&place| self.was(place, before)).collect();
        let up = (!known.is_empty()).then(|| known.iter().any(|stood| stood.up));
        let weight = known.iter().find_map(|stood| stood.weight);
        let tells = subject.health.check.reports_weight();
        Monitor::new(&subject.health, up).with_weight(weight.filter(|_| tells))
    }

    /// What a real server was that is checked otherwise now, or for the first time.
    fn was(&self, place: Place, before: &Before<'_>) -> Option<Stood> {
        let monitors: Vec<&Monitor> = self.probed.speaking(place).collect();
        if monitors.is_empty() {
            return before(place);
        }
        let known: Vec<bool> = monitors.iter().map(|monitor| monitor.known()).collect::<Option<_>>()?;
        Some(Stood {
            up: !known.contains(&false),
            weight: monitors.iter().find_map(|monitor| monitor.weight()),
        })
    }

    /// Puts an outlook into force: its plan has been carried out. Returns what there is to tell.
    pub fn accept(&mut self, outlook: Outlook) -> Vec<Event> {
        if let Some(probed) = outlook.probed {
            self.probed = probed;
        }
        self.services = outlook.services;
        self.effective = outlook.desired;
        let services = self.effective.services.iter().enumerate();
        self.places = services
            .map(|(place, service)| (service.virtual_service, place))
            .collect();
        outlook.events
    }

    /// Has those probed that are to be: the way there must stand.
    pub fn follow(&mut self) {
        let due = (Arc::clone(&self.probed.roster), self.probed.generation);
        if self.told == due {
            return;
        }
        self.told = due;
        let subjects = self.probed.monitors.iter();
        self.watch.follow(
            subjects
                .map(|(subject, watched)| (subject.clone(), watched.clone()))
                .collect(),
        );
    }

    /// Says where real servers are.
    pub fn reach(&self, reached: Reached) {
        self.watch.reach(reached);
    }

    /// Waits until a probe tells something new; none: nothing will ever come again.
    pub async fn wait(&mut self) -> Option<News> {
        self.news.recv().await
    }

    /// Takes in news, and those that wait behind; whether they may change who gets packets, or what is told.
    pub fn hear(&mut self, news: News) -> bool {
        let mut matters = false;
        let mut waiting = Some(news);
        while let Some(news) = waiting {
            let known = self.probed.monitors.get_mut(&news.subject);
            // What was told by a check that is no longer is old.
            if let Some(known) = known.filter(|known| known.generation == news.generation) {
                let (before, now) = (&known.monitor, &news.monitor);
                let first = before.reason() == Some(&Failure::NotProbed) && now.reason() != before.reason();
                matters |= first || (before.known(), before.weight()) != (now.known(), now.weight());
                known.monitor = news.monitor;
            }
            waiting = self.news.try_recv().ok();
        }
        self.tell_blindness();
        matters
    }

    /// Says that checks see nothing, once for every reason, and that they see again.
    fn tell_blindness(&mut self) {
        let monitors = self.probed.monitors.iter();
        let blind: BTreeMap<String, &Subject> = monitors
            .filter_map(|(subject, watched)| Some((watched.monitor.blind()?.to_string(), subject)))
            .collect();
        for (reason, subject) in blind.iter().filter(|(reason, _)| !self.blind.contains(*reason)) {
            tracing::error!(
                server = %subject.rip, vip = %subject.vip, check = %subject.health.check,
                "checks see nothing, and real servers stay what they were: {reason}"
            );
        }
        if blind.is_empty() && !self.blind.is_empty() {
            tracing::info!("checks see again");
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
    pub fn rising(&self) -> bool {
        self.services.rising()
    }

    /// What is known of a real server.
    #[must_use]
    pub fn known(&self, place: Place, resolved: bool) -> Known {
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
    fn known(&self, place: Place, resolved: bool) -> Known {
        Known::of(self.speaking(place), resolved)
    }

    /// The monitors that speak for a real server.
    fn speaking(&self, place: Place) -> impl Iterator<Item = &Monitor> {
        let speakers = self.roster.speakers(place).iter();
        speakers.filter_map(|subject| Some(&self.monitors.get(subject)?.monitor))
    }
}

impl Director {
    /// What the tables say of a real server before it was checked: up unless it has failed. One that is not among those
    /// that a former daemon has left was down.
    pub(super) fn stood(tables: &Tables, adopted: bool, (id, address): Place) -> Option<Stood> {
        let loaded = tables.services.get(&id)?;
        match loaded.usable_backend(address) {
            Some((_, member)) => Some(Stood {
                up: !member.state.has_failed(),
                weight: Some(member.weight),
            }),
            None => adopted.then_some(Stood {
                up: false,
                weight: None,
            }),
        }
    }

    /// What the network says of where real servers are.
    pub(super) fn reached(&self) -> Reached {
        let hops = self.neighbourhood.hops(&self.topology);
        let reach = |(&server, hop): (&IpAddr, &crate::tables::NextHop)| {
            let way = self.topology.ways.get(&server)?;
            Some((
                server,
                Reach {
                    source: way.source,
                    mac: hop.mac,
                    cut_off: self.neighbourhood.is_cut_off(server),
                },
            ))
        };
        hops.iter().filter_map(reach).collect()
    }
}
