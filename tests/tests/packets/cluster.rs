//! The cluster all fixtures share: its services, its real servers, and the flows of its clients.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use lbx::{
    desired::{
        Desired, Hashing, Mode, Ports, Protocol, RealServer, Scheduler, Service, TableSizes, Timeouts, VirtualService,
    },
    tables::{Hop, Hops},
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

/// Round robin over rs1 and rs2.
pub const RR: VirtualService = service(VIP, 80, Protocol::Tcp);
/// Weighted round robin over rs1 (weight 3) and rs2 (weight 1).
pub const WRR: VirtualService = service(VIP, 81, Protocol::Tcp);
/// Maglev over rs1, rs2 and rs3.
pub const MAGLEV: VirtualService = service(VIP, 443, Protocol::Tcp);
/// Round robin over rs1 and rs2, UDP.
pub const DNS: VirtualService = service(VIP, 53, Protocol::Udp);
/// Maglev over rs1, rs2 and rs3, UDP.
pub const SYSLOG: VirtualService = service(VIP, 514, Protocol::Udp);
/// Round robin over rs1 and rs2, of which both drain.
pub const DRAINED: VirtualService = service(VIP, 7, Protocol::Tcp);
/// Maglev over rs1 alone, which drains.
pub const DRAINED_MAGLEV: VirtualService = service(VIP, 9, Protocol::Tcp);
/// A service without real servers.
pub const EMPTY: VirtualService = service(VIP, 13, Protocol::Tcp);
/// A service whose only real server nobody has found on the network.
pub const UNRESOLVED: VirtualService = service(VIP, 19, Protocol::Udp);
/// Round robin over rs1 and rs2 on the second VIP: the same port as [`RR`].
pub const SECOND: VirtualService = service(SECOND_VIP, 80, Protocol::Tcp);

/// Index of lo, the NIC that test runs take for the ingress one.
pub const LO: u32 = 1;

/// The n-th real server, which no neighbour table knows.
const MISSING: u8 = 9;

const fn service(vip: Ipv4Addr, port: u16, protocol: Protocol) -> VirtualService {
    VirtualService {
        vip: IpAddr::V4(vip),
        port,
        protocol,
    }
}

/// What the director is to do.
pub fn desired() -> Desired {
    let service = |virtual_service: VirtualService, scheduler, weights: &[(u8, u16)]| Service {
        name: virtual_service.to_string(),
        virtual_service,
        ports: Ports::one(virtual_service.port),
        scheduler,
        hashing: Hashing {
            port: true,
            fallback: true,
        },
        slots: None,
        persistence: None,
        one_packet: false,
        sorry_server: None,
        quic: false,
        servers: weights
            .iter()
            .map(|&(number, weight)| real_server(number, weight))
            .collect(),
    };
    Desired {
        interfaces: vec!["lo".to_owned()],
        mode: Mode::Auto,
        timeouts: Timeouts::default(),
        tables: TableSizes::default(),
        services: vec![
            service(RR, Scheduler::Rr, &[(1, 1), (2, 1)]),
            service(WRR, Scheduler::Wrr, &[(1, 3), (2, 1)]),
            service(MAGLEV, Scheduler::Maglev, &[(1, 1), (2, 1), (3, 1)]),
            service(DNS, Scheduler::Rr, &[(1, 1), (2, 1)]),
            service(SYSLOG, Scheduler::Maglev, &[(1, 1), (2, 1), (3, 1)]),
            service(DRAINED, Scheduler::Rr, &[(1, 0), (2, 0)]),
            service(DRAINED_MAGLEV, Scheduler::Maglev, &[(1, 0)]),
            service(EMPTY, Scheduler::Rr, &[]),
            service(UNRESOLVED, Scheduler::Rr, &[(MISSING, 1)]),
            service(SECOND, Scheduler::Rr, &[(1, 1), (2, 1)]),
        ],
    }
}

/// The n-th real server.
pub fn real_server(number: u8, weight: u16) -> RealServer {
    RealServer {
        address: rip(number).into(),
        weight,
        upper: 0,
        lower: 0,
        quic_id: None,
    }
}

/// An address of the fixtures, all of which are IPv4.
pub fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => panic!("{address} is not of the fixtures"),
    }
}

/// The way to a real server that is reached by a NIC with the director's MAC address.
pub fn hop(number: u8, ifindex: u32) -> Hop {
    Hop {
        mac: Mac::of(rip(number)).0,
        ifindex,
        vlan: [0; 2],
        source: Mac::of(DIP).0,
    }
}

/// Where the real servers are: all on the ingress NIC.
pub fn hops() -> Hops {
    (1..=3).map(|number| (rip(number).into(), hop(number, LO))).collect()
}

/// A client's flow to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who.
    pub client: SocketAddrV4,
    /// To what.
    pub service: VirtualService,
}

/// The flow from a port of the client to a service.
pub const fn flow(service: VirtualService, port: u16) -> Flow {
    Flow {
        client: SocketAddrV4::new(CLIENT, port),
        service,
    }
}

impl Flow {
    fn destination(self) -> SocketAddrV4 {
        SocketAddrV4::new(v4(self.service.vip), self.service.port)
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
