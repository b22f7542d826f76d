//! The real servers of a service: desired, and as backends in the maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use lbx_common::{
    backend::{self, Backend, MacAndState, VlanTags, mac_to_word},
    flow::{TICK_SHIFT, elapsed_ticks},
};

use super::{NextHop, NextHops, event::TableEventKind, flow_policy::ticks_of_seconds, lookup::address};
use crate::desired::{OnFailure, ServerState, Service};

/// A real server of the desired state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DesiredServer {
    /// RIP.
    pub address: IpAddr,
    /// Weight; 0 drains.
    pub weight: u16,
    /// Connections at which it gets no more; 0: no limit.
    pub upper_threshold: u32,
    /// Connections below which it gets new ones again; 0: three quarters of `upper`.
    pub lower_threshold: u32,
    /// Its server id in QUIC connection ids.
    pub quic_server_id: Option<u16>,
    /// Whether it is the sorry server: it gets connections only when no other does.
    pub sorry: bool,
    /// Its state by its health checks.
    pub state: ServerState,
}

impl DesiredServer {
    /// What happens to its flows, if its health checks fail.
    #[must_use]
    pub const fn failure_action(&self) -> Option<OnFailure> {
        match self.state {
            ServerState::Down(on_failure) => Some(on_failure),
            _ => None,
        }
    }
}

/// The real servers of a service, as far as its backends depend on them.
#[derive(Debug)]
pub struct DesiredServers<'s> {
    by_address: BTreeMap<IpAddr, DesiredServer>,
    drain_policy: DrainPolicy<'s>,
}

/// What happens to real servers that are out of the file.
#[derive(Clone, Copy, Debug)]
struct DrainPolicy<'s> {
    /// What happens to the flows of those that fail.
    on_failure: OnFailure,
    /// Those that are down by their last health check.
    failed_servers: &'s BTreeSet<IpAddr>,
    /// The time after which flows that are left are cut; none: never.
    timeout_ticks: Option<u32>,
}

impl<'s> DesiredServers<'s> {
    /// Those of a service.
    #[must_use]
    pub fn of(service: &'s Service) -> Self {
        let servers = desired_servers(service).into_iter();
        Self {
            by_address: servers.map(|server| (server.address, server)).collect(),
            drain_policy: DrainPolicy {
                on_failure: service.failure_policy.on_failure,
                failed_servers: &service.failed_removed_servers,
                timeout_ticks: service.drain_timeout_seconds.map(ticks_of_seconds),
            },
        }
    }
}

/// The real servers of a service in the order of the file, the sorry server last.
#[must_use]
pub fn desired_servers(service: &Service) -> Vec<DesiredServer> {
    let sorry = service.sorry_server.map(|address| DesiredServer {
        address,
        weight: 0,
        upper_threshold: 0,
        lower_threshold: 0,
        quic_server_id: None,
        sorry: true,
        state: if service.awaits_checks {
            ServerState::Draining
        } else {
            ServerState::Up
        },
    });
    let servers = service.servers.iter().map(|server| DesiredServer {
        address: server.address,
        weight: server.weight,
        upper_threshold: server.upper_threshold,
        lower_threshold: server.lower_threshold,
        quic_server_id: server.quic_id,
        sorry: false,
        state: server.state,
    });
    servers.chain(sorry).collect()
}

/// A backend as it is in the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadedBackend {
    /// RIP.
    pub address: IpAddr,
    /// Weight; 0 drains.
    pub weight: u16,
    /// Connections at which it gets no more; 0: no limit.
    pub upper_threshold: u32,
    /// Connections below which it gets new ones again.
    pub lower_threshold: u32,
    /// Whether it is the sorry server.
    pub sorry: bool,
    /// Its next hop.
    pub next_hop: NextHop,
    /// Its index in the backend counters.
    pub counter_index: u32,
    /// Its state.
    pub state: BackendState,
    /// The tick since which it is out of the desired state, and drains; none: it is in the desired state.
    pub removed_since_tick: Option<u32>,
}

/// The state of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendState {
    /// It gets new connections, as its weight says.
    Up,
    /// It keeps its flows and gets no new connections: its service is below quorum.
    Draining,
    /// Down, and it keeps its flows (`on_failure: keep`).
    FailedKeep,
    /// Down, and packets of its flows are dropped until it is up (`on_failure: drop`).
    FailedDrop,
    /// Down with its connections re-scheduled, or drained: it gets no packet, and its index is reused once no record names it.
    Dead {
        /// The tick since which it is dead.
        since: u32,
    },
}

impl BackendState {
    /// Whether it may own flows.
    #[must_use]
    pub const fn may_own_flows(self) -> bool {
        !matches!(self, Self::Dead { .. })
    }

    /// Whether it is down and still owns its flows.
    #[must_use]
    pub const fn has_failed(self) -> bool {
        matches!(self, Self::FailedKeep | Self::FailedDrop)
    }

    const fn failed(on_failure: OnFailure, now: u32) -> Self {
        match on_failure {
            OnFailure::Rehash => Self::Dead { since: now },
            OnFailure::Keep => Self::FailedKeep,
            OnFailure::Drop => Self::FailedDrop,
        }
    }
}

impl LoadedBackend {
    /// A new backend.
    #[must_use]
    pub const fn new(desired: &DesiredServer, next_hop: NextHop, counter: u32) -> Self {
        Self {
            address: desired.address,
            weight: desired.weight,
            upper_threshold: desired.upper_threshold,
            lower_threshold: desired.lower_threshold,
            sorry: desired.sorry,
            next_hop,
            counter_index: counter,
            state: match desired.state {
                ServerState::Draining => BackendState::Draining,
                _ => BackendState::Up,
            },
            removed_since_tick: None,
        }
    }

    /// Whether it is in the desired state.
    #[must_use]
    pub const fn is_configured(&self) -> bool {
        self.removed_since_tick.is_none()
    }

    /// The ticks that are left of a drain timeout, if it is draining: 0 when its flows are to be cut.
    #[must_use]
    pub fn drain_ticks_left(&self, timeout_ticks: u32, now: u32) -> Option<u32> {
        let since = self.removed_since_tick.filter(|_| self.state.may_own_flows())?;
        // The first tick may have been nearly over.
        Some((timeout_ticks + 1).saturating_sub(elapsed_ticks(since, now)))
    }

    /// Whether it gets new connections.
    #[must_use]
    pub const fn accepts_connections(&self) -> bool {
        matches!(self.state, BackendState::Up) && (self.weight > 0 || self.sorry)
    }

    /// Likewise in seconds.
    #[must_use]
    pub fn drain_seconds_left(&self, timeout_seconds: u32, now: u32) -> Option<u32> {
        let ticks = self.drain_ticks_left(ticks_of_seconds(timeout_seconds), now)?;
        let seconds = (u64::from(ticks) << TICK_SHIFT).div_ceil(1_000_000_000) as u32;
        Some(seconds.min(timeout_seconds))
    }

    /// The backend as the map holds it.
    #[must_use]
    pub fn to_backend(&self) -> Backend {
        let state = match self.state {
            BackendState::Dead { .. } => backend::DEAD,
            BackendState::FailedDrop => backend::FAILED_DROP,
            BackendState::FailedKeep => backend::FAILED_KEEP,
            _ if !self.is_configured() => backend::REMOVED,
            BackendState::Up if self.accepts_connections() => backend::UP,
            BackendState::Up | BackendState::Draining => backend::DRAINING,
        };
        let [outer, inner] = self.next_hop.vlan_tags;
        Backend {
            mac_and_state: MacAndState {
                mac: self.next_hop.mac,
                state,
            }
            .to_word(),
            source_mac: mac_to_word(self.next_hop.source),
            vlan_tags: VlanTags { outer, inner },
            ifindex: self.next_hop.ifindex,
            counter_index: self.counter_index,
            address: address(self.address).octets(),
            upper_threshold: self.upper_threshold,
            lower_threshold: self.lower_threshold,
            weight: u32::from(self.weight),
            removed_since: self.removed_since_tick.map_or(0, |tick| tick + 1),
        }
    }

    /// Updates it to the desired state and its next hop: drains if it is no longer configured, goes down if its health checks
    /// fail or no next hop is left. Without a next hop it keeps the last one.
    pub fn update(
        &mut self,
        all: &DesiredServers<'_>,
        next_hops: &NextHops,
        now: u32,
        events: &mut Vec<TableEventKind>,
    ) {
        let server = self.address;
        let desired = all.by_address.get(&server);
        let was_configured = self.is_configured();
        self.removed_since_tick = match desired {
            Some(_) => None,
            None => self.removed_since_tick.or(Some(now)),
        };
        if !self.state.may_own_flows() {
            return;
        }
        let weight = desired.map_or(0, |desired| desired.weight);
        if desired.is_none() && was_configured {
            events.push(TableEventKind::Draining(server));
        } else if weight != self.weight {
            events.push(TableEventKind::WeightChanged {
                server,
                from: self.weight,
                to: weight,
            });
        }
        self.weight = weight;
        self.sorry = desired.is_some_and(|desired| desired.sorry);
        if let Some(desired) = desired {
            self.upper_threshold = desired.upper_threshold;
            self.lower_threshold = desired.lower_threshold;
        }
        let next_hop = next_hops.get(&server);
        if let Some(&next_hop) = next_hop {
            if next_hop.mac != self.next_hop.mac {
                events.push(TableEventKind::MacChanged {
                    server,
                    from: self.next_hop.mac,
                    to: next_hop.mac,
                });
            }
            self.next_hop = next_hop;
        }
        match desired {
            None if self.is_drain_over(all.drain_policy, now) => {
                self.state = BackendState::Dead { since: now };
                events.push(TableEventKind::DrainTimeout(server));
            }
            _ => self.update_state(all, next_hop.is_some(), now, events),
        }
    }

    /// Whether it has been draining for longer than it may.
    fn is_drain_over(&self, policy: DrainPolicy<'_>, now: u32) -> bool {
        let left = policy
            .timeout_ticks
            .and_then(|timeout| self.drain_ticks_left(timeout, now));
        left == Some(0)
    }

    /// Sets the state by next hop and health checks.
    fn update_state(&mut self, all: &DesiredServers<'_>, has_hop: bool, now: u32, events: &mut Vec<TableEventKind>) {
        let desired = all.by_address.get(&self.address);
        let policy = all.drain_policy;
        let failed = match desired {
            _ if !has_hop => Some(policy.on_failure),
            Some(desired) => desired.failure_action(),
            None => policy
                .failed_servers
                .contains(&self.address)
                .then_some(policy.on_failure),
        };
        let state = match failed {
            Some(on_failure) => BackendState::failed(on_failure, now),
            None if desired.is_some_and(|desired| desired.state == ServerState::Draining) => BackendState::Draining,
            None => BackendState::Up,
        };
        let had_failed = std::mem::replace(&mut self.state, state).has_failed();
        let server = self.address;
        match failed {
            Some(on_failure) if !had_failed && has_hop => {
                events.push(TableEventKind::ServerFailed { server, on_failure })
            }
            Some(on_failure) if !had_failed => events.push(TableEventKind::ServerUnresolved { server, on_failure }),
            None if had_failed => events.push(TableEventKind::ServerUp {
                server,
                weight: self.weight,
                mac: self.next_hop.mac,
            }),
            _ => {}
        }
    }
}
