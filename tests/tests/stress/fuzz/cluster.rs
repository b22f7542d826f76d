//! Services of every kind, and what a reader of the configuration expects of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use lbx::desired::{Persistence, PortSet, Protocol, Scheduler, Service, TableSizes};
use lbx_common::{
    backend::VlanTags,
    nic::{self, Nic},
};

use crate::director::{self, Director, LO, OWN_MAC};

/// VIPs with services; each has all ports of a kind but the first of its family.
pub const VIPS: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)),
];
/// Ports of services, and two that no service has.
pub const PORTS: [u16; 11] = [80, 81, 443, 53, 514, 13, 8000, 8005, 90, 7, 8010];

const SIZES: TableSizes = TableSizes {
    flows4: 256,
    flows6: 128,
    slots: 65_536,
    ports: 1024,
    fragments: 64,
};

/// The VLAN on which clients are besides the plain segment.
pub const VLAN: u16 = 100;

/// The tags that lead to a real server.
pub const fn tags_to(server: u8) -> [u16; 2] {
    match server {
        8 => [5, 0],
        9 => [VlanTags::SERVICE_TAG_FLAG | 6, 7],
        _ => [0; 2],
    }
}

/// The director.
pub fn director() -> Result<Director> {
    let services = VIPS.into_iter().flat_map(services).collect();
    let mut director = Director::open(SIZES, services)?;
    for (address, hop) in &mut director.hops {
        let last = match address {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[15],
        };
        hop.vlan_tags = tags_to(last);
    }
    director.dataplane_mut().set_nic(Nic {
        mac: OWN_MAC,
        roles: nic::CLIENT_FACING,
        ifindex: LO,
        vlan_tags: VlanTags { outer: VLAN, inner: 0 },
    })?;
    director.plan()?;
    Ok(director)
}

fn services(vip: IpAddr) -> Vec<Service> {
    let tcp = |port, scheduler, servers| director::service(director::id(vip, port, Protocol::Tcp), scheduler, servers);
    let udp = |port, scheduler, servers| director::service(director::id(vip, port, Protocol::Udp), scheduler, servers);
    if vip == VIPS[1] || vip == VIPS[3] {
        let all = |mut service: Service| {
            service.ports = PortSet::All;
            service.hash_options.include_port = false;
            service
        };
        return vec![
            all(tcp(0, Scheduler::Sh, 1..=9)),
            all(udp(0, Scheduler::Dh, 1..=9)),
            udp(53, Scheduler::P2c, 1..=3),
        ];
    }
    let mut limited = tcp(81, Scheduler::Wlc, 1..=3);
    for server in &mut limited.servers {
        server.upper_threshold = 4;
    }
    limited.sorry_server = Some(director::address_of(vip, 7));
    let mut quic = udp(443, Scheduler::Maglev, 1..=9);
    quic.quic = true;
    for (id, server) in (1..).zip(&mut quic.servers) {
        server.quic_id = Some(id);
    }
    let mut one_packet = udp(514, Scheduler::Wrr, 1..=3);
    one_packet.one_packet = true;
    let mut range = tcp(8000, Scheduler::Lc, 1..=9);
    range.ports = PortSet::from_ports(8000..=8009);
    range.persistence = Some(Persistence {
        timeout_seconds: 300,
        prefix: if vip.is_ipv4() { 24 } else { 64 },
        persist_while_draining: true,
    });
    vec![
        tcp(80, Scheduler::Rr, 1..=9),
        limited,
        tcp(443, Scheduler::Maglev, 1..=9),
        udp(53, Scheduler::Rr, 1..=9),
        quic,
        one_packet,
        range,
        Service {
            servers: Vec::new(),
            ..tcp(13, Scheduler::Rr, 1..=3)
        },
        tcp(90, Scheduler::Sed, 1..=3),
        udp(90, Scheduler::Nq, 1..=3),
    ]
}
