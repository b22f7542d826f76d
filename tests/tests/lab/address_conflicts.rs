//! Real servers' MAC addresses: two hosts with one address, moves, and entries of the operator.

use std::{
    net::{IpAddr, Ipv4Addr},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    clients::Connection,
    cluster::Service,
    host::Host,
    lab::{CLIENT, DIP, Lab, VIP, VIP6, rip, six},
    lbx::Director,
    mac::Mac,
    manual_setup,
    nginx::Nginx,
    patience,
    servers::TcpServer,
    wait,
};
use nix::sys::signal::Signal;

use crate::setup::{PAGE, PAGE6, Site, WEB, expect_all, reload, web};

crate::harness::tests!(Lbx:
    a_cloned_real_server_is_reported_and_gets_no_packet,
    a_cloned_real_server_is_reported_over_ipv6,
    a_connection_stays_with_its_host_while_a_clone_announces_itself,
    a_real_server_that_moves_once_is_no_conflict,
    a_real_server_that_moves_back_is_a_conflict,
    a_permanent_entry_is_left_alone,
    real_servers_are_solicited_by_unicast,
    the_kernels_table_holds_what_lbx_uses,
    another_host_with_the_vip_is_reported,
    another_host_with_the_vip_is_reported_over_ipv6,
);

const SOON: Duration = Duration::from_secs(10);
/// A conflict is over half a minute after the other host was last seen; a check of it takes up to ten seconds.
const OVER: Duration = Duration::from_secs(50);
/// The first address of the other host.
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 99);

/// One real server and a host with an address of its own.
fn lab_with_other() -> Result<Lab> {
    Lab::builder()
        .host("client", &[CLIENT])
        .host("director", &[DIP])
        .host("rs1", &[rip(1)])
        .host("other", &[OTHER])
        .build()
}

/// A site whose only real server is rs1, and another host that serves as well.
fn site_with_other(service: Service) -> Result<(Site<Nginx>, Nginx)> {
    let lab = lab_with_other()?;
    let other = lab.host("other");
    manual_setup::make_real_server(other, service.vip)?;
    let nginx = Nginx::start(other)?;
    Ok((Site::start_in(lab, &service.into(), Nginx::start)?, nginx))
}

/// Gives the other host the address of rs1, as a cloned guest has it.
fn clone(host: &Host, address: IpAddr) -> Result<()> {
    let line = match address {
        IpAddr::V4(address) => format!("address add {address}/24 dev eth0"),
        IpAddr::V6(address) => format!("address add {address}/64 dev eth0 nodad"),
    };
    host.ip(&line).map(drop)
}

fn announce(host: &Host, address: Ipv4Addr) -> Result<()> {
    let own = address.to_string();
    host.run(["arping", "-U", "-c", "1", "-I", "eth0", "-s", &own, &own])?;
    Ok(())
}

/// Waits until log and listing report the conflict with both MAC addresses, and JSON the same.
fn expect_reported(site: &Site<Nginx>, server: IpAddr) -> Result<()> {
    let macs = [
        site.lab.real_server(1).mac("eth0")?,
        site.lab.host("other").mac("eth0")?,
    ];
    let reports = |text: &str| {
        let mut lines = text.lines().filter(|line| line.contains("address conflict: "));
        let named = macs.iter().map(ToString::to_string).chain([server.to_string()]);
        let named: Vec<_> = named.collect();
        lines.any(|line| named.iter().all(|name| line.contains(name)))
    };
    wait::until_true(SOON, "the conflict is logged", || Ok(reports(&site.director.log())))
        .with_context(|| site.director.log())?;
    let listed = site.director.list_text(&[])?;
    ensure!(reports(&listed), "not in\n{listed}");
    let json = site.director.json()?;
    let warnings = &json["services"][0]["servers"][0]["warnings"];
    ensure!(warnings.to_string().contains("address conflict: "), "{warnings}");
    Ok(())
}

/// Waits until the conflict is over, in log and listing.
fn expect_over(site: &Site<Nginx>) -> Result<()> {
    wait::until_true(OVER, "the conflict is over", || {
        Ok(site.director.log().contains("address conflict over"))
    })
    .with_context(|| site.director.log())?;
    let listed = site.director.list_text(&[])?;
    ensure!(!listed.contains("address conflict"), "{listed}");
    Ok(())
}

fn expect_no_move(site: &Site<Nginx>) -> Result<()> {
    let log = site.director.log();
    ensure!(!log.contains("MAC address changed"), "it has moved:\n{log}");
    Ok(())
}

fn a_cloned_real_server_is_reported_and_gets_no_packet() -> Result<()> {
    let (site, _nginx) = site_with_other(Service::web("rr", 1))?;
    clone(site.lab.host("other"), rip(1).into())?;
    expect_reported(&site, rip(1).into())?;
    for _ in 0..10 {
        announce(site.lab.host("other"), rip(1))?;
        expect_all(&site.pages(2)?, "rs1")?;
    }
    expect_no_move(&site)?;
    site.lab.host("other").set_up("eth0", false)?;
    expect_over(&site)?;
    expect_all(&site.pages(2)?, "rs1")?;
    let reports = site.director.log().matches("address conflict: ").count();
    ensure!(reports == 1, "reported {reports} times");
    Ok(())
}

fn a_cloned_real_server_is_reported_over_ipv6() -> Result<()> {
    let (site, _nginx) = site_with_other(Service::web("rr", 1).over_ipv6())?;
    let server = IpAddr::from(six(rip(1)));
    clone(site.lab.host("other"), server)?;
    expect_reported(&site, server)?;
    expect_all(&site.pages_of(PAGE6, 10)?, "rs1")?;
    expect_no_move(&site)?;
    // The clone takes over only when the other host is gone.
    site.lab.real_server(1).set_up("eth0", false)?;
    wait::until_true(SOON, "the clone has taken over", || {
        Ok(site.director.log().contains("MAC address changed"))
    })?;
    expect_all(&site.pages_of(PAGE6, 4)?, "other")
}

fn a_connection_stays_with_its_host_while_a_clone_announces_itself() -> Result<()> {
    let lab = lab_with_other()?;
    let other = lab.host("other").clone();
    manual_setup::make_real_server(&other, VIP)?;
    let _server = TcpServer::start(&other, 80)?;
    let service = Service::web("rr", 1).into();
    let site = Site::start_in(lab, &service, |host| TcpServer::start(host, 80))?;
    let mut connection = site.client().enter(|| Connection::open(0, WEB))??;
    clone(&other, rip(1).into())?;
    for _ in 0..20 {
        announce(&other, rip(1))?;
        connection.echo("still there")?;
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Two hosts that had an address one after the other.
fn a_real_server_that_moves_once_is_no_conflict() -> Result<()> {
    let (site, _nginx) = site_with_other(Service::web("rr", 1))?;
    site.lab.real_server(1).set_up("eth0", false)?;
    clone(site.lab.host("other"), rip(1).into())?;
    let moved = || site.director.log().matches("MAC address changed").count();
    wait::until_true(SOON, "it has moved", || Ok(moved() == 1)).with_context(|| site.director.log())?;
    expect_all(&site.pages(4)?, "other")?;
    // Long enough for a solicitation of the whole segment.
    thread::sleep(patience::scaled(Duration::from_secs(11)));
    let log = site.director.log();
    ensure!(!log.contains("address conflict") && moved() == 1, "{log}");
    let listed = site.director.list_text(&[])?;
    ensure!(!listed.contains("address conflict"), "{listed}");
    Ok(())
}

fn a_real_server_that_moves_back_is_a_conflict() -> Result<()> {
    let (site, _nginx) = site_with_other(Service::web("rr", 1))?;
    let moved = || site.director.log().matches("MAC address changed").count();
    let (first, other) = (site.lab.real_server(1), site.lab.host("other"));
    clone(other, rip(1).into())?;
    other.set_up("eth0", false)?;
    for (number, gone, here) in [(1, first, other), (2, other, first)] {
        gone.set_up("eth0", false)?;
        here.set_up("eth0", true)?;
        wait::until_true(SOON, "it has moved", || Ok(moved() == number)).with_context(|| site.director.log())?;
    }
    expect_reported(&site, rip(1).into())?;
    expect_over(&site)
}

fn a_permanent_entry_is_left_alone() -> Result<()> {
    let (site, _nginx) = site_with_other(Service::web("rr", 1))?;
    let (host, other) = (site.lab.director(), site.lab.host("other"));
    let mac = other.mac("eth0")?;
    let entry = || host.ip(&format!("neighbour show {}", rip(1)));
    manual_setup::pin_neighbour(host, rip(1), mac)?;
    wait::until_true(SOON, "the entry is used", || {
        Ok(site.director.log().contains("MAC address changed"))
    })?;
    expect_all(&site.pages(4)?, "other")?;
    thread::sleep(patience::scaled(Duration::from_secs(6)));
    let kept = entry()?;
    ensure!(kept.contains("PERMANENT") && kept.contains(&mac.to_string()), "{kept}");
    let log = site.director.log();
    ensure!(!log.contains("address conflict"), "{log}");
    // Without it the real server's own answer counts.
    host.ip(&format!("neighbour delete {} dev eth0", rip(1)))?;
    wait::until_true(SOON, "it is resolved again", || {
        Ok(site.director.log().matches("MAC address changed").count() == 2)
    })
    .with_context(|| site.director.log())?;
    expect_all(&site.pages(4)?, "rs1")
}

/// ARP requests for rs1 that reach other hosts.
fn real_servers_are_solicited_by_unicast() -> Result<()> {
    let lab = lab_with_other()?;
    let other = lab.host("other").clone();
    let rules = format!(
        "add table arp t; add chain arp t c {{ type filter hook input priority 0; }}; \
         add rule arp t c arp operation request arp daddr ip {} counter",
        rip(1)
    );
    other.run(["nft", &rules])?.success()?;
    let requests = || -> Result<u64> {
        let rules = other.run(["nft", "list", "table", "arp", "t"])?.success()?;
        let (_, after) = rules.split_once("counter packets ").context("no counter")?;
        Ok(after.split(' ').next().context("no number")?.parse()?)
    };
    let _site = Site::start_in(lab, &Service::web("rr", 1).into(), Nginx::start)?;
    let before = requests()?;
    thread::sleep(Duration::from_secs(12));
    let sent = requests()? - before;
    ensure!((1..=3).contains(&sent), "{sent} broadcasts in twelve seconds");
    Ok(())
}

fn the_kernels_table_holds_what_lbx_uses() -> Result<()> {
    let mut site = web(Service::web("rr", 2))?;
    let host = site.lab.director();
    let entry = || host.ip(&format!("neighbour show {}", rip(1)));
    let mac = host_mac(&site, 1)?;
    wait::until_true(SOON, "the entry is there", || {
        let entry = entry()?;
        Ok(entry.contains(&mac) && entry.contains("extern_learn"))
    })
    .with_context(|| entry().unwrap_or_default())?;
    // Another process spoils it, or removes it.
    host.ip(&format!(
        "neighbour replace {} lladdr {} dev eth0 nud stale",
        rip(1),
        Mac([2, 0, 0, 0, 0, 99])
    ))?;
    wait::until_true(SOON, "it is right again", || Ok(entry()?.contains(&mac)))?;
    host.ip(&format!("neighbour delete {} dev eth0", rip(1)))?;
    wait::until_true(SOON, "it is back", || Ok(entry()?.contains("extern_learn")))?;
    // A daemon that is killed leaves it to the next one.
    site.director.kill()?;
    site.director.restart()?;
    ensure!(entry()?.contains(&mac), "{}", entry()?);
    reload(&site.director, Service::web("rr", 1))?;
    site.director.stop(Signal::SIGTERM)?;
    let left = host.ip("neighbour show")?;
    ensure!(!left.contains("extern_learn"), "left behind: {left}");
    Ok(())
}

fn host_mac(site: &Site<Nginx>, number: usize) -> Result<String> {
    Ok(site.lab.real_server(number).mac("eth0")?.to_string())
}

fn another_host_with_the_vip_is_reported() -> Result<()> {
    let (site, _nginx) = site_with_other(Service::web("rr", 1))?;
    expect_all(&[site.client().curl(PAGE)?], "rs1 nginx")?;
    let other = site.lab.host("other");
    other.ip(&format!("address add {VIP}/24 dev eth0"))?;
    expect_vip_conflict(&site, "ARP")
}

fn another_host_with_the_vip_is_reported_over_ipv6() -> Result<()> {
    let (site, _nginx) = site_with_other(Service::web("rr", 1).over_ipv6())?;
    let other = site.lab.host("other");
    other.ip(&format!("address del {VIP6}/128 dev lo"))?;
    other.ip(&format!("address add {VIP6}/64 dev eth0 nodad"))?;
    expect_vip_conflict(&site, "neighbour discovery")
}

/// Waits until log and listing report that the other host has the VIP, and that it is over when it is gone.
fn expect_vip_conflict(site: &Site<Nginx>, resolver: &str) -> Result<()> {
    let (director, other): (&Director, _) = (&site.director, site.lab.host("other"));
    let logged = format!("another host answers {resolver} for the VIP");
    wait::until_true(SOON, "the conflict is logged", || Ok(director.log().contains(&logged)))
        .with_context(|| director.log())?;
    let listed = director.list_text(&[])?;
    let line = format!("another host ({}) answers {resolver} for the VIP", other.mac("eth0")?);
    ensure!(listed.contains(&line), "{line} is not in\n{listed}");
    other.set_up("eth0", false)?;
    wait::until_true(OVER, "the conflict is over", || {
        Ok(director.log().contains("VIP conflict over"))
    })
    .with_context(|| director.log())?;
    let listed = director.list_text(&[])?;
    ensure!(!listed.contains("another host"), "{listed}");
    Ok(())
}
