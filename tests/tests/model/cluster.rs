//! What the operator wants and the network gives, small enough to be changed at random.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use lbx::{
    desired::{
        AttachMode, DesiredState, FailurePolicy, HashOptions, OnEmpty, OnFailure, Persistence, PortSet, Protocol,
        RealServer, Scheduler, ServerState, Service, TableSizes, Timeouts, VirtualService,
    },
    tables::{NextHop, NextHops},
};

use crate::frame::DIRECTOR;

/// Services of a [`Cluster`].
pub const SERVICES: usize = 6;
/// Real servers there are; one more is the sorry server.
pub const SERVERS: u8 = 5;
/// The sorry server.
pub const SORRY: u8 = SERVERS;
/// Index of lo, the NIC that test runs take for the ingress one.
pub const LO: u32 = 1;
/// Slots of each service: the fewest there may be.
const SLOTS: u32 = 251;

/// Sets of idle timeouts, short enough to pass often.
pub const TIMEOUTS: [Timeouts; 2] = [
    Timeouts {
        half_open_seconds: 6,
        established_seconds: 14,
        closing_seconds: 7,
        closed_seconds: 3,
        udp_seconds: 9,
    },
    Timeouts {
        half_open_seconds: 4,
        established_seconds: 20,
        closing_seconds: 9,
        closed_seconds: 4,
        udp_seconds: 6,
    },
];
/// Longer than any timeout in ticks, the writes of a plan included.
pub const FORGOTTEN: u32 = 25;

/// A configuration and a network.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub services: [DesiredModel; SERVICES],
    /// Where real servers answer, by number; see [`hop`].
    pub hops: BTreeMap<u8, u8>,
    pub timeouts: Timeouts,
    /// Real servers out of the file, by service, whose drain timeout is over.
    pub cut: BTreeSet<(usize, u8)>,
}

/// A service that may be in the file.
#[derive(Clone, Debug)]
pub struct DesiredModel {
    pub on: bool,
    pub service: Service,
}

/// How a service schedules.
#[derive(Clone, Copy, Debug)]
pub struct How {
    pub scheduler: Scheduler,
    pub port: bool,
    pub fallback: bool,
}

/// One thing that becomes different.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// A real server is in the file, with this weight.
    Weight(usize, u8, u16),
    /// A real server is not in the file.
    Remove(usize, u8),
    /// The real servers in the file are others now.
    Replace(usize),
    /// All real servers of a service drain.
    Drain(usize),
    /// A real server has thresholds, or none.
    Limit(usize, u8, u32, u32),
    /// Another scheduler, or the same.
    Schedule(usize, How),
    /// Clients of a service persist, or not.
    Persist(usize, Option<(u16, bool, bool)>),
    /// A service has a sorry server, or none.
    Sorry(usize, bool),
    /// A UDP service schedules every datagram by itself, or not.
    OnePacket(usize, bool),
    /// A service has so many ports more than its first.
    Ports(usize, u16),
    /// A service goes, or comes back.
    Toggle(usize),
    /// The file lists the real servers of a service in reverse.
    Reverse(usize),
    /// A real server answers no longer.
    Lose(u8),
    /// A real server answers from this NIC.
    Answer(u8, u8),
    /// One of the sets of timeouts.
    Timeouts(usize),
    /// The checks of a real server of a service say this. If it is out of the file, only up and down matter.
    Stand(usize, u8, ServerState),
    /// Seconds after which flows of real servers of a service that are out of the file are cut.
    DrainTimeout(usize, Option<u32>),
}

/// VIP, protocol and first port of every service. The last has all ports of its VIP that no other has.
pub fn identity(service: usize) -> VirtualService {
    const SIX: [u16; 8] = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1];
    let (vip, protocol, port) = match service {
        0 => (IpAddr::from([192, 0, 2, 1]), Protocol::Tcp, 80),
        1 => (IpAddr::from([192, 0, 2, 2]), Protocol::Tcp, 443),
        2 => (IpAddr::from([192, 0, 2, 1]), Protocol::Udp, 53),
        3 => (IpAddr::from(SIX), Protocol::Tcp, 80),
        4 => (IpAddr::from(SIX), Protocol::Udp, 53),
        _ => (IpAddr::from([192, 0, 2, 2]), Protocol::Tcp, 0),
    };
    VirtualService { vip, port, protocol }
}

impl Cluster {
    /// Every service with the first three real servers, all of which answer.
    pub fn new(schedulers: &[How; SERVICES]) -> Self {
        let wish = |number: usize| DesiredModel {
            on: true,
            service: Service {
                name: format!("service-{number}"),
                virtual_service: identity(number),
                ports: PortSet::from_ports([identity(number).port]),
                scheduler: schedulers[number].scheduler,
                hash_options: schedulers[number].hashing(),
                slots: Some(SLOTS),
                persistence: None,
                one_packet: false,
                sorry_server: None,
                quic: false,
                health: None,
                failure_policy: FailurePolicy {
                    on_empty: OnEmpty::Drop,
                    ..FailurePolicy::default()
                },
                drain_timeout_seconds: None,
                notify: None,
                local_access: true,
                awaits_checks: false,
                failed_removed_servers: BTreeSet::new(),
                servers: (0..3).map(|n| real_server(number, n, 1)).collect(),
            },
        };
        Self {
            services: std::array::from_fn(wish),
            hops: (0..=SERVERS).map(|n| (n, 0)).collect(),
            timeouts: TIMEOUTS[0],
            cut: BTreeSet::new(),
        }
    }

    /// No service.
    pub fn nothing() -> Self {
        let how = How {
            scheduler: Scheduler::Rr,
            port: false,
            fallback: false,
        };
        let mut cluster = Self::new(&[how; SERVICES]);
        cluster.services.iter_mut().for_each(|wish| wish.on = false);
        cluster
    }

    pub fn change(&mut self, change: Change) {
        match change {
            Change::Weight(service, server, weight) => {
                let service_model = &mut self.services[service].service;
                service_model
                    .failed_removed_servers
                    .retain(|&other| number(other) != server);
                let servers = &mut service_model.servers;
                match servers.iter_mut().find(|other| number(other.address) == server) {
                    Some(server) => server.weight = weight,
                    None => servers.push(real_server(service, server, weight)),
                }
            }
            Change::Remove(service, server) => {
                let servers = &mut self.services[service].service.servers;
                servers.retain(|other| number(other.address) != server);
            }
            Change::Replace(service) => {
                let servers = &mut self.services[service].service.servers;
                let before: Vec<u8> = servers.iter().map(|server| number(server.address)).collect();
                let others = (0..SERVERS).filter(|n| !before.contains(n));
                *servers = others.map(|n| real_server(service, n, 1)).collect();
                self.services[service].service.failed_removed_servers.clear();
            }
            Change::Drain(service) => {
                let servers = &mut self.services[service].service.servers;
                servers.iter_mut().for_each(|server| server.weight = 0);
            }
            Change::Limit(service, server, upper, lower) => {
                let servers = &mut self.services[service].service.servers;
                if let Some(server) = servers.iter_mut().find(|other| number(other.address) == server) {
                    (server.upper_threshold, server.lower_threshold) = (upper, lower);
                }
            }
            Change::Toggle(service) => self.services[service].on ^= true,
            Change::Reverse(service) => self.services[service].service.servers.reverse(),
            Change::Lose(server) => drop(self.hops.remove(&server)),
            Change::Answer(server, from) => drop(self.hops.insert(server, from)),
            Change::Timeouts(set) => self.timeouts = TIMEOUTS[set],
            Change::Stand(service, server, state) => {
                let address = real_server(service, server, 1).address;
                let service = &mut self.services[service].service;
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
            Change::Schedule(service, _)
            | Change::Persist(service, _)
            | Change::Sorry(service, _)
            | Change::OnePacket(service, _)
            | Change::Ports(service, _) => self.services[service].service.change(service, change),
        }
    }

    pub fn desired(&self) -> DesiredState {
        DesiredState {
            interfaces: vec!["lo".into()],
            mode: AttachMode::Auto,
            network_grace_seconds: 0,
            timeouts: self.timeouts,
            tables: TableSizes::default(),
            services: self
                .services
                .iter()
                .filter(|wish| wish.on)
                .map(|wish| wish.service.clone())
                .collect(),
        }
    }

    pub fn hops(&self) -> NextHops {
        let both = self
            .hops
            .iter()
            .flat_map(|(&n, &from)| [(false, n, from), (true, n, from)]);
        both.map(|(six, n, from)| (address(six, n), hop(six, n, from)))
            .collect()
    }

    /// The service that a packet to a port is for: that of the port, else that of all ports.
    pub fn service_of(&self, vip: IpAddr, protocol: Protocol, port: u16) -> Option<usize> {
        let on = |&service: &usize| {
            let id = identity(service);
            self.services[service].on && id.vip == vip && id.protocol == protocol
        };
        let ports = |service: usize| &self.services[service].service.ports;
        let exact = |&service: &usize| {
            matches!(ports(service), PortSet::Ranges(_)) && ports(service).overlaps(&PortSet::one(port))
        };
        let all = |&service: &usize| *ports(service) == PortSet::All;
        (0..SERVICES)
            .filter(on)
            .find(exact)
            .or_else(|| (0..SERVICES).filter(on).find(all))
    }

    /// Whether any service has a VIP.
    pub fn has_vip(&self, vip: IpAddr) -> bool {
        (0..SERVICES).any(|service| self.services[service].on && identity(service).vip == vip)
    }

    /// The real servers of a service that are to get new connections: with a weight, and up. Number and what the file says.
    pub fn eligible(&self, service: usize) -> Vec<(u8, RealServer)> {
        let servers = &self.services[service].service.servers;
        let numbered = servers.iter().map(|server| (number(server.address), *server));
        numbered
            .filter(|(n, server)| server.weight > 0 && server.state == ServerState::Up && self.hops.contains_key(n))
            .collect()
    }

    /// The real servers of a service, the sorry server too, that packets may go to.
    pub fn up(&self, service: usize) -> BTreeSet<u8> {
        let wish = &self.services[service];
        let numbers = wish.service.server_addresses().map(number);
        numbers.filter(|n| wish.on && self.reaches(service, *n)).collect()
    }

    /// What the checks say of a real server of a service, in the file or out of it. The sorry server is not checked.
    pub fn server_state(&self, service: usize, server: u8) -> ServerState {
        let service = &self.services[service].service;
        if let Some(named) = service.servers.iter().find(|other| number(other.address) == server) {
            return named.state;
        }
        let mut failed = service.failed_removed_servers.iter();
        if failed.any(|&other| number(other) == server) {
            return ServerState::Down(service.failure_policy.on_failure);
        }
        ServerState::Up
    }

    /// Whether a service has a real server in the file, or the sorry server.
    pub fn has_server(&self, service: usize, server: u8) -> bool {
        let service = &self.services[service].service;
        service.server_addresses().any(|address| number(address) == server)
    }

    /// Whether packets of the flows that a real server has may go there.
    pub fn reaches(&self, service: usize, server: u8) -> bool {
        !self.loses(service, server) && !self.holds(service, server)
    }

    /// Whether the flows that a real server has are over.
    pub fn loses(&self, service: usize, server: u8) -> bool {
        let is_down = self.server_state(service, server) == ServerState::Down(OnFailure::Rehash);
        !self.hops.contains_key(&server) || is_down || self.cut.contains(&(service, server))
    }

    /// Whether packets of the flows that a real server has are dropped.
    pub fn holds(&self, service: usize, server: u8) -> bool {
        self.hops.contains_key(&server) && self.server_state(service, server) == ServerState::Down(OnFailure::Drop)
    }

    /// Whether the sorry server of a service is there.
    pub fn has_sorry(&self, service: usize) -> bool {
        self.services[service].service.sorry_server.is_some() && self.hops.contains_key(&SORRY)
    }
}

impl How {
    fn hashing(self) -> HashOptions {
        HashOptions {
            include_port: self.port || self.scheduler == Scheduler::Maglev,
            fallback: self.fallback || self.scheduler == Scheduler::Maglev,
        }
    }
}

trait Changing {
    fn change(&mut self, number: usize, change: Change);
}

impl Changing for Service {
    /// Changes what is neither real server nor network.
    fn change(&mut self, number: usize, change: Change) {
        let six = identity(number).vip.is_ipv6();
        let udp = identity(number).protocol == Protocol::Udp;
        match change {
            Change::Schedule(_, how) => {
                self.scheduler = how.scheduler;
                self.hash_options = how.hashing();
            }
            Change::Persist(_, persistence) => {
                self.one_packet = false;
                self.persistence = persistence.map(|(timeout, network, drain)| Persistence {
                    timeout_seconds: timeout,
                    prefix: match (six, network) {
                        (false, false) => 32,
                        (false, true) => 24,
                        (true, false) => 128,
                        (true, true) => 64,
                    },
                    persist_while_draining: drain,
                });
            }
            Change::Sorry(_, on) => self.sorry_server = on.then(|| address(six, SORRY)),
            Change::OnePacket(_, on) => self.one_packet = on && udp && self.persistence.is_none(),
            Change::Ports(_, more) => {
                let first = identity(number).port;
                self.ports = PortSet::from_ports(first..=if first == 0 { 0 } else { first + more });
            }
            _ => {}
        }
    }
}

/// The address of a client. The first two are of one network.
pub fn client(six: bool, client: u8) -> IpAddr {
    let network = client / 2;
    if six {
        IpAddr::from([0x2001, 0xdb8, 0xc, u16::from(network), 0, 0, 0, 1 + u16::from(client)])
    } else {
        IpAddr::from([198, 51, 100 + network, 1 + client])
    }
}

/// RIP of a real server by number.
pub fn address(six: bool, server: u8) -> IpAddr {
    if six {
        IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1 + u16::from(server)])
    } else {
        IpAddr::from([10, 0, 0, 1 + server])
    }
}

/// The number of a real server by its RIP.
pub fn number(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(address) => address.octets()[3] - 1,
        IpAddr::V6(address) => address.octets()[15] - 1,
    }
}

fn real_server(service: usize, server: u8, weight: u16) -> RealServer {
    RealServer {
        address: address(identity(service).vip.is_ipv6(), server),
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
        quic_id: None,
        state: ServerState::Up,
    }
}

/// The way to a real server's NIC: the last of them is in a VLAN.
pub fn hop(six: bool, server: u8, from: u8) -> NextHop {
    NextHop {
        mac: [2, 1 + u8::from(six), 0, 0, from, server],
        ifindex: LO,
        vlan_tags: [if from == 2 { 7 } else { 0 }, 0],
        source: DIRECTOR,
    }
}
