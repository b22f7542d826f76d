//! What works over IPv4 works over IPv6.

use std::{
    net::{IpAddr, SocketAddrV6},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    clients::{self, Connection, tally, who_answers},
    cluster::{Cluster, Service},
    lab::{CLIENT6, DIP6, Lab, VIP, VIP6},
    lbx::{self, Agent, Director},
    mac::Mac,
    nginx::Nginx,
    patience, payload,
    servers::{TcpServer, UdpServer},
    wait,
};

use crate::setup::{PAGE6, Site, WEB6, expect_turns, serve_big, web};

crate::harness::tests!(Lbx:
    rr_takes_turns_over_ipv6,
    maglev_sends_a_port_to_the_same_server_over_ipv6,
    a_cluster_of_lbx_alone_over_ipv6,
    the_vip_never_becomes_a_source_address,
    a_download_of_100_megabytes_over_ipv6_arrives_whole,
    udp_is_balanced_over_ipv6,
    a_silent_mac_change_is_followed_over_ipv6,
    both_families_are_listed_and_served,
);

/// How soon a change must have taken effect.
const SOON: Duration = Duration::from_secs(2);

fn rr_takes_turns_over_ipv6() -> Result<()> {
    let site = web(Service::web("rr", 3).over_ipv6())?;
    expect_turns(&site.pages_of(PAGE6, 12)?, 3)?;
    site.director.expect_no_drops()
}

fn maglev_sends_a_port_to_the_same_server_over_ipv6() -> Result<()> {
    let site = Site::start(Service::web("maglev", 3).over_ipv6(), |host| TcpServer::start(host, 80))?;
    let ports: Vec<u16> = (20_000..20_100).collect();
    let first = who_answers(site.client(), WEB6, &ports)?;
    let counts = tally(first.values());
    ensure!(counts.len() == 3, "not every server has a port: {counts:?}");
    let again = who_answers(site.client(), WEB6, &ports)?;
    ensure!(again == first, "{first:?}, then {again:?}");
    site.director.expect_no_drops()
}

fn a_cluster_of_lbx_alone_over_ipv6() -> Result<()> {
    let lab = Lab::new()?;
    let mut serving = Vec::new();
    for host in lab.real_servers() {
        serving.push((Agent::start(host, lab.id(), VIP6)?, Nginx::start(host)?));
    }
    let director = Director::start(&lab, &Service::web("rr", 2).over_ipv6().into())?;
    let page = |_| lab.client().curl(PAGE6);
    expect_turns(&(0..8).map(page).collect::<Result<Vec<_>>>()?, 2)?;
    // The client has asked the segment who has the VIP: the director alone may have answered.
    let known = lab.client().ip(&format!("-6 neighbour show {VIP6}"))?;
    let own = lab.director().mac("eth0")?.to_string();
    ensure!(known.contains(&own), "the client knows the VIP at {known}");
    for host in lab.real_servers() {
        let checked = lbx::real_server(host, lab.id(), &["--vip", &VIP6.to_string(), "check"])?;
        ensure!(checked.status.success(), "{checked}");
    }
    director.expect_no_drops()
}

fn the_vip_never_becomes_a_source_address() -> Result<()> {
    let mut site = web(Service::web("rr", 2).over_ipv6())?;
    let director = site.lab.director();
    let source = |host: &lbx_tests::host::Host| host.ip(&format!("-6 route get {CLIENT6}"));
    let addresses = director.ip("-6 address show dev eth0")?;
    let vip = addresses.lines().find(|line| line.contains(&format!("{VIP6}/128")));
    let vip = vip.with_context(|| format!("no VIP on the NIC:\n{addresses}"))?;
    ensure!(vip.contains("deprecated"), "the VIP is preferred: {vip}");
    ensure!(
        source(director)?.contains(&format!("src {DIP6} ")),
        "{}",
        source(director)?
    );
    ensure!(director.ping(CLIENT6)? && site.client().ping(VIP6)?, "no echo");
    for host in site.lab.real_servers() {
        let route = source(host)?;
        ensure!(route.contains(&format!("src {} ", host.address6())), "{route}");
    }
    site.director.stop(nix::sys::signal::Signal::SIGTERM)?;
    ensure!(!director.has_address(VIP6)?, "the VIP is left");
    Ok(())
}

fn a_download_of_100_megabytes_over_ipv6_arrives_whole() -> Result<()> {
    const MEGABYTES: usize = 100;
    let site = web(Service::web("rr", 2).over_ipv6())?;
    let sent = serve_big(&site.servers, MEGABYTES)?;
    let to = site.lab.directory().join("down");
    site.client().download(&format!("{PAGE6}big"), &to)?;
    ensure!(payload::digest(&to)? == sent, "the download differs");
    site.director.expect_no_drops()
}

fn udp_is_balanced_over_ipv6() -> Result<()> {
    const ECHO: SocketAddrV6 = SocketAddrV6::new(VIP6, 7, 0, 0);
    for scheduler in ["rr", "maglev"] {
        let service = Service::web(scheduler, 2).over_ipv6().on("udp", 7);
        let site = Site::start(service, |host| UdpServer::start(host, ECHO))?;
        let ask = |port| site.client().enter(|| clients::ask_by_datagram(port, ECHO, "hello"));
        let ports = 20_000..20_020;
        let first = ports.clone().map(|port| ask(port)?).collect::<Result<Vec<_>>>()?;
        ensure!(tally(&first).len() == 2, "{first:?}");
        let again = ports.map(|port| ask(port)?).collect::<Result<Vec<_>>>()?;
        ensure!(again == first, "{first:?}, then {again:?}");
        site.director.expect_no_drops()?;
    }
    Ok(())
}

fn a_silent_mac_change_is_followed_over_ipv6() -> Result<()> {
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 99]);
    const AT_ONCE: Duration = Duration::from_millis(100);
    let site = Site::start(Service::web("rr", 1).over_ipv6(), |host| TcpServer::start(host, 80))?;
    let open = || {
        site.client()
            .enter(|| Connection::open_within(patience::scaled(AT_ONCE), 0, WEB6))
    };
    open()??;
    site.lab.real_server(1).set_mac("eth0", OTHER)?;
    let changed = Instant::now();
    wait::until_true(SOON * 3, "a connection by the new address", || Ok(open()?.is_ok()))?;
    ensure!(
        changed.elapsed() <= patience::scaled(SOON),
        "followed only after {:?}",
        changed.elapsed()
    );
    Ok(())
}

fn both_families_are_listed_and_served() -> Result<()> {
    let mut cluster = Cluster::from(Service::web("rr", 2));
    cluster.services.push(Service::web("rr", 2).over_ipv6());
    let site = web(cluster)?;
    expect_turns(&site.pages(4)?, 2)?;
    expect_turns(&site.pages_of(PAGE6, 6)?, 2)?;
    let table = site.director.list_text(&[])?;
    for row in ["[fd00:1::160]:80 rr", "-> [fd00:1::185]:80", "-> [fd00:1::190]:80"] {
        ensure!(table.contains(row), "no {row} in\n{table}");
    }
    let statistics = site.director.statistics()?;
    for (vip, pages) in [(IpAddr::from(VIP), "4"), (IpAddr::from(VIP6), "6")] {
        let service = statistics.iter().find(|service| service.address.ip() == vip);
        let service = service.with_context(|| format!("{vip} is not listed"))?;
        ensure!(service.rest.first().is_some_and(|count| count == pages), "{service:?}");
    }
    site.director.expect_no_drops()
}
