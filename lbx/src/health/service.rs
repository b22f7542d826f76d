//! What the health of its real servers makes of a service: who gets packets, and how many.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    num::NonZeroU8,
    time::Duration,
};

use super::{
    event::{Event, What},
    failure::Failure,
    monitor::Monitor,
};
use crate::desired::{Desired, Failover, RealServer, ServerState, Service, VirtualService};

/// Steps of a slow start at most, and never two in a second: each moves slots.
const STEPS: u64 = 20;

/// What is known of a real server of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeState {
    /// It is up.
    Up {
        /// The weight its check says, which goes before that of the file: a plain number, not a percentage of the file's.
        weight: Option<u16>,
    },
    /// It is down.
    Down(Failure),
    /// Its first probe is to tell.
    Unknown,
}

impl ProbeState {
    /// What the checks of a real server say together: it is up if all of them say so, and `resolved`, its MAC address, is
    /// known. Without checks it is up.
    #[must_use]
    pub fn of<'m>(monitors: impl IntoIterator<Item = &'m Monitor>, resolved: bool) -> Self {
        if !resolved {
            return Self::Down(Failure::NoMac);
        }
        let mut known = Self::Up { weight: None };
        for monitor in monitors {
            match (monitor.known(), &mut known) {
                (Some(false), _) => return Self::Down(monitor.reason().cloned().unwrap_or(Failure::NotProbed)),
                (None, _) => known = Self::Unknown,
                (Some(true), Self::Up { weight }) => *weight = weight.or(monitor.weight()),
                (Some(true), _) => {}
            }
        }
        known
    }

    /// Whether it is up, if that is known.
    const fn is_up(&self) -> Option<bool> {
        match self {
            Self::Up { .. } => Some(true),
            Self::Down(_) => Some(false),
            Self::Unknown => None,
        }
    }
}

/// What has become of all services so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services(BTreeMap<VirtualService, Group>);

impl Services {
    /// What the data plane is to do: the file's state, as far as what is `known` of the real servers allows. Time is what
    /// has passed since some beginning. Besides when anything changes, a reason from [`Failure::NotProbed`] to another
    /// included, it must be called every second while anybody [rises](Self::rising).
    #[must_use]
    pub fn follow(
        &mut self,
        file: &Desired,
        known: impl Fn(VirtualService, IpAddr) -> ProbeState,
        now: Duration,
    ) -> (Desired, Vec<Event>) {
        let ids: BTreeSet<VirtualService> = file.services.iter().map(|service| service.virtual_service).collect();
        self.0.retain(|id, _| ids.contains(id));
        let mut desired = file.clone();
        let mut events = Vec::new();
        for service in &mut desired.services {
            let id = service.virtual_service;
            let (servers, told) = match self.0.get_mut(&id) {
                Some(group) => group.follow(service, |server| known(id, server), now),
                None => {
                    let (group, servers, told) = Group::begin(service, |server| known(id, server), now);
                    self.0.insert(id, group);
                    (servers, told)
                }
            };
            service.servers = servers;
            events.extend(told.into_iter().map(|what| Event { service: id, what }));
        }
        (desired, events)
    }

    /// Whether the weight of any real server still rises.
    #[must_use]
    pub fn rising(&self) -> bool {
        let mut servers = self.0.values().flat_map(|group| group.servers.values());
        servers.any(|server| server.rising.is_some())
    }

    /// Whether a service has its quorum; none where that is not known yet.
    #[must_use]
    pub fn quorum(&self, id: VirtualService) -> Option<bool> {
        self.0.get(&id)?.quorum
    }
}

/// The real servers of a service together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Group {
    /// Whether enough are up; none before that is known.
    quorum: Option<bool>,
    servers: BTreeMap<IpAddr, Server>,
}

/// One of them, as it was last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Server {
    up: Option<bool>,
    /// That it is down has been told: one that a former daemon has left so is told when its first probe says why.
    told_down: bool,
    /// It was there when the service began and has not been probed since: it may have been up all the time.
    settled: bool,
    /// What its check said last, while it is down too.
    weight: Option<u16>,
    /// When it came up, while its weight rises.
    rising: Option<Duration>,
}

impl Group {
    /// The first look at a service: nobody rises, and what is as it should be is not told.
    fn begin(
        service: &Service,
        known: impl Fn(IpAddr) -> ProbeState,
        now: Duration,
    ) -> (Self, Vec<RealServer>, Vec<What>) {
        let mut group = Self::default();
        for server in &service.servers {
            let up = known(server.address).is_up().filter(|&up| up);
            let seen = Server {
                up,
                settled: up.is_none(),
                ..Server::default()
            };
            group.servers.insert(server.address, seen);
        }
        let (servers, mut told) = group.follow(service, known, now);
        told.retain(|what| !matches!(what, What::QuorumGained { .. } | What::Weight { .. }));
        (group, servers, told)
    }

    fn follow(
        &mut self,
        service: &Service,
        known: impl Fn(IpAddr) -> ProbeState,
        now: Duration,
    ) -> (Vec<RealServer>, Vec<What>) {
        let mut told = Vec::new();
        let mut servers = BTreeMap::new();
        for server in &service.servers {
            let before = self.servers.remove(&server.address);
            let known = known(server.address);
            told.extend(update(server, before.as_ref(), &known));
            let seen = Server::seen(before, &known, service.failover.slow_start, now);
            servers.insert(server.address, seen);
        }
        self.servers = servers;
        told.extend(self.decide(service));
        let out_of_service = self.quorum == Some(false) && service.sorry_server.is_some();
        let servers = service.servers.iter().map(|server| {
            let seen = &self.servers[&server.address];
            RealServer {
                weight: seen.weight.unwrap_or(server.weight),
                state: match seen.up {
                    Some(true) if out_of_service => ServerState::Draining,
                    Some(true) => seen.rise(service.failover.slow_start, now),
                    _ => ServerState::Down(service.failover.on_failure),
                },
                ..*server
            }
        });
        (servers.collect(), told)
    }

    /// Decides whether enough are up. As long as the first probes may still make it so, nobody says no.
    fn decide(&mut self, service: &Service) -> Option<What> {
        let Failover { quorum, hysteresis, .. } = service.failover;
        let quorum = quorum.max(1);
        let hysteresis = hysteresis.min(quorum - 1);
        let mut weight = 0;
        for server in &service.servers {
            let seen = &self.servers[&server.address];
            if seen.up == Some(true) {
                weight += u32::from(seen.weight.unwrap_or(server.weight));
            }
        }
        let enough = match self.quorum {
            Some(true) => weight >= quorum - hysteresis,
            Some(false) => weight >= quorum.saturating_add(hysteresis),
            None => weight >= quorum,
        };
        let may_come = || self.servers.values().any(|server| server.up.is_none());
        if self.quorum == Some(enough) || (self.quorum.is_none() && !enough && may_come()) {
            return None;
        }
        self.quorum = Some(enough);
        Some(if enough {
            What::QuorumGained { weight }
        } else {
            What::QuorumLost {
                weight,
                quorum,
                sorry: service.sorry_server.is_some(),
            }
        })
    }
}

/// What there is to tell of a real server. That one is down is told once, as soon as there is a reason: not before it has
/// been probed.
fn update(server: &RealServer, before: Option<&Server>, known: &ProbeState) -> Option<What> {
    let address = server.address;
    let was = before.and_then(|before| before.up);
    match known {
        ProbeState::Up { weight } if was == Some(true) => {
            let from = before.and_then(|before| before.weight).unwrap_or(server.weight);
            let to = weight.unwrap_or(server.weight);
            (from != to).then_some(What::Weight {
                server: address,
                from,
                to,
            })
        }
        ProbeState::Up { weight } => before.map(|_| What::ServerUp {
            server: address,
            weight: weight.unwrap_or(server.weight),
        }),
        ProbeState::Down(reason) if says_why(reason) && before.is_none_or(|before| !before.told_down) => {
            Some(What::ServerDown {
                server: address,
                reason: reason.clone(),
            })
        }
        ProbeState::Down(_) | ProbeState::Unknown => None,
    }
}

/// Whether a reason is more than that nobody has asked.
const fn says_why(reason: &Failure) -> bool {
    !matches!(reason, Failure::NotProbed)
}

impl Server {
    /// It, after another look.
    fn seen(before: Option<Self>, known: &ProbeState, slow_start: u16, now: Duration) -> Self {
        let before = before.unwrap_or_default();
        let up = known.is_up();
        let rising = match up {
            Some(true) if before.up == Some(true) => before.rising,
            Some(true) if !before.settled => Some(now),
            _ => None,
        };
        Self {
            up,
            told_down: match known {
                ProbeState::Down(reason) => before.told_down || says_why(reason),
                ProbeState::Up { .. } | ProbeState::Unknown => false,
            },
            settled: before.settled && up.is_none(),
            weight: match known {
                ProbeState::Up { weight } => *weight,
                _ => before.weight,
            },
            rising: rising.filter(|&since| part(since, now, slow_start).is_some()),
        }
    }

    /// How one that is up stands.
    fn rise(&self, slow_start: u16, now: Duration) -> ServerState {
        let part = self.rising.and_then(|since| part(since, now, slow_start));
        part.map_or(ServerState::Up, ServerState::SlowStart)
    }
}

/// The hundredths of its weight that a real server gets which came up then; none when it gets all of it. They change with
/// the whole second alone, whoever it is.
fn part(since: Duration, now: Duration, slow_start: u16) -> Option<NonZeroU8> {
    let whole = u64::from(slow_start);
    let passed = now.as_secs().saturating_sub(since.as_secs());
    if passed >= whole {
        return None;
    }
    let steps = whole.min(STEPS);
    let hundredths = match passed * steps / whole {
        0 => 50 / steps,
        step => 100 * step / steps,
    };
    NonZeroU8::new(hundredths as u8)
}

#[cfg(test)]
mod tests;
