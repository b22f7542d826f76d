//! The loop: whatever happens comes here, one at a time.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use super::{
    Director, DirectorError,
    listing::Sources,
    topology,
    trace::{self, Tracer},
};
use crate::{
    control::{Answer, Request, TraceRequest, server::Call},
    dataplane::clock,
    health::watch::News,
    net::Event,
};

/// Seconds between two looks at all flow records.
const SWEEP_EVERY: u32 = 2;
/// Seconds between two looks at a network that does not fit, if nothing is heard of it: 1, 2, 4, … and no more than this.
const RETRY_MAX: u32 = 8;

/// When the next look at a network that does not fit is due.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Retry {
    /// Seconds until then.
    left: u32,
    /// Seconds between the last look and then.
    delay: u32,
}

/// What woke the loop.
enum Wake {
    Second,
    Reload,
    Stop,
    Network(Option<Event>),
    Call(Option<Call>),
    Traced(bool),
    Health(Option<News>),
}

/// The signals a director listens to. Made before the start, so that one that comes meanwhile is not lost and does not
/// kill it half-way.
#[derive(Debug)]
pub struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// The process has no means to.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }
}

/// Runs until SIGINT or SIGTERM.
pub(super) async fn run(director: &mut Director, signals: &mut Signals) -> Result<(), DirectorError> {
    let Signals {
        hangup,
        interrupt,
        terminate,
    } = signals;
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seconds = 0u32;
    loop {
        let wake = tokio::select! {
            _ = second.tick() => Wake::Second,
            () = received(hangup) => Wake::Reload,
            () = received(interrupt) => Wake::Stop,
            () = received(terminate) => Wake::Stop,
            event = director.events.recv() => Wake::Network(event),
            call = director.calls.recv() => Wake::Call(call),
            news = director.checks.wait() => Wake::Health(news),
            told = traced(director.tracer.as_ref()) => Wake::Traced(told),
        };
        match wake {
            Wake::Second => {
                seconds = seconds.wrapping_add(1);
                director.second(seconds).await;
            }
            Wake::Reload => director.reload_and_tell().await,
            Wake::Stop => return Ok(()),
            Wake::Network(Some(event)) => director.hear(event).await,
            Wake::Network(None) => return Err(DirectorError::Blind),
            Wake::Call(Some(call)) => director.answer(call).await,
            Wake::Call(None) => return Err(DirectorError::Blind),
            Wake::Health(Some(news)) => director.hear_health(news),
            Wake::Health(None) => return Err(DirectorError::Unprobed),
            Wake::Traced(true) => director.pass_trace_on(),
            Wake::Traced(false) => director.stop_trace(),
        }
    }
}

async fn received(signal: &mut Signal) {
    if signal.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}

async fn traced(tracer: Option<&Tracer>) -> bool {
    match tracer {
        Some(tracer) => tracer.wait().await,
        None => std::future::pending().await,
    }
}

/// Logs an error and goes on: a running director does not fall over what may be mended.
fn tell<E: std::error::Error + Send + Sync + 'static>(what: &str, result: Result<(), E>) -> bool {
    match result {
        Ok(()) => true,
        Err(error) => {
            tracing::error!("{what}: {:#}", anyhow::Error::from(error));
            false
        }
    }
}

impl Director {
    async fn reload_and_tell(&mut self) {
        match self.reload().await {
            Ok(()) => tracing::info!(config = %self.config.display(), "reloaded"),
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::error!("reload refused, nothing changed: {error:#}");
            }
        }
    }

    /// What is to be done every second.
    async fn second(&mut self, seconds: u32) {
        self.neighbourhood.ask(&self.net, &self.topology).await;
        let lost = self.neighbourhood.age();
        if lost || self.unsettled || self.checks.rising() {
            self.unsettled = false;
            let done = tell("cannot follow the neighbours", self.replan());
            self.unsettled |= !done;
        }
        self.notice_detached().await;
        self.retry.left = self.retry.left.saturating_sub(1);
        if self.look_again || (!self.misfit.is_empty() && self.retry.left == 0) {
            self.fit().await;
        }
        self.announce();
        self.look_after_vips();
        self.follow_own_traffic();
        if seconds.is_multiple_of(SWEEP_EVERY) {
            let scan = self.scan();
            let plan = self.tables.expire(&scan);
            tell("cannot age the tables", self.carry_out(plan));
            let window = u32::from(crate::tables::flow_policy::ticks(&self.desired.timeouts).closing);
            let sampled = self
                .estimator
                .sample(&self.dataplane, &self.tables, clock::now(), window);
            tell("cannot read counters", sampled);
        }
    }

    /// Looks whether somebody has detached the program from a NIC: clients' packets go to this host's own stack then.
    async fn notice_detached(&mut self) {
        let detached = match self.dataplane.detached() {
            Ok(detached) => detached,
            Err(error) => {
                tell("cannot look after the XDP program", Err(error));
                return;
            }
        };
        for ifindex in detached {
            // Where the NIC itself is gone, its event tells.
            if let Ok(Some(link)) = self.net.link_by_index(ifindex).await {
                let interface = link.name;
                tracing::warn!(interface, "somebody has detached the XDP program: attaching it again");
                self.look_again = true;
            }
        }
    }

    /// Takes in an event, and those that wait behind it.
    async fn hear(&mut self, event: Event) {
        let mut moved = false;
        let mut relinked = false;
        let mut recabled = false;
        let mut waiting = Some(event);
        while let Some(event) = waiting {
            match event {
                Event::Neighbour(neighbour) => moved |= self.neighbourhood.hear(&neighbour),
                Event::NeighbourGone { ifindex, address } => {
                    moved |= self.neighbourhood.hear(&crate::net::Neighbour {
                        ifindex,
                        address,
                        mac: None,
                    });
                }
                Event::Link(link) => {
                    self.neighbourhood.hear_carrier(link.index, link.up && link.carrier);
                    recabled |= self.topology.device(link.index).is_some();
                    relinked |= self.concerns(&link);
                }
                Event::LinkGone { index, .. } => relinked |= self.topology.device(index).is_some(),
                Event::AddressGone(address) => {
                    let vip =
                        Some(address.ifindex) == self.topology.primary && self.tables.vips().contains(&address.address);
                    if vip {
                        tracing::warn!(vip = %address.address, "somebody removed the VIP");
                    }
                    relinked |= vip;
                }
                Event::Overrun => {
                    tracing::warn!("events of the network were lost: reading everything anew");
                    tell(
                        "cannot read the neighbours",
                        self.neighbourhood.read(&self.net).await.map(drop),
                    );
                    moved = true;
                    relinked = true;
                }
                Event::Route(route) | Event::RouteGone(route) => {
                    self.look_again |= topology::servers(&self.desired).any(|server| route.covers(server));
                }
                Event::Address(_) => {}
            }
            waiting = self.events.try_recv().ok();
        }
        if recabled {
            self.checks.reach(self.reached());
        }
        if relinked {
            self.fit().await;
        } else if moved {
            self.unsettled |= !tell("cannot follow the neighbours", self.replan());
        }
    }

    /// Takes in what a probe has found.
    fn hear_health(&mut self, news: News) {
        if self.checks.hear(news) {
            self.unsettled |= !tell("cannot follow the health of the real servers", self.replan());
        }
    }

    /// Leads everything to the desired state again, the network having changed. What no longer fits is left out and tried
    /// again, at first soon; told once for every reason.
    async fn fit(&mut self) {
        self.look_again = false;
        let (misfit, consequence) = match self.refit().await {
            Ok(reasons) => (reasons.join("; "), "left out until it fits"),
            Err(error) => (format!("{:#}", anyhow::Error::from(error)), "what was loaded stays"),
        };
        self.retry.delay = if misfit == self.misfit {
            (self.retry.delay * 2).clamp(1, RETRY_MAX)
        } else {
            1
        };
        self.retry.left = self.retry.delay;
        if misfit != self.misfit {
            if misfit.is_empty() {
                tracing::info!("the network fits again");
            } else {
                tracing::error!("the network has changed and does not fit; {consequence}: {misfit}");
            }
            self.misfit = misfit;
        }
    }

    /// Whether a link event says something new about a device of ours, or brings one back.
    fn concerns(&self, link: &crate::net::Link) -> bool {
        match self.topology.device(link.index) {
            Some(device) => {
                let of = |link: &crate::net::Link| (link.mac, link.up, link.mtu);
                of(device) != of(link) || device.name != link.name
            }
            None => {
                let below = link.vlan.and_then(|vlan| vlan.lower);
                let on_ours = below.is_some_and(|lower| self.topology.device(lower).is_some());
                on_ours || self.desired.interfaces.contains(&link.name)
            }
        }
    }

    async fn answer(&mut self, call: Call) {
        match &call.request {
            Request::List => {
                let answer = match self.report().await {
                    Ok(report) => Answer::Report(Box::new(report)),
                    Err(error) => Answer::Error(format!("{:#}", anyhow::Error::from(error))),
                };
                let _gone = call.answers.try_send(answer);
            }
            Request::Trace(request) => {
                if let Err(error) = self.start_trace(request, &call) {
                    let _gone = call
                        .answers
                        .try_send(Answer::Error(format!("{:#}", anyhow::Error::from(error))));
                }
            }
        }
    }

    async fn report(&self) -> Result<crate::control::Report, DirectorError> {
        let links = self.net.links().await?;
        let scan = self.scan();
        let sources = Sources {
            name: &self.name,
            desired: &self.desired,
            checks: &self.checks,
            claims: &self.claims,
            neighbourhood: &self.neighbourhood,
            tables: &self.tables,
            dataplane: &self.dataplane,
            scan: &scan,
            estimator: &self.estimator,
            links: &links,
            topology: &self.topology,
        };
        Ok(sources.report()?)
    }

    fn start_trace(&mut self, request: &TraceRequest, call: &Call) -> Result<(), trace::TraceError> {
        let number = |name: &str| {
            let service = self.desired.services.iter().find(|service| service.name == name)?;
            Some(self.tables.services.get(&service.virtual_service)?.number)
        };
        let filter = trace::filter(request, number)?;
        self.stop_trace();
        self.tracer = Some(Tracer::start(&mut self.dataplane, filter, call.answers.clone())?);
        tracing::info!("tracing decisions: packets cost more until the listener goes");
        Ok(())
    }

    fn pass_trace_on(&mut self) {
        let desired = &self.desired;
        let tables = &self.tables;
        let name = |number: u16| {
            let (id, _) = tables.by_number(number)?;
            let service = desired.services.iter().find(|service| service.virtual_service == *id)?;
            Some(service.name.clone())
        };
        if let Some(tracer) = &mut self.tracer {
            tracer.pass_on(tables, name);
        }
    }

    fn stop_trace(&mut self) {
        if let Some(tracer) = self.tracer.take() {
            tell("cannot stop tracing", tracer.stop(&mut self.dataplane));
            tracing::info!("tracing ended");
        }
    }
}
