//! Probes of the VIP by every way packets can take: other NICs, the generic program, checksums in hardware or not, many
//! probes on one port, and what must not be touched.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    cluster::{Cluster, RealServer, Service},
    dns::DnsServer,
    host::Host,
    lab::{DIP6, Lab, VIP, VIP6, rip, six},
    nginx::Nginx,
    patience, wait,
};

use super::{DETECTED, INTERVAL, SOON, expect_out_and_in, healthy_web, often, page_check, vip, wait_up};
use crate::setup::{PAGE, PAGE6, Site, on_segment_2, two_segments};

crate::harness::tests!(Lbx:
    a_real_server_on_another_nic_over_ipv4,
    a_real_server_on_another_nic_over_ipv6,
    the_generic_program_over_ipv4,
    the_generic_program_over_ipv6,
    checksums_in_hardware,
    checksums_in_software,
    probes_have_the_directors_own_address_over_ipv6,
    other_hosts_connections_are_left_alone,
    many_probes_leave_no_port_taken,
);

fn a_real_server_on_another_nic_over_ipv4() -> Result<()> {
    let mut service = Service::web("rr", 1);
    service.servers.push(RealServer::new(on_segment_2(190), 1));
    let service = service.with("health", page_check());
    let site = Site::start_in(two_segments()?, &service.into(), Nginx::start)?;
    wait_up(&site.director, 80, [rip(1), on_segment_2(190)])?;
    vip::expect_out_without_vip(&site, PAGE, VIP.into(), on_segment_2(190).into(), || Ok(()))
}

fn a_real_server_on_another_nic_over_ipv6() -> Result<()> {
    let mut service = Service::web("rr", 1);
    service.servers.push(RealServer::new(on_segment_2(190), 1));
    let service = service.over_ipv6().with("health", page_check());
    let site = Site::start_in(two_segments()?, &service.into(), Nginx::start)?;
    let servers = [six(rip(1)), six(on_segment_2(190))];
    wait_up(&site.director, 80, servers)?;
    vip::expect_out_without_vip(&site, PAGE6, VIP6.into(), servers[1].into(), || Ok(()))
}

fn the_generic_program_over_ipv4() -> Result<()> {
    let mut cluster = Cluster::from(Service::web("rr", 2).with("health", page_check()));
    cluster.mode = "generic";
    let site = super::healthy(cluster, Nginx::start)?;
    vip::expect_out_without_vip(&site, PAGE, VIP.into(), rip(2).into(), || Ok(()))
}

fn the_generic_program_over_ipv6() -> Result<()> {
    let mut cluster = Cluster::from(Service::web("rr", 2).over_ipv6().with("health", page_check()));
    cluster.mode = "generic";
    let site = super::healthy(cluster, Nginx::start)?;
    vip::expect_out_without_vip(&site, PAGE6, VIP6.into(), six(rip(2)).into(), || Ok(()))
}

fn checksums_in_hardware() -> Result<()> {
    expect_checksums(true)
}

fn checksums_in_software() -> Result<()> {
    expect_checksums(false)
}

/// HTTP and DNS over both families: a wrong checksum of TCP or UDP would never arrive.
fn expect_checksums(offload: bool) -> Result<()> {
    const WWW: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    let lab = Lab::new()?;
    for host in [lab.director(), lab.real_server(1), lab.real_server(2)] {
        for feature in ["tx", "rx"] {
            host.set_offload("eth0", feature, offload)?;
        }
    }
    let web = Service::web("rr", 2).with("health", page_check());
    let question = often("dns: { name: www.example.org, type: A, answer: 192.0.2.1 }");
    let dns = Service::web("rr", 2).on("udp", 53).with("health", question);
    let mut cluster = Cluster::from(web.clone());
    cluster.services.extend([web.over_ipv6(), dns.clone(), dns.over_ipv6()]);
    let serve = |host: &Host| Ok((Nginx::start(host)?, DnsServer::start(host, WWW)?));
    let site = Site::start_in(lab, &cluster, serve)?;
    for service in &cluster.services {
        for server in &service.servers {
            wait_state_of(&site, service, server, "up", SOON)?;
        }
    }
    for vip in [IpAddr::from(VIP), IpAddr::from(VIP6)] {
        vip::take_vip(site.lab.real_server(2), vip)?;
    }
    for service in &cluster.services {
        wait_state_of(&site, service, &service.servers[1], "down", DETECTED)?;
        wait_state_of(&site, service, &service.servers[0], "up", INTERVAL)?;
    }
    for host in [site.lab.director(), site.lab.real_server(1)] {
        let counted = host
            .run(["nstat", "-az", "TcpInCsumErrors", "UdpInCsumErrors", "Udp6InCsumErrors"])?
            .success()?;
        let numbers = counted
            .lines()
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        ensure!(
            numbers.sum::<u64>() == 0,
            "checksums were wrong on {}: {counted}",
            host.name()
        );
    }
    Ok(())
}

/// Services of both families have the same port: they are told apart by their real servers.
fn wait_state_of<Server>(
    site: &Site<Server>,
    service: &Service,
    server: &RealServer,
    state: &str,
    limit: Duration,
) -> Result<()> {
    let what = format!("{} on port {} is {state}", server.address, service.port);
    wait::until_true(limit, &what, || {
        let json = site.director.json()?;
        let services = json["services"].as_array().context("no services")?;
        let of_vip = services
            .iter()
            .filter(|listed| listed["vip"] == service.vip.to_string());
        let mut of_port = of_vip.filter(|listed| listed["port"] == service.port);
        let listed = of_port.next().context("the service is not listed")?["servers"].as_array();
        let mut listed = listed.context("no servers")?.iter();
        Ok(listed.any(|listed| listed["address"] == server.address.to_string() && listed["state"] == state))
    })
    .with_context(|| site.director.list_text(&[]).unwrap_or_default())
}

/// A VIP on the director's NIC must not become what its own connections come from.
fn probes_have_the_directors_own_address_over_ipv6() -> Result<()> {
    let site = healthy_web(Service::web("rr", 1).over_ipv6())?;
    let capture = [
        "timeout",
        "2",
        "tcpdump",
        "-n",
        "-i",
        "eth0",
        "-c",
        "3",
        "tcp dst port 80",
    ];
    let seen = site.lab.real_server(1).run(capture)?.stdout;
    let lines: Vec<_> = seen.lines().filter(|line| line.contains("IP6")).collect();
    let from = format!("IP6 {DIP6}.");
    let to = format!("> {VIP6}.80:");
    ensure!(
        !lines.is_empty() && lines.iter().all(|line| line.contains(&from) && line.contains(&to)),
        "not from {DIP6} to {VIP6}:\n{seen}"
    );
    Ok(())
}

/// The hooks for the director's own sockets see those of every namespace of the machine.
fn other_hosts_connections_are_left_alone() -> Result<()> {
    let site = healthy_web(Service::web("rr", 2))?;
    site.lab.director().set_up("eth0", false)?;
    site.lab.client().ip("neighbour flush dev eth0")?;
    ensure!(
        site.client().curl(PAGE).is_err(),
        "the client's connection was led past the director"
    );
    ensure!(
        site.client().curl(&format!("http://{}/", rip(1)))? == "rs1 nginx",
        "the real server is gone"
    );
    Ok(())
}

/// Probes that leave their ports in TIME_WAIT would have none in the end.
fn many_probes_leave_no_port_taken() -> Result<()> {
    let quick = "{ http: { path: /healthz }, interval: 100ms, timeout: 90ms, rise: 1, fall: 3, jitter: 0 }";
    let site = super::healthy(Service::web("rr", 2).with("health", quick), Nginx::start)?;
    expect_out_and_in(
        &site.director,
        80,
        rip(2),
        "wrong status 503",
        || site.servers[1].simulate_failure(true),
        || site.servers[1].simulate_failure(false),
    )?;
    std::thread::sleep(patience::scaled(Duration::from_secs(2)));
    let sockets = site.lab.director().run(["ss", "-Htan"])?.success()?;
    let waiting = sockets.lines().filter(|line| line.starts_with("TIME-WAIT")).count();
    ensure!(waiting == 0, "{waiting} ports are taken\n{sockets}");
    Ok(())
}
