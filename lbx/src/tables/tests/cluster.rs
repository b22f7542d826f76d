//! What the operator wants and the network gives, small enough to be changed at random.

use std::{collections::BTreeSet, net::IpAddr};

use super::super::{NextHop, NextHops};
use crate::desired::{
    AttachMode, DesiredState, FailurePolicy, HashOptions, OnFailure, PortSet, Protocol, RealServer, Scheduler,
    ServerState, Service, TableSizes, Timeouts, VirtualService,
};

/// Services of a [`Cluster`]; the last is UDP.
pub const SERVICES: usize = 3;
/// Real servers there are.
pub const SERVERS: u8 = 5;
/// One more, that is nobody's but as the sorry server.
pub const SORRY: u8 = SERVERS;
/// Two sets of idle timeouts, short enough to pass often.
pub const TIMEOUTS: [Timeouts; 2] = [
    Timeouts {
        half_open_seconds: 5,
        established_seconds: 12,
        closing_seconds: 4,
        closed_seconds: 2,
        udp_seconds: 8,
    },
    Timeouts {
        half_open_seconds: 3,
        established_seconds: 20,
        closing_seconds: 6,
        closed_seconds: 3,
        udp_seconds: 5,
    },
];

/// A configuration and a network.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub services: [DesiredModel; SERVICES],
    pub hops: NextHops,
    pub timeouts: Timeouts,
    /// Real servers out of the file, by service, whose drain timeout is over.
    pub cut: BTreeSet<(usize, IpAddr)>,
}

/// A service that may be in the file.
#[derive(Clone, Debug)]
pub struct DesiredModel {
    pub on: bool,
    pub service: Service,
}

/// One thing that becomes different.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// A real server is in the file, with this weight.
    Weight(usize, u8, u16),
    /// A real server is not in the file.
    Remove(usize, u8),
    /// Another scheduler, or the same.
    Scheduler(usize, Scheduler),
    /// A service goes, or comes back.
    Toggle(usize),
    /// The file lists the real servers of a service in reverse.
    Reverse(usize),
    /// A real server answers no longer.
    Lose(u8),
    /// A real server answers from this NIC.
    Answer(u8, u8),
    /// One of the two sets of timeouts.
    Timeouts(usize),
    /// The checks of a real server of a service say this. If it is out of the file, only up and down matter.
    ServerState(usize, u8, ServerState),
    /// Seconds after which flows of real servers of a service that are out of the file are cut.
    DrainTimeout(usize, Option<u32>),
    /// What becomes of the flows of those of a service that are lost.
    OnFailure(usize, OnFailure),
    /// A service has a sorry server, or has it no longer.
    Sorry(usize),
    /// A service waits for the first results of its checks, or does so no longer.
    Await(usize),
    /// Another real server takes over the slots of one that is down, or does so no longer.
    Fallback(usize),
}

/// What becomes of the flows of a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They go on.
    Lives,
    /// Their packets are dropped for the time being.
    FailedDrop,
    /// They may go anywhere.
    Lost,
}

impl Cluster {
    /// Every service with the first three real servers, all of which answer.
    pub fn new(schedulers: [Scheduler; SERVICES]) -> Self {
        let desired_model = |number: usize| DesiredModel {
            on: true,
            service: Service {
                name: format!("service-{number}"),
                virtual_service: VirtualService {
                    vip: IpAddr::from([192, 0, 2, 1 + number as u8 / 2]),
                    port: [80, 443, 53][number],
                    protocol: [Protocol::Tcp, Protocol::Tcp, Protocol::Udp][number],
                },
                ports: PortSet::one([80, 443, 53][number]),
                scheduler: schedulers[number],
                hash_options: HashOptions {
                    include_port: true,
                    fallback: true,
                },
                slots: None,
                persistence: None,
                one_packet: false,
                sorry_server: None,
                quic: false,
                health: None,
                failure_policy: FailurePolicy::default(),
                drain_timeout_seconds: None,
                notify: None,
                local_access: true,
                awaits_checks: false,
                failed_removed_servers: BTreeSet::new(),
                servers: (0..3).map(|n| real_server(n, 1)).collect(),
            },
        };
        Self {
            services: [desired_model(0), desired_model(1), desired_model(2)],
            hops: (0..=SORRY).map(|n| (address(n), hop(n, 0))).collect(),
            timeouts: TIMEOUTS[0],
            cut: BTreeSet::new(),
        }
    }

    pub fn change(&mut self, change: Change) {
        match change {
            Change::Weight(service, server, weight) => {
                let service = &mut self.services[service].service;
                service.failed_removed_servers.remove(&address(server));
                let servers = &mut service.servers;
                match servers.iter_mut().find(|other| other.address == address(server)) {
                    Some(server) => server.weight = weight,
                    None => servers.push(real_server(server, weight)),
                }
            }
            Change::Remove(service, server) => {
                let service = &mut self.services[service].service;
                let removed = service.servers.extract_if(.., |other| other.address == address(server));
                let failed = removed.filter(|removed| matches!(removed.state, ServerState::Down(_)));
                service
                    .failed_removed_servers
                    .extend(failed.map(|removed| removed.address));
            }
            Change::Scheduler(service, scheduler) => self.services[service].service.scheduler = scheduler,
            Change::Toggle(service) => self.services[service].on ^= true,
            Change::Reverse(service) => self.services[service].service.servers.reverse(),
            Change::Lose(server) => drop(self.hops.remove(&address(server))),
            Change::Answer(server, nic) => drop(self.hops.insert(address(server), hop(server, nic))),
            Change::Timeouts(set) => self.timeouts = TIMEOUTS[set],
            Change::ServerState(service, server, state) => {
                let service = &mut self.services[service].service;
                let address = address(server);
                if let Some(server) = service.servers.iter_mut().find(|other| other.address == address) {
                    server.state = state;
                } else if matches!(state, ServerState::Down(_)) {
                    service.failed_removed_servers.insert(address);
                } else {
                    service.failed_removed_servers.remove(&address);
                }
            }
            Change::DrainTimeout(service, seconds) => {
                self.services[service].service.drain_timeout_seconds = seconds;
            }
            Change::OnFailure(service, on_failure) => {
                self.services[service].service.failure_policy.on_failure = on_failure;
            }
            Change::Sorry(service) => {
                let sorry = &mut self.services[service].service.sorry_server;
                *sorry = sorry.is_none().then(|| address(SORRY));
            }
            Change::Await(service) => self.services[service].service.awaits_checks ^= true,
            Change::Fallback(service) => self.services[service].service.hash_options.fallback ^= true,
        }
    }

    /// What becomes of the flows that a real server has of a service.
    pub fn fate(&self, service: usize, server: IpAddr) -> Fate {
        if self.cut.contains(&(service, server)) {
            return Fate::Lost;
        }
        let DesiredModel { on, service } = &self.services[service];
        let named = service.servers.iter().find(|named| named.address == server);
        let failed = match named {
            _ if !on => Some(OnFailure::Rehash),
            Some(RealServer {
                state: ServerState::Down(on_failure),
                ..
            }) if self.hops.contains_key(&server) => Some(*on_failure),
            None if Self::has_failed_removed(service, server) => Some(service.failure_policy.on_failure),
            _ if self.hops.contains_key(&server) => None,
            _ => Some(service.failure_policy.on_failure),
        };
        match failed {
            None | Some(OnFailure::Keep) => Fate::Lives,
            Some(OnFailure::Drop) => Fate::FailedDrop,
            Some(OnFailure::Rehash) => Fate::Lost,
        }
    }

    /// Whether a real server that is out of the file is down by its last check.
    fn has_failed_removed(service: &Service, server: IpAddr) -> bool {
        service.sorry_server != Some(server) && service.failed_removed_servers.contains(&server)
    }

    /// Whether a service has a real server in the file.
    pub fn has_server(&self, service: usize, server: IpAddr) -> bool {
        let service = &self.services[service].service;
        service.server_addresses().any(|address| address == server)
    }

    pub fn desired(&self) -> DesiredState {
        DesiredState {
            interfaces: vec!["eth0".into()],
            mode: AttachMode::Auto,
            network_grace_seconds: 30,
            timeouts: self.timeouts,
            tables: TableSizes::default(),
            services: self
                .services
                .iter()
                .filter(|desired_model| desired_model.on)
                .map(|desired_model| desired_model.service.clone())
                .collect(),
        }
    }

    pub fn id(&self, service: usize) -> VirtualService {
        self.services[service].service.virtual_service
    }
}

/// RIP of a real server by number.
pub fn address(server: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, 1 + server])
}

/// The number of a real server by its RIP.
pub fn number(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(address) => address.octets()[3] - 1,
        IpAddr::V6(_) => panic!("{address} is no real server of the cluster"),
    }
}

pub fn real_server(server: u8, weight: u16) -> RealServer {
    RealServer {
        address: address(server),
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
        quic_id: None,
        state: ServerState::Up,
    }
}

/// The way to a real server's NIC.
pub fn hop(server: u8, nic: u8) -> NextHop {
    NextHop {
        mac: [2, 0, 0, 0, nic, server],
        ifindex: 2,
        vlan_tags: [0; 2],
        source: [2, 0, 0, 0, 0xff, 0xff],
    }
}
