//! The cluster all fixtures share: its services, its real servers, and the flows of its clients.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lbx::{
    desired::{
        AttachMode, DesiredState, FailurePolicy, HashOptions, OnEmpty, PortSet, Protocol, RealServer, Scheduler,
        ServerState, Service, TableSizes, Timeouts, VirtualService,
    },
    tables::{NextHop, NextHops},
};
use lbx_tests::{
    lab::{CLIENT, DIP, VIP, rip},
    mac::Mac,
    packet::{ACK, FIN, Frame, PSH, RST, SYN},
};

/// A second VIP.
pub const SECOND_VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 161);
/// An address that is none.
pub const NO_VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 162);
/// An IPv6 VIP.
pub const VIP6: Ipv6Addr = segment6(0x160);
/// Another IPv6 VIP.
pub const SECOND_VIP6: Ipv6Addr = segment6(0x161);
/// The client's IPv6 address.
pub const CLIENT6: Ipv6Addr = segment6(0x10);

/// Round robin over rs1 and rs2.
pub const RR: VirtualService = tcp(VIP, 80);
/// Weighted round robin over rs1 (weight 3) and rs2 (weight 1).
pub const WRR: VirtualService = tcp(VIP, 81);
/// Maglev over rs1, rs2 and rs3.
pub const MAGLEV: VirtualService = tcp(VIP, 443);
/// Round robin over rs1 and rs2, UDP.
pub const DNS: VirtualService = udp(VIP, 53);
/// Maglev over rs1, rs2 and rs3, UDP.
pub const SYSLOG: VirtualService = udp(VIP, 514);
/// Round robin over rs1 and rs2, of which both drain.
pub const DRAINED: VirtualService = tcp(VIP, 7);
/// Maglev over rs1 alone, which drains.
pub const DRAINED_MAGLEV: VirtualService = tcp(VIP, 9);
/// A service without real servers.
pub const EMPTY: VirtualService = tcp(VIP, 13);
/// A service whose only real server nobody has found on the network.
pub const UNRESOLVED: VirtualService = udp(VIP, 19);
/// Round robin over rs1 and rs2 on the second VIP: the same port as [`RR`].
pub const SECOND: VirtualService = tcp(SECOND_VIP, 80);

/// Index of lo, the NIC that test runs take for the ingress one.
pub const LO: u32 = 1;

/// Real servers from 1 to this one are on the network.
pub const KNOWN: u8 = 4;
/// The n-th real server, which no neighbour table knows.
const MISSING: u8 = 9;

/// A TCP service.
pub const fn tcp(vip: Ipv4Addr, port: u16) -> VirtualService {
    service(IpAddr::V4(vip), port, Protocol::Tcp)
}

/// A UDP service.
pub const fn udp(vip: Ipv4Addr, port: u16) -> VirtualService {
    service(IpAddr::V4(vip), port, Protocol::Udp)
}

/// A TCP service over IPv6.
pub const fn tcp6(port: u16) -> VirtualService {
    service(IpAddr::V6(VIP6), port, Protocol::Tcp)
}

/// A UDP service over IPv6.
pub const fn udp6(port: u16) -> VirtualService {
    service(IpAddr::V6(VIP6), port, Protocol::Udp)
}

const fn service(vip: IpAddr, port: u16, protocol: Protocol) -> VirtualService {
    VirtualService { vip, port, protocol }
}

/// An address of the segment that all hosts are on.
const fn segment6(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, last)
}

/// Tables that are large enough for every fixture.
pub const SIZES: TableSizes = TableSizes {
    flows4: 1 << 12,
    flows6: 1 << 12,
    slots: 1 << 16,
    ports: 1 << 12,
    fragments: 1 << 8,
};

/// What the director is to do.
pub fn desired(services: Vec<Service>) -> DesiredState {
    DesiredState {
        interfaces: vec!["lo".to_owned()],
        mode: AttachMode::Auto,
        network_grace_seconds: 0,
        timeouts: Timeouts::default(),
        tables: SIZES,
        services,
    }
}

/// The services most fixtures do with.
pub fn services() -> Vec<Service> {
    vec![
        balanced(RR, Scheduler::Rr, &[(1, 1), (2, 1)]),
        balanced(WRR, Scheduler::Wrr, &[(1, 3), (2, 1)]),
        balanced(MAGLEV, Scheduler::Maglev, &[(1, 1), (2, 1), (3, 1)]),
        balanced(DNS, Scheduler::Rr, &[(1, 1), (2, 1)]),
        balanced(SYSLOG, Scheduler::Maglev, &[(1, 1), (2, 1), (3, 1)]),
        balanced(DRAINED, Scheduler::Rr, &[(1, 0), (2, 0)]),
        balanced(DRAINED_MAGLEV, Scheduler::Maglev, &[(1, 0)]),
        balanced(EMPTY, Scheduler::Rr, &[]),
        balanced(UNRESOLVED, Scheduler::Rr, &[(MISSING, 1)]),
        balanced(SECOND, Scheduler::Rr, &[(1, 1), (2, 1)]),
    ]
}

/// A service with its own port alone, over real servers by number and weight.
pub fn balanced(virtual_service: VirtualService, scheduler: Scheduler, weights: &[(u8, u16)]) -> Service {
    let family = virtual_service.vip;
    Service {
        name: virtual_service.to_string(),
        virtual_service,
        ports: PortSet::from_ports([virtual_service.port]),
        scheduler,
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
        // Most fixtures are about who gets a packet, and not about what becomes of one that nobody gets: see `rejects`.
        failure_policy: FailurePolicy {
            on_empty: OnEmpty::Drop,
            ..FailurePolicy::default()
        },
        drain_timeout_seconds: None,
        notify: None,
        local_access: true,
        awaits_checks: false,
        failed_removed_servers: std::collections::BTreeSet::new(),
        servers: weights
            .iter()
            .map(|&(number, weight)| real_server(server_of(family, number), weight))
            .collect(),
    }
}

/// A real server.
pub fn real_server(address: impl Into<IpAddr>, weight: u16) -> RealServer {
    RealServer {
        address: address.into(),
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
        quic_id: None,
        state: ServerState::Up,
    }
}

/// The n-th real server's address of the family of another.
pub const fn server_of(family: IpAddr, number: u8) -> IpAddr {
    match family {
        IpAddr::V4(_) => IpAddr::V4(rip(number)),
        IpAddr::V6(_) => IpAddr::V6(segment6(0x180 + 5 * number as u16)),
    }
}

/// The way to a real server that is reached by a NIC with the director's MAC address.
pub fn hop(server: impl Into<IpAddr>, ifindex: u32) -> NextHop {
    NextHop {
        mac: Mac::of(server).0,
        ifindex,
        vlan_tags: [0; 2],
        source: Mac::of(DIP).0,
    }
}

/// Where the real servers are: all on the ingress NIC.
pub fn hops() -> NextHops {
    [IpAddr::V4(VIP), IpAddr::V6(VIP6)]
        .into_iter()
        .flat_map(|family| (1..=KNOWN).map(move |number| server_of(family, number)))
        .map(|server| (server, hop(server, LO)))
        .collect()
}

/// A client's flow to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who.
    pub client: SocketAddr,
    /// To what.
    pub service: VirtualService,
    /// To which of its ports.
    pub port: u16,
}

/// The flow from a port of the client to a service.
pub const fn flow(service: VirtualService, port: u16) -> Flow {
    let client = match service.vip {
        IpAddr::V4(_) => IpAddr::V4(CLIENT),
        IpAddr::V6(_) => IpAddr::V6(CLIENT6),
    };
    Flow {
        client: SocketAddr::new(client, port),
        service,
        port: service.port,
    }
}

impl Flow {
    /// The same from another client.
    pub fn from(mut self, client: impl Into<IpAddr>) -> Self {
        self.client.set_ip(client.into());
        self
    }

    /// The same to another port of the service.
    pub const fn to_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Where its packets go to.
    pub const fn destination(self) -> SocketAddr {
        SocketAddr::new(self.service.vip, self.port)
    }

    /// A TCP segment of it with these flags, as it reaches the director.
    pub fn tcp(self, flags: u8) -> Frame {
        Frame::tcp(self.client, self.destination(), flags).sent_to(Mac::of(DIP))
    }

    /// The segment that opens it.
    pub fn syn(self) -> Frame {
        self.tcp(SYN)
    }

    /// A segment without data.
    pub fn ack(self) -> Frame {
        self.tcp(ACK)
    }

    /// A segment with data.
    pub fn data(self) -> Frame {
        self.tcp(PSH | ACK).payload(b"GET / HTTP/1.1\r\n\r\n")
    }

    /// The segment that ends it in order.
    pub fn fin(self) -> Frame {
        self.tcp(FIN | ACK)
    }

    /// The segment that breaks it off.
    pub fn rst(self) -> Frame {
        self.tcp(RST)
    }

    /// A datagram of it.
    pub fn datagram(self) -> Frame {
        Frame::udp(self.client, self.destination())
            .sent_to(Mac::of(DIP))
            .payload(b"a question of some length")
    }
}
