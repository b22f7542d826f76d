//! Services of several ports, and of all.

use std::net::{SocketAddr, SocketAddrV4};

use anyhow::{Result, ensure};
use lbx_tests::{
    clients::{Connection, tally},
    cluster::{Cluster, Service},
    host::Host,
    lab::{Lab, VIP, VIP6},
    servers::TcpServer,
};

use crate::setup::Site;

crate::harness::tests!(Lbx:
    a_range_of_ports_is_balanced,
    a_range_of_ports_is_balanced_over_ipv6,
    all_ports_but_those_of_others,
);

fn serve(host: &Host, ports: &[u16]) -> Result<Vec<TcpServer>> {
    ports.iter().map(|port| TcpServer::start(host, *port)).collect()
}

fn a_range_of_ports_is_balanced() -> Result<()> {
    expect_range(VIP.into(), Service::web("rr", 2))
}

fn a_range_of_ports_is_balanced_over_ipv6() -> Result<()> {
    expect_range(VIP6.into(), Service::web("rr", 2).over_ipv6())
}

fn expect_range(vip: std::net::IpAddr, mut service: Service) -> Result<()> {
    const SERVED: [u16; 6] = [80, 443, 8_000, 8_001, 8_002, 8_003];
    service.ports = Some("[80, 443, \"8000-8002\"]");
    let site = Site::start(service, |host| serve(host, &SERVED))?;
    let open = |port| {
        site.client()
            .enter(|| Connection::open(0, SocketAddr::new(vip, port)))?
    };
    let mut servers = Vec::new();
    for port in &SERVED[..5] {
        for _ in 0..2 {
            servers.push(open(*port)?.server().to_owned());
        }
    }
    // They share one round of turns.
    crate::setup::expect_turns(&servers, 2)?;
    // The next port is not the service's: the director's own stack refuses it.
    ensure!(open(8_003).is_err(), "a port beside the range is balanced");
    let table = site.director.list_text(&[])?;
    ensure!(table.contains("8000-8002"), "no range in\n{table}");
    site.director.expect_no_drops()
}

fn all_ports_but_those_of_others() -> Result<()> {
    let mut all = Service::web("rr", 2);
    all.ports = Some("all");
    let mut cluster = Cluster::from(all);
    let mut other = Service::web("rr", 1);
    other.servers.clear();
    other.servers.extend(Service::web("rr", 3).servers.into_iter().skip(2));
    cluster.services.push(other.on("tcp", 443));
    let ports = [22, 80, 443, 50_000];
    let mut site = Site::start_in(Lab::with_real_servers(3)?, &cluster, |host| serve(host, &ports))?;
    let client = site.client().clone();
    let open = |port| client.enter(|| Connection::open(0, SocketAddrV4::new(VIP, port)))?;
    for port in [22, 80, 50_000] {
        let servers = [open(port)?, open(port)?].map(|connection| connection.server().to_owned());
        let servers = tally(&servers);
        ensure!(
            servers.len() == 2 && !servers.contains_key("rs3"),
            "port {port}: {servers:?}"
        );
    }
    for _ in 0..2 {
        ensure!(open(443)?.server() == "rs3", "the port of the other service is taken");
    }
    site.director.expect_no_drops()?;
    // The next director finds the VIP on the NIC: it is none of the host's own addresses, since an lbx has left it.
    site.director.kill()?;
    site.director.restart()?;
    open(80)?;
    Ok(())
}
