//! Clients that stay with a real server: over connections and ports, for a time, and while it drains.

use std::{net::Ipv4Addr, thread, time::Duration};

use anyhow::{Result, ensure};
use lbx_tests::{
    clients::Visit,
    cluster::{Cluster, Service},
    host::Host,
    lab::{CLIENT, DIP, Lab, rip},
    nginx::Nginx,
    wait,
};

use crate::setup::{PAGE, PAGE6, Site, expect_all, reload};

crate::harness::tests!(Lbx:
    a_client_stays_and_others_go_elsewhere,
    a_client_stays_over_ipv6,
    a_client_stays_over_all_ports_of_a_service,
    after_the_timeout_a_client_may_move,
    a_client_stays_while_one_of_its_connections_lives,
    a_client_stays_while_its_connection_lives_over_ipv6_with_a_hash,
    a_client_that_expired_while_the_director_was_dead_stays,
    a_mask_takes_clients_together,
    a_mask_takes_clients_together_over_ipv6,
    a_client_stays_with_a_server_that_drains,
    a_client_leaves_a_server_that_drains_if_told,
);

/// A lab with three clients: the second in the same network of 16 addresses as the first, the third in the next.
fn start(service: Service) -> Result<Site<Nginx>> {
    start_with(&Cluster::from(service))
}

fn start_with(cluster: &Cluster) -> Result<Site<Nginx>> {
    let lab = Lab::builder()
        .host("client", &[CLIENT])
        .host("client2", &[Ipv4Addr::new(192, 168, 1, 11)])
        .host("client3", &[Ipv4Addr::new(192, 168, 1, 20)])
        .host("director", &[DIP])
        .host("rs1", &[rip(1)])
        .host("rs2", &[rip(2)])
        .build()?;
    Site::start_in(lab, cluster, Nginx::start)
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
    let mut cluster = Cluster::from(Service::web("rr", 2).with("persistence", SECONDS));
    // A client persists as long as a connection of its is recorded.
    cluster.timeouts = vec![("closing", 1)];
    let site = start_with(&cluster)?;
    let before = server_of(site.client(), PAGE)?;
    // Asking would renew it: there is nothing to poll. A scan that finds a connection re-arms the client for a minute.
    let is_forgotten = || Ok(site.director.json()?["flow_records"] == 0);
    wait::until_true(Duration::from_secs(75), "the client is forgotten", is_forgotten)?;
    let after = ask(site.client(), PAGE)?;
    ensure!(after != before, "the next turn is not {before}'s");
    Ok(())
}

/// Seconds of persistence, and those after which a client without a connection would be forgotten.
const SHORT: u64 = 5;
const LATER: Duration = Duration::from_secs(9);

fn a_client_stays_while_one_of_its_connections_lives() -> Result<()> {
    expect_kept_by_connection(PAGE, Service::web("rr", 2), |_| Ok(()))
}

fn a_client_stays_while_its_connection_lives_over_ipv6_with_a_hash() -> Result<()> {
    let service = Service::web("mh", 2).over_ipv6();
    // The hash leads elsewhere from now on: what keeps the client is its template.
    expect_kept_by_connection(PAGE6, service.clone(), |site| {
        let before = ask(site.client(), PAGE6)?;
        reload(&site.director, drained(&service.with("persistence", SHORT), &before))
    })
}

fn a_client_that_expired_while_the_director_was_dead_stays() -> Result<()> {
    expect_kept_by_connection(PAGE, Service::web("rr", 2), |site| {
        site.director.kill()?;
        thread::sleep(LATER);
        site.director.restart()
    })
}

/// That new connections of a client with an idle one go where that is, long after the persistence timeout.
fn expect_kept_by_connection(
    page: &str,
    service: Service,
    meanwhile: impl FnOnce(&mut Site<Nginx>) -> Result<()>,
) -> Result<()> {
    let mut site = start(service.clone().with("persistence", SHORT))?;
    let target = (service.vip, service.port).into();
    let mut open = site.client().enter(|| Visit::begin(target))??;
    let server = site.client().enter(|| open.get())??.replace(" nginx", "");
    meanwhile(&mut site)?;
    thread::sleep(LATER);
    // The next turn is the other server's.
    let answers = (0..4).map(|_| ask(site.client(), page)).collect::<Result<Vec<_>>>()?;
    expect_all(&answers, &server)?;
    let again = site.client().enter(|| open.get())??.replace(" nginx", "");
    ensure!(again == server, "the open connection is at {again}");
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
