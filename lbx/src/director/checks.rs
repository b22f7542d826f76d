//! What the director makes of the probes: which real servers get packets, what is told, and who is probed.
//!
//! ```text
//! Desired → Roster → Watch → Monitors → Services → Desired as far as health allows → Tables::plan
//! ```

use std::{collections::BTreeMap, io, net::IpAddr, sync::Arc, time::Instant};

use tokio::sync::mpsc::UnboundedReceiver;

use super::{
    Director,
    notify::{Notice, Notifier},
};
use crate::{
    desired::{Desired, Standing, VirtualService},
    health::{
        Dialer, Event, Failure, Known, Monitor, Services,
        event::What,
        subject::{Place, Roster, Subject},
        watch::{News, Reach, Reached, Watch},
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
    roster: Arc<Roster>,
    /// Those that are probed.
    probed: Arc<Roster>,
    monitors: BTreeMap<Subject, Monitor>,
    services: Services,
    /// The file's state as far as health allows, as it was carried out last.
    effective: Desired,
}

/// What health makes of a desired state: comes into force when the plan for it has been carried out.
#[derive(Debug)]
pub struct Outlook {
    /// The file's state, as far as health allows.
    pub desired: Desired,
    roster: Arc<Roster>,
    monitors: BTreeMap<Subject, Monitor>,
    services: Services,
    events: Vec<Event>,
}

/// Whether real servers were up before anybody has probed them: where a check begins for one that is there already.
pub type Before<'b> = dyn Fn(Place) -> Option<bool> + 'b;

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
            roster: Arc::default(),
            probed: Arc::default(),
            monitors: BTreeMap::new(),
            services: Services::default(),
            effective: nothing,
        })
    }

    /// What to make of a new desired state. Checks that stay go on as they are; of those that begin `before` says what the
    /// real server was.
    #[must_use]
    pub fn outlook(&self, desired: &Desired, before: &Before<'_>, resolved: impl Fn(IpAddr) -> bool) -> Outlook {
        let roster = Roster::of(desired);
        let mut monitors = BTreeMap::new();
        for (subject, places) in roster.subjects() {
            let monitor = self.monitors.get(subject).cloned().unwrap_or_else(|| {
                let known: Vec<bool> = places.iter().filter_map(|&place| self.was(place, before)).collect();
                let up = (!known.is_empty()).then(|| known.contains(&true));
                Monitor::new(&subject.health, up)
            });
            monitors.insert(subject.clone(), monitor);
        }
        self.judge(desired, Arc::new(roster), monitors, resolved)
    }

    /// What to make of the desired state there is.
    #[must_use]
    pub fn again(&self, desired: &Desired, resolved: impl Fn(IpAddr) -> bool) -> Outlook {
        self.judge(desired, Arc::clone(&self.roster), self.monitors.clone(), resolved)
    }

    fn judge(
        &self,
        desired: &Desired,
        roster: Arc<Roster>,
        monitors: BTreeMap<Subject, Monitor>,
        resolved: impl Fn(IpAddr) -> bool,
    ) -> Outlook {
        let mut services = self.services.clone();
        let known = |service, server| known(&roster, &monitors, (service, server), resolved(server));
        let (desired, events) = services.follow(desired, known, self.began.elapsed());
        Outlook {
            desired,
            roster,
            monitors,
            services,
            events,
        }
    }

    /// What a real server was that is checked otherwise now, or for the first time.
    fn was(&self, place: Place, before: &Before<'_>) -> Option<bool> {
        let mut speakers = self.roster.speakers(place).iter();
        let monitors: Vec<&Monitor> = speakers
            .by_ref()
            .filter_map(|subject| self.monitors.get(subject))
            .collect();
        if monitors.is_empty() {
            return before(place);
        }
        monitors
            .iter()
            .map(|monitor| monitor.known())
            .collect::<Option<Vec<_>>>()
            .map(|all| !all.contains(&false))
    }

    /// Puts an outlook into force: its plan has been carried out. Returns what there is to tell.
    pub fn accept(&mut self, outlook: Outlook) -> Vec<Event> {
        self.roster = outlook.roster;
        self.monitors = outlook.monitors;
        self.services = outlook.services;
        self.effective = outlook.desired;
        outlook.events
    }

    /// Has those probed that are to be: the way there must stand.
    pub fn follow(&mut self) {
        if self.probed == self.roster {
            return;
        }
        self.probed = Arc::clone(&self.roster);
        let subjects = self.monitors.iter();
        self.watch.follow(
            subjects
                .map(|(subject, monitor)| (subject.clone(), monitor.clone()))
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

    /// Takes in news, and those that wait behind; whether they may change who gets packets.
    pub fn hear(&mut self, news: News) -> bool {
        let mut matters = false;
        let mut waiting = Some(news);
        while let Some(News { subject, monitor }) = waiting {
            // What was told by a check that is no longer is old.
            if let Some(known) = self.monitors.get_mut(&subject) {
                matters |= (known.known(), known.weight()) != (monitor.known(), monitor.weight());
                *known = monitor;
            }
            waiting = self.news.try_recv().ok();
        }
        matters
    }

    /// Whether time alone changes weights.
    #[must_use]
    pub fn rising(&self) -> bool {
        self.services.rising()
    }

    /// What is known of a real server.
    #[must_use]
    pub fn known(&self, place: Place, resolved: bool) -> Known {
        known(&self.roster, &self.monitors, place, resolved)
    }

    /// Whether the real servers of a service are checked.
    #[must_use]
    pub fn speaks_of(&self, service: VirtualService) -> bool {
        let is_it = |effective: &&crate::desired::Service| effective.virtual_service == service;
        let service = self.effective.services.iter().find(is_it);
        service.is_some_and(|service| service.health.is_some())
    }

    /// Whether a service has its quorum, as far as that is known.
    #[must_use]
    pub fn quorum(&self, service: VirtualService) -> bool {
        self.services.quorum(service) != Some(false)
    }

    /// The weight that a real server is scheduled by.
    #[must_use]
    pub fn effective_weight(&self, (id, address): Place) -> Option<u16> {
        let service = self
            .effective
            .services
            .iter()
            .find(|service| service.virtual_service == id)?;
        let server = service.servers.iter().find(|server| server.address == address)?;
        Some(match server.standing {
            Standing::Up => server.weight,
            Standing::Rising(part) => (u32::from(server.weight) * u32::from(part.get())).div_ceil(100) as u16,
            Standing::Resting | Standing::Down(_) => 0,
        })
    }

    /// Tells the commands of a service what has happened there.
    pub fn notify(&self, desired: &Desired, event: &Event) {
        let service = desired
            .services
            .iter()
            .find(|service| service.virtual_service == event.service);
        let Some((service, notify)) = service.and_then(|service| Some((service, service.notify.as_ref()?))) else {
            return;
        };
        let of = |name| Notice::of(service, name);
        let notice = match &event.what {
            What::ServerUp { server, weight } => Notice {
                server: Some(*server),
                weight: Some(*weight),
                ..of("server_up")
            },
            What::ServerDown { server, reason } => Notice {
                server: Some(*server),
                weight: service
                    .servers
                    .iter()
                    .find(|other| other.address == *server)
                    .map(|other| other.weight),
                reason: Some(reason.to_string()),
                ..of("server_down")
            },
            What::QuorumGained { .. } => of("quorum_gained"),
            What::QuorumLost { .. } => of("quorum_lost"),
            What::Weight { .. } => return,
        };
        self.notifier.tell(notify, notice);
    }
}

fn known(roster: &Roster, monitors: &BTreeMap<Subject, Monitor>, place: Place, resolved: bool) -> Known {
    let speakers = roster.speakers(place).iter();
    Known::of(speakers.filter_map(|subject| monitors.get(subject)), resolved)
}

impl Director {
    /// What the tables say of a real server before it was checked: up unless it has failed. One that is not among those
    /// that a former daemon has left was down.
    pub(super) fn stood(tables: &Tables, adopted: bool, (id, address): Place) -> Option<bool> {
        let loaded = tables.services.get(&id)?;
        match loaded.up(address) {
            Some((_, member)) => Some(!member.life.has_failed()),
            None => adopted.then_some(false),
        }
    }

    /// What the network says of where real servers are.
    pub(super) fn reached(&self) -> Reached {
        let hops = self.neighbourhood.hops(&self.topology);
        let reach = |(&server, hop): (&IpAddr, &crate::tables::Hop)| {
            let way = self.topology.ways.get(&server)?;
            Some((
                server,
                Reach {
                    source: way.source,
                    mac: hop.mac,
                },
            ))
        };
        hops.iter().filter_map(reach).collect()
    }

    /// Logs what has happened, and tells the commands that want to know.
    pub(super) fn tell_health(&self, desired: &Desired, events: &[Event]) {
        for event in events {
            let checked = !matches!(
                event.what,
                What::ServerDown {
                    reason: Failure::NoMac,
                    ..
                }
            ) && self.checks.speaks_of(event.service);
            // What is not checked is told by the plan: MAC addresses come and go there.
            match event.what {
                What::ServerUp { .. } | What::Weight { .. } | What::QuorumGained { .. } if checked => {
                    tracing::info!("{event}");
                }
                What::ServerDown { .. } | What::QuorumLost { .. } if checked => tracing::warn!("{event}"),
                _ => tracing::debug!("{event}"),
            }
            self.checks.notify(desired, event);
        }
    }
}
