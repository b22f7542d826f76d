//! More real servers than the kernel's neighbour table holds by default (`gc_thresh3`, 1,024).

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    cluster::{Cluster, RealServer, Service},
    host::Host,
    lab::{Lab, VIP},
    lbx::Director,
    mac::Mac,
    manual_setup, patience,
    servers::TcpServer,
    wait,
};

crate::harness::tests!(Lbx:
    all_of_many_real_servers_are_resolved_and_checked,
    all_of_many_real_servers_are_resolved_over_ipv6,
    a_silent_mac_change_among_many_is_followed,
);

const SERVERS: u16 = 1_100;
/// How soon all are resolved, at 1,000 in a second, and checked: by a dev build, beside other tests.
const SOON: Duration = Duration::from_secs(40);
/// How soon a MAC address that has changed silently is followed, however many real servers there are.
const FOLLOWED: Duration = Duration::from_secs(5);
/// What a dev build may take besides, with other tests on every core.
const LATE: Duration = Duration::from_secs(2);

/// The n-th address, all of them in 10.0.0.0/16.
fn address(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 0, 1 + high, low).into()
}

/// The n-th IPv6 address, on the segment of the lab.
fn address6(number: u16) -> IpAddr {
    Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 1, number).into()
}

/// Gives a host addresses, all at once.
fn give(host: &Host, addresses: impl Iterator<Item = IpAddr>) -> Result<()> {
    let line = |address: IpAddr| match address {
        IpAddr::V4(address) => format!("address add {address}/16 dev eth0\n"),
        IpAddr::V6(address) => format!("address add {address}/64 dev eth0 nodad\n"),
    };
    let file = host.directory().join("addresses");
    fs::write(&file, addresses.map(line).collect::<String>())?;
    host.ip(&format!("-batch {}", file.display())).map(drop)
}

/// A lab whose rs2 has the last of these addresses and rs1 all others.
fn lab(address: fn(u16) -> IpAddr) -> Result<Lab> {
    let lab = Lab::with_real_servers(2)?;
    let last = SERVERS - 1;
    give(lab.real_server(1), (0..last).map(address))?;
    give(lab.real_server(2), std::iter::once(address(last)))?;
    give(lab.director(), std::iter::once(Ipv4Addr::new(10, 0, 0, 1).into()))?;
    Ok(lab)
}

fn with_servers(mut service: Service, address: fn(u16) -> IpAddr) -> Cluster {
    service.servers = (0..SERVERS).map(|number| RealServer::new(address(number), 1)).collect();
    service.into()
}

fn up(director: &Director) -> Result<usize> {
    let json = director.json()?;
    let servers = json["services"][0]["servers"].as_array().context("no real servers")?;
    Ok(servers.iter().filter(|server| server["state"] == "up").count())
}

fn expect_all_up(director: &Director) -> Result<()> {
    wait::until_true(SOON, "all are up", || {
        thread::sleep(Duration::from_millis(500));
        Ok(up(director)? == usize::from(SERVERS))
    })
    .map_err(|error| error.context(format!("{:?} are up", up(director))))
}

/// What the kernel's neighbour table holds by lbx.
fn entries(director: &Host) -> Result<usize> {
    Ok(director.ip("neighbour show")?.matches("extern_learn").count())
}

/// Health checks take the director's own stack: its neighbour table holds them all.
fn all_of_many_real_servers_are_resolved_and_checked() -> Result<()> {
    let lab = lab(address)?;
    let mut doors = Vec::new();
    for host in lab.real_servers() {
        manual_setup::make_real_server(host, VIP)?;
        doors.push(TcpServer::open_door(host, 80)?);
    }
    let service = Service::web("rr", 0).with("health", "{ tcp: {}, interval: 4s, timeout: 3s }");
    let mut director = Director::start(&lab, &with_servers(service, address))?;
    expect_all_up(&director)?;
    ensure!(entries(lab.director())? == usize::from(SERVERS));
    ensure!(!director.log().contains("not resolved"), "{}", director.log());
    director.stop(nix::sys::signal::Signal::SIGTERM)?;
    let left = entries(lab.director())?;
    ensure!(left == 0, "{left} entries are left behind");
    Ok(())
}

fn all_of_many_real_servers_are_resolved_over_ipv6() -> Result<()> {
    let lab = lab(address6)?;
    let service = Service::web("rr", 0).over_ipv6();
    let director = Director::start(&lab, &with_servers(service, address6))?;
    expect_all_up(&director)?;
    ensure!(!director.log().contains("not resolved"), "{}", director.log());
    wait::until_true(SOON, "the kernel has them", || {
        Ok(entries(lab.director())? == usize::from(SERVERS))
    })
}

fn a_silent_mac_change_among_many_is_followed() -> Result<()> {
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 99]);
    let lab = lab(address)?;
    let director = Director::start(&lab, &with_servers(Service::web("rr", 0), address))?;
    expect_all_up(&director)?;
    for mac in [OTHER, Mac([2, 0, 0, 0, 1, 99])] {
        thread::sleep(Duration::from_millis(1_300));
        lab.real_server(2).set_mac("eth0", mac)?;
        let changed = Instant::now();
        wait::until_true(FOLLOWED * 4, "it is followed", || {
            Ok(director.log().contains(&format!("to {mac}")))
        })?;
        let took = changed.elapsed();
        ensure!(
            took <= patience::scaled(FOLLOWED + LATE),
            "followed only after {took:?}"
        );
    }
    Ok(())
}
