//! Health applied to services: the state and weight of each real server, slow start and quorum.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU8,
    time::Duration,
};

use super::{
    event::{HealthEvent, HealthEventKind},
    failure::ProbeFailure,
    probe_plan::ServerKey,
    server_health::ServerHealth,
};
use crate::desired::{DesiredState, FailurePolicy, OnEmpty, RealServer, ServerState, Service, VirtualService};

/// Steps of a slow start at most, and at most one a second: each moves slots.
const STEPS: u64 = 20;

/// The states of all services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceHealthStates(BTreeMap<VirtualService, ServiceState>);

impl ServiceHealthStates {
    /// The file's state with health applied, and the events. `removed` are real servers that are out of the file and still have
    /// flows; `known` is the state of a real server by its checks; `now` is the time since any fixed start. To be called when
    /// anything changes (a reason other than [`ProbeFailure::NotProbed`] included), every second while a
    /// [slow start](Self::is_slow_start_active) goes on, and when a [first round](Self::has_overdue_first_round) has lasted too long.
    #[must_use]
    pub fn update_effective_state(
        &mut self,
        file: &DesiredState,
        removed: &BTreeSet<ServerKey>,
        known: impl Fn(VirtualService, IpAddr) -> ServerHealth,
        now: Duration,
    ) -> (DesiredState, Vec<HealthEvent>) {
        let ids: BTreeSet<VirtualService> = file.services.iter().map(|service| service.virtual_service).collect();
        self.0.retain(|id, _| ids.contains(id));
        let mut desired = file.clone();
        let mut events = Vec::new();
        for service in &mut desired.services {
            let id = service.virtual_service;
            let removed: Vec<IpAddr> = removed
                .range((id, IpAddr::V4(Ipv4Addr::UNSPECIFIED))..)
                .take_while(|(service, _)| *service == id)
                .map(|&(_, server)| server)
                .collect();
            let known = |server| known(id, server);
            let changes = match self.0.get_mut(&id) {
                Some(group) => group.apply(service, &removed, known, now),
                None => {
                    let (group, changes) = ServiceState::begin(service, &removed, known, now);
                    self.0.insert(id, group);
                    changes
                }
            };
            service.awaits_checks = self.is_in_first_round(id);
            if !self.0[&id].is_settled() {
                service.failure_policy.on_empty = OnEmpty::Drop;
            }
            events.extend(changes.into_iter().map(|kind| HealthEvent { service: id, kind }));
        }
        (desired, events)
    }

    /// Goes on with the states of services that have another identity now: the former one by the new one.
    pub fn rename(&mut self, former_identities: &BTreeMap<VirtualService, VirtualService>) {
        for (&id, former) in former_identities {
            if let Some(group) = self.0.remove(former) {
                self.0.insert(id, group);
            }
        }
    }

    /// Whether any real server is in slow start.
    #[must_use]
    pub fn is_slow_start_active(&self) -> bool {
        let mut servers = self.0.values().flat_map(|group| group.servers.values());
        servers.any(|server| server.slow_start_since.is_some())
    }

    /// Whether a new service still waits for the first results of its checks.
    #[must_use]
    pub fn is_in_first_round(&self, id: VirtualService) -> bool {
        self.0.get(&id).is_some_and(|group| group.first_round.is_some())
    }

    /// Whether a new service still waits for first results though the time for them is over: health is to be applied again.
    #[must_use]
    pub fn has_overdue_first_round(&self, now: Duration) -> bool {
        let mut rounds = self.0.values().filter_map(|group| group.first_round);
        rounds.any(|round| now >= round.ends)
    }

    /// Whether a service has its quorum; none before that is known.
    #[must_use]
    pub fn has_quorum(&self, id: VirtualService) -> Option<bool> {
        self.0.get(&id)?.quorum
    }
}

/// The state of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ServiceState {
    /// Whether it has its quorum; none before that is known.
    quorum: Option<bool>,
    servers: BTreeMap<IpAddr, Server>,
    /// The first round of its probes, while that goes on.
    first_round: Option<FirstRound>,
}

/// The first round of probes of a new service. Real servers that come up one by one would each open windows in the table of those
/// before them, so that two directors would disagree by nothing but their order: the service begins with all of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FirstRound {
    began: Duration,
    /// When the service begins without those that have no result yet.
    ends: Duration,
}

/// The last state of a real server of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Server {
    up: Option<bool>,
    /// Whether the event that it is down was emitted: for one that was down before this daemon, that happens when its first
    /// probe has a reason.
    down_emitted: bool,
    /// Whether it was there when the service began and has not been probed since: it may have been up all the time, so it
    /// gets no slow start.
    initial: bool,
    /// The weight that its check reported last; kept while it is down.
    weight: Option<u16>,
    /// The begin of its slow start, while that goes on.
    slow_start_since: Option<Duration>,
}

impl ServiceState {
    /// A new service: without slow starts, and without events for what is as it should be.
    fn begin(
        service: &mut Service,
        removed: &[IpAddr],
        known: impl Fn(IpAddr) -> ServerHealth,
        now: Duration,
    ) -> (Self, Vec<HealthEventKind>) {
        let mut group = Self::default();
        if service
            .servers
            .iter()
            .any(|server| known(server.address).is_up().is_none())
        {
            let (began, ends) = (now, now + first_round_limit(service));
            group.first_round = (began < ends).then_some(FirstRound { began, ends });
        }
        for address in with_removed(service, removed).map(|server| server.address) {
            let known = group.probe_state(address, removed, &known);
            let up = known.is_up().filter(|&up| up);
            let state = Server {
                up,
                initial: up.is_none(),
                ..Server::default()
            };
            group.servers.insert(address, state);
        }
        let mut events = group.apply(service, removed, known, now);
        events.retain(|kind| {
            !matches!(
                kind,
                HealthEventKind::QuorumGained { .. } | HealthEventKind::WeightChanged { .. }
            )
        });
        (group, events)
    }

    /// Applies health to the real servers of a service.
    fn apply(
        &mut self,
        service: &mut Service,
        removed: &[IpAddr],
        known: impl Fn(IpAddr) -> ServerHealth,
        now: Duration,
    ) -> Vec<HealthEventKind> {
        let mut events = self.update_first_round(service, &known, now);
        let mut servers = BTreeMap::new();
        for server in with_removed(service, removed) {
            let before = self.servers.remove(&server.address);
            let known = self.probe_state(server.address, removed, &known);
            events.extend(event_of(&server, before.as_ref(), &known));
            let slow_start = if removed.contains(&server.address) {
                0
            } else {
                service.failure_policy.slow_start_seconds
            };
            let state = Server::next(before, &known, slow_start, now);
            servers.insert(server.address, state);
        }
        self.servers = servers;
        events.extend(self.update_quorum(service));
        let out_of_service = self.quorum == Some(false) && service.sorry_server.is_some();
        let servers = service.servers.iter().map(|server| {
            let seen = &self.servers[&server.address];
            RealServer {
                weight: seen.weight.unwrap_or(server.weight),
                state: match seen.up {
                    Some(true) if out_of_service => ServerState::Draining,
                    Some(true) => seen.server_state(service.failure_policy.slow_start_seconds, now),
                    _ => ServerState::Down(service.failure_policy.on_failure),
                },
                ..*server
            }
        });
        service.servers = servers.collect();
        let is_down = |server: &&IpAddr| self.servers[*server].up == Some(false);
        service.failed_removed_servers = removed.iter().filter(is_down).copied().collect();
        events
    }

    /// Ends the first round if every real server has a result, or its time is over: then the events are those without one.
    fn update_first_round(
        &mut self,
        service: &Service,
        known: impl Fn(IpAddr) -> ServerHealth,
        now: Duration,
    ) -> Vec<HealthEventKind> {
        let Some(FirstRound { began, .. }) = self.first_round else {
            return Vec::new();
        };
        let limit = first_round_limit(service);
        let addresses = service.servers.iter().map(|server| server.address);
        let unknown: Vec<IpAddr> = addresses.filter(|&server| known(server).is_up().is_none()).collect();
        let ends = began + limit;
        self.first_round = (now < ends && !unknown.is_empty()).then_some(FirstRound { began, ends });
        if self.first_round.is_some() {
            return Vec::new();
        }
        let overdue = |server| HealthEventKind::FirstCheckOverdue { server, after: limit };
        unknown.into_iter().map(overdue).collect()
    }

    /// The state of a real server as it counts now. One that is out of the file has no first round.
    fn probe_state(&self, server: IpAddr, removed: &[IpAddr], known: impl Fn(IpAddr) -> ServerHealth) -> ServerHealth {
        if removed.contains(&server) {
            return known(server);
        }
        self.after_first_round(known(server))
    }

    /// A state as it counts now: during the first round no real server is up yet.
    fn after_first_round(&self, known: ServerHealth) -> ServerHealth {
        match known {
            ServerHealth::Up { .. } if self.first_round.is_some() => ServerHealth::Unknown,
            known => known,
        }
    }

    /// Whether every real server is up or known to be down. Before that, packets without a real server are dropped and not
    /// rejected: a director that has just started would break connections that another one had.
    fn is_settled(&self) -> bool {
        let mut servers = self.servers.values();
        servers.all(|server| server.up == Some(true) || server.down_emitted)
    }

    /// Decides whether the service has its quorum. It is not lost while first probes that have not ended may bring it.
    fn update_quorum(&mut self, service: &Service) -> Option<HealthEventKind> {
        let FailurePolicy { quorum, hysteresis, .. } = service.failure_policy;
        let quorum = quorum.max(1);
        let mut weight = 0;
        for server in &service.servers {
            let seen = &self.servers[&server.address];
            if seen.up == Some(true) {
                weight += u32::from(seen.weight.unwrap_or(server.weight));
            }
        }
        let enough = match self.quorum {
            // With no weight at all it is down, whatever the hysteresis, as with keepalived.
            Some(true) => weight >= quorum.saturating_sub(hysteresis).max(1),
            Some(false) => weight >= quorum.saturating_add(hysteresis),
            None => weight >= quorum,
        };
        let is_undecided = || {
            let mut servers = service.servers.iter();
            servers.any(|server| self.servers[&server.address].up.is_none())
        };
        if self.quorum == Some(enough) || (self.quorum.is_none() && !enough && is_undecided()) {
            return None;
        }
        self.quorum = Some(enough);
        Some(if enough {
            HealthEventKind::QuorumGained { weight }
        } else {
            HealthEventKind::QuorumLost {
                weight,
                quorum,
                sorry: service.sorry_server.is_some(),
            }
        })
    }
}

/// How long a new service waits for first results: an inconclusive first probe is followed by another.
fn first_round_limit(service: &Service) -> Duration {
    let health = service.health.as_deref();
    health.map_or(Duration::ZERO, |health| health.interval + health.timeout)
}

/// The real servers of a service, then those that are out of the file: they count for no quorum.
fn with_removed(service: &Service, removed: &[IpAddr]) -> impl Iterator<Item = RealServer> {
    let drained = |&address: &IpAddr| RealServer {
        address,
        weight: 0,
        upper_threshold: 0,
        lower_threshold: 0,
        quic_id: None,
        state: ServerState::Up,
    };
    service.servers.iter().copied().chain(removed.iter().map(drained))
}

/// The event of a real server, if its state has changed. That it is down is one event, as soon as there is a reason: not
/// before it was probed.
fn event_of(server: &RealServer, before: Option<&Server>, known: &ServerHealth) -> Option<HealthEventKind> {
    let address = server.address;
    let was = before.and_then(|before| before.up);
    match known {
        ServerHealth::Up { weight } if was == Some(true) => {
            let from = before.and_then(|before| before.weight).unwrap_or(server.weight);
            let to = weight.unwrap_or(server.weight);
            (from != to).then_some(HealthEventKind::WeightChanged {
                server: address,
                from,
                to,
            })
        }
        ServerHealth::Up { weight } => before.map(|_| HealthEventKind::ServerUp {
            server: address,
            weight: weight.unwrap_or(server.weight),
        }),
        ServerHealth::Down(reason) if is_result(reason) && before.is_none_or(|before| !before.down_emitted) => {
            Some(HealthEventKind::ServerDown {
                server: address,
                reason: reason.clone(),
            })
        }
        ServerHealth::Down(_) | ServerHealth::Unknown => None,
    }
}

/// Whether a reason is that of a probe that has ended.
const fn is_result(reason: &ProbeFailure) -> bool {
    !matches!(reason, ProbeFailure::NotProbed)
}

impl Server {
    /// Its next state.
    fn next(before: Option<Self>, known: &ServerHealth, slow_start: u16, now: Duration) -> Self {
        let before = before.unwrap_or_default();
        let up = known.is_up();
        let slow_start_since = match up {
            Some(true) if before.up == Some(true) => before.slow_start_since,
            Some(true) if !before.initial => Some(now),
            _ => None,
        };
        Self {
            up,
            down_emitted: match known {
                ServerHealth::Down(reason) => before.down_emitted || is_result(reason),
                ServerHealth::Up { .. } | ServerHealth::Unknown => false,
            },
            initial: before.initial && up.is_none(),
            weight: match known {
                ServerHealth::Up { weight } => *weight,
                _ => before.weight,
            },
            slow_start_since: slow_start_since.filter(|&since| slow_start_part(since, now, slow_start).is_some()),
        }
    }

    /// The state of one that is up.
    fn server_state(&self, slow_start: u16, now: Duration) -> ServerState {
        let part = self
            .slow_start_since
            .and_then(|since| slow_start_part(since, now, slow_start));
        part.map_or(ServerState::Up, ServerState::SlowStart)
    }
}

/// The percentage of its weight that a real server has in slow start; none after it. It changes on whole seconds, the same
/// ones for all real servers.
fn slow_start_part(since: Duration, now: Duration, slow_start: u16) -> Option<NonZeroU8> {
    let whole = u64::from(slow_start);
    let passed = now.as_secs().saturating_sub(since.as_secs());
    if passed >= whole {
        return None;
    }
    let steps = whole.min(STEPS);
    let percentage = match passed * steps / whole {
        0 => 50 / steps,
        step => 100 * step / steps,
    };
    NonZeroU8::new(percentage as u8)
}

#[cfg(test)]
mod tests;
