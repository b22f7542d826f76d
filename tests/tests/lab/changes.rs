//! Changes while traffic flows: the file, and the real servers themselves.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use lbx_tests::{
    clients::{Connection, tally},
    cluster::{Cluster, RealServer, Service},
    lab::Lab,
    lbx::Director,
    load::Load,
    mac::Mac,
    nginx::Nginx,
    patience,
    servers::TcpServer,
    wait,
};

use crate::setup::{Site, WEB, expect_turns, web};

crate::harness::tests!(Lbx:
    an_announced_mac_change_is_followed,
    a_silent_mac_change_is_followed,
    servers_come_and_go_under_load,
    a_removed_server_keeps_its_connections,
    a_drained_server_keeps_its_connections,
    a_server_removed_before_the_daemon_died_keeps_its_connections,
    a_server_removed_while_the_daemon_is_dead_keeps_its_connections,
    a_bad_file_changes_nothing,
    a_bad_file_while_a_reload_waits_leaves_it_as_it_is,
    a_director_answers_and_forwards_while_a_reload_waits,
);

/// How soon a change must have taken effect.
const SOON: Duration = Duration::from_secs(2);

fn an_announced_mac_change_is_followed() -> Result<()> {
    expect_mac_change_followed(true)
}

fn a_silent_mac_change_is_followed() -> Result<()> {
    expect_mac_change_followed(false)
}

fn expect_mac_change_followed(announced: bool) -> Result<()> {
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 99]);
    // A connection that does not come about at once is given up: its retransmissions would hide when the way is free.
    const AT_ONCE: Duration = Duration::from_millis(100);
    let site = Site::start(Service::web("rr", 1), |host| TcpServer::start(host, 80))?;
    let open = || {
        site.client()
            .enter(|| Connection::open_within(patience::scaled(AT_ONCE), 0, WEB))
    };
    open()??;
    let server = site.lab.real_server(1);
    server.set_mac("eth0", OTHER)?;
    let changed = Instant::now();
    if announced {
        server.announce()?;
    }
    wait::until_true(SOON * 3, "a connection by the new address", || Ok(open()?.is_ok()))?;
    ensure!(
        changed.elapsed() <= patience::scaled(SOON),
        "followed only after {:?}",
        changed.elapsed()
    );
    Ok(())
}

fn servers_come_and_go_under_load() -> Result<()> {
    let three = Service::web("rr", 3);
    let mut two = three.clone();
    two.servers.truncate(2);
    let mut without_second = three.clone();
    without_second.servers.remove(1);
    let site = Site::start_in(Lab::with_real_servers(3)?, &two.into(), Nginx::start)?;
    let load = Load::start(site.client(), WEB, 4);
    load.run_on(100)?;
    ensure!(!load.so_far().answers.contains_key("rs3 nginx"), "{}", load.so_far());

    site.director.reload(&Cluster::from(three).to_string())?;
    load.wait_until("rs3 answers", |report| report.answers.contains_key("rs3 nginx"))?;
    load.run_on(100)?;

    site.director.reload(&Cluster::from(without_second).to_string())?;
    let by_second = || load.so_far().answers.get("rs2 nginx").copied();
    wait::until_true(SOON, "rs2 gets no more requests", || {
        let before = by_second();
        load.run_on(30)?;
        Ok(by_second() == before)
    })?;
    load.run_on(100)?;
    load.finish().expect_no_failure()?;
    site.director.expect_no_drops()
}

/// What a change of the file must not do: break the connections of rs2, which gets no new ones.
fn expect_drain(reduced: &Service, change: impl FnOnce(&mut Director, &str) -> Result<()>) -> Result<()> {
    let mut site = Site::start(Service::web("rr", 2), |host| TcpServer::start(host, 80))?;
    let open = || site.client().enter(|| Connection::open(0, WEB));
    let mut held = (0..6).map(|_| open()?).collect::<Result<Vec<_>>>()?;
    change(&mut site.director, &Cluster::from(reduced.clone()).to_string())?;
    let open = || site.client().enter(|| Connection::open(0, WEB));
    wait::until_true(SOON, "rs2 gets no more connections", || {
        let servers = (0..4).map(|_| Ok(open()??.server().to_owned()));
        Ok(servers
            .collect::<Result<Vec<_>>>()?
            .iter()
            .all(|server| server == "rs1"))
    })?;
    for connection in &mut held {
        connection.echo("still there")?;
    }
    let servers: Vec<_> = held.iter().map(|connection| connection.server().to_owned()).collect();
    ensure!(tally(&servers).values().eq(&[3, 3]), "{servers:?}");
    Ok(())
}

fn a_removed_server_keeps_its_connections() -> Result<()> {
    expect_drain(&Service::web("rr", 1), |director, yaml| director.reload(yaml))
}

fn a_drained_server_keeps_its_connections() -> Result<()> {
    expect_drain(&Service::weighted("rr", &[1, 0]), |director, yaml| {
        director.reload(yaml)
    })
}

fn a_server_removed_before_the_daemon_died_keeps_its_connections() -> Result<()> {
    expect_drain(&Service::web("rr", 1), |director, yaml| {
        director.reload(yaml)?;
        wait::until_true(SOON, "rs2 is drained", || {
            Ok(director.list()?[0]
                .servers
                .iter()
                .any(|server| server.weight().is_ok_and(|weight| weight == 0)))
        })?;
        director.kill()?;
        director.restart()
    })
}

fn a_server_removed_while_the_daemon_is_dead_keeps_its_connections() -> Result<()> {
    expect_drain(&Service::web("rr", 1), |director, yaml| {
        director.kill()?;
        director.reconfigure(yaml)?;
        director.restart()
    })
}

fn a_bad_file_changes_nothing() -> Result<()> {
    let mut site = web(Service::web("rr", 2))?;
    let before = site.director.json()?;
    let bad = Cluster::from(Service::web("rr", 1))
        .to_string()
        .replace("port:", "prot:");
    let said = site.director.log().len();
    site.director.reload(&bad)?;
    let what = "the log tells file, line and field";
    wait::until_true(SOON, what, || {
        let log = site.director.log().split_off(said);
        Ok(["yaml:4", "prot"].iter().all(|word| log.contains(word)))
    })?;
    ensure!(site.director.ended()?.is_none(), "the director has ended");
    let after = site.director.json()?;
    ensure!(after == before, "before\n{before}\nafter\n{after}");
    expect_turns(&site.pages(6)?, 2)
}

/// What the log says of a reload that waits, and of one that is done.
const WAITS: &str = "resolving MAC addresses of real servers before it is loaded";
const DONE: &str = "configuration reloaded";

/// A director whose reload waits for a real server that does not answer.
fn with_a_reload_that_waits() -> Result<Site<Nginx>> {
    let site = web(Service::web("rr", 2))?;
    let mut cluster = Cluster::from(Service::web("rr", 2));
    cluster.services[0]
        .servers
        .push(RealServer::new(Ipv4Addr::new(192, 168, 1, 77), 1));
    site.director.reload(&cluster.to_string())?;
    wait::until_true(SOON, "the reload waits", || Ok(site.director.log().contains(WAITS)))?;
    Ok(site)
}

fn a_bad_file_while_a_reload_waits_leaves_it_as_it_is() -> Result<()> {
    let site = with_a_reload_that_waits()?;
    site.director.reload("interface: eth0\nservices: nonsense\n")?;
    wait::until_true(SOON, "both are decided", || {
        let log = site.director.log();
        Ok(log.contains("reload refused") && log.contains(DONE))
    })?;
    let log = site.director.log();
    // The second was read before the first was loaded, or the wait above would not say what it is about.
    let (refused, done) = (log.find("reload refused"), log.find(DONE));
    ensure!(refused < done, "{log}");
    ensure!(
        log.contains("reload refused, the configuration read before is still being loaded"),
        "{log}"
    );
    ensure!(!log.contains("nothing changed"), "{log}");
    let listed = site.director.list_text(&[])?;
    ensure!(listed.contains("192.168.1.77"), "{listed}");
    Ok(())
}

fn a_director_answers_and_forwards_while_a_reload_waits() -> Result<()> {
    let site = with_a_reload_that_waits()?;
    let listed = site.director.list_text(&[])?;
    let log = site.director.log();
    ensure!(!log.contains(DONE), "the listing came after the reload: {log}");
    ensure!(!listed.contains("192.168.1.77"), "it is not loaded yet: {listed}");
    expect_turns(&site.pages(4)?, 2)?;
    wait::until_true(SOON, "the reload is done", || Ok(site.director.log().contains(DONE)))?;
    expect_turns(&site.pages(4)?, 2)
}
