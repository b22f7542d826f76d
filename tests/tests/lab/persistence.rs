//! Clients that stay with a real server: over connections and ports, for a time, and while it drains.

use std::{net::Ipv4Addr, thread, time::Duration};

use anyhow::{Result, ensure};
use lbx_tests::{
    cluster::{Cluster, Service},
    host::Host,
    lab::{CLIENT, DIP, Lab, rip},
    nginx::Nginx,
};

use crate::setup::{PAGE, PAGE6, Site, expect_all, reload};

crate::harness::tests!(Lbx:
    a_client_stays_and_others_go_elsewhere,
    a_client_stays_over_ipv6,
    a_client_stays_over_all_ports_of_a_service,
    after_the_timeout_a_client_may_move,
    a_mask_takes_clients_together,
    a_mask_takes_clients_together_over_ipv6,
    a_client_stays_with_a_server_that_drains,
    a_client_leaves_a_server_that_drains_if_told,
);

/// A lab with three clients: the second in the same network of 16 addresses as the first, the third in the next.
fn start(service: Service) -> Result<Site<Nginx>> {
    let lab = Lab::builder()
        .host("client", &[CLIENT])
        .host("client2", &[Ipv4Addr::new(192, 168, 1, 11)])
        .host("client3", &[Ipv4Addr::new(192, 168, 1, 20)])
        .host("director", &[DIP])
        .host("rs1", &[rip(1)])
        .host("rs2", &[rip(2)])
        .build()?;
    Site::start_in(lab, &Cluster::from(service), Nginx::start)
}

fn ask(client: &Host, url: &str) -> Result<String> {
    Ok(client.curl(url)?.replace(" nginx", ""))
}

/// The server a client has; that it stays the same over several connections.
fn server_of(client: &Host, url: &str) -> Result<String> {
    let first = ask(client, url)?;
    let again = (0..5).map(|_| ask(client, url)).collect::<Result<Vec<_>>>()?;
    expect_all(&again, &first)?;
    Ok(first)
}

fn a_client_stays_and_others_go_elsewhere() -> Result<()> {
    expect_stays(PAGE, Service::web("rr", 2))
}

fn a_client_stays_over_ipv6() -> Result<()> {
    expect_stays(PAGE6, Service::web("rr", 2).over_ipv6())
}

fn expect_stays(page: &str, service: Service) -> Result<()> {
    let site = start(service.with("persistence", 300))?;
    let [first, second] = ["client", "client2"].map(|name| server_of(site.lab.host(name), page));
    let (first, second) = (first?, second?);
    // By turns: the second client is the second to be scheduled.
    ensure!(first != second, "both are at {first}");
    expect_all(&[server_of(site.client(), page)?], &first)?;
    site.director.expect_no_drops()
}

fn a_client_stays_over_all_ports_of_a_service() -> Result<()> {
    let mut service = Service::web("rr", 2).with("persistence", 300);
    service.ports = Some("[80, 8080]");
    let site = start(service)?;
    for name in ["client", "client2", "client3"] {
        let client = site.lab.host(name);
        let server = server_of(client, PAGE)?;
        expect_all(&[server_of(client, "http://192.168.1.160:8080/")?], &server)?;
    }
    Ok(())
}

fn after_the_timeout_a_client_may_move() -> Result<()> {
    const SECONDS: u64 = 2;
    let site = start(Service::web("rr", 2).with("persistence", SECONDS))?;
    let before = server_of(site.client(), PAGE)?;
    // Asking would renew it: there is nothing to poll. Time is counted in ticks of 1.07 s, the first and the last not whole.
    thread::sleep(Duration::from_millis((SECONDS + 2) * 1_074));
    let after = ask(site.client(), PAGE)?;
    ensure!(after != before, "the next turn is not {before}'s");
    Ok(())
}

fn a_mask_takes_clients_together() -> Result<()> {
    let service = Service::web("rr", 2).with("persistence", "{ timeout: 300, mask: 255.255.255.240 }");
    expect_together(PAGE, service)
}

fn a_mask_takes_clients_together_over_ipv6() -> Result<()> {
    let service = Service::web("rr", 2).over_ipv6();
    expect_together(PAGE6, service.with("persistence", "{ timeout: 300, mask: 124 }"))
}

fn expect_together(page: &str, service: Service) -> Result<()> {
    let site = start(service)?;
    let mut servers = Vec::new();
    for name in ["client", "client2", "client3"] {
        servers.push(server_of(site.lab.host(name), page)?);
    }
    ensure!(servers[0] == servers[1] && servers[1] != servers[2], "{servers:?}");
    Ok(())
}

/// The service with one real server drained.
fn drained(service: &Service, server: &str) -> Service {
    let mut reduced = service.clone();
    reduced.servers[usize::from(server != "rs1")].weight = 0;
    reduced
}

fn a_client_stays_with_a_server_that_drains() -> Result<()> {
    let service = Service::web("rr", 2).with("persistence", 300);
    let site = start(service.clone())?;
    let server = server_of(site.client(), PAGE)?;
    reload(&site.director, drained(&service, &server))?;
    ensure!(
        server_of(site.client(), PAGE)? == server,
        "the client has left {server}"
    );
    for name in ["client2", "client3"] {
        ensure!(
            server_of(site.lab.host(name), PAGE)? != server,
            "{name} came to {server}"
        );
    }
    Ok(())
}

fn a_client_leaves_a_server_that_drains_if_told() -> Result<()> {
    let service = Service::web("rr", 2)
        .with("persistence", 300)
        .with("drain_persistence", false);
    let site = start(service.clone())?;
    let server = server_of(site.client(), PAGE)?;
    reload(&site.director, drained(&service, &server))?;
    for name in ["client", "client2", "client3"] {
        ensure!(server_of(site.lab.host(name), PAGE)? != server, "{name} is at {server}");
    }
    Ok(())
}
