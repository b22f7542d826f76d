//! The director's life: killed, restarted, stopped; traffic goes on or nothing is left.

use std::{net::Ipv4Addr, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    clients::Connection,
    cluster::{Cluster, RealServer, Service},
    lab::{Lab, VIP},
    lbx::{self, Director},
    load::Load,
    nginx::Nginx,
    servers::TcpServer,
};
use nix::sys::signal::Signal;

use crate::setup::{Site, Snapshot, WEB, expect_no_traces, expect_turns, web};

crate::harness::tests!(Lbx:
    killed_and_restarted_under_load_no_request_fails,
    connections_outlive_the_daemon,
    counts_outlive_the_daemon,
    sigterm_leaves_nothing,
    sigint_leaves_nothing,
    stopped_while_starting_it_leaves_nothing,
    a_stopped_director_starts_again,
    two_directors_share_a_machine,
);

fn killed_and_restarted_under_load_no_request_fails() -> Result<()> {
    let mut site = web(Service::web("rr", 2))?;
    let load = Load::start(site.client(), WEB, 4);
    for _ in 0..3 {
        load.run_on(100)?;
        site.director.kill()?;
        load.run_on(200)?;
        site.director.restart()?;
    }
    load.run_on(200)?;
    load.finish().expect_no_failure()?;
    site.director.expect_no_drops()?;
    expect_turns(&site.pages(6)?, 2)
}

fn connections_outlive_the_daemon() -> Result<()> {
    let mut site = Site::start(Service::web("rr", 2), |host| TcpServer::start(host, 80))?;
    let open = || site.lab.client().enter(|| Connection::open(0, WEB));
    let mut held = (0..6).map(|_| open()?).collect::<Result<Vec<_>>>()?;
    site.director.kill()?;
    held.extend((0..6).map(|_| open()?).collect::<Result<Vec<_>>>()?);
    for connection in &mut held {
        connection.echo("without the daemon")?;
    }
    site.director.restart()?;
    for connection in &mut held {
        connection.echo("with another daemon")?;
    }
    Ok(())
}

fn counts_outlive_the_daemon() -> Result<()> {
    let mut site = web(Service::web("rr", 2))?;
    site.pages(4)?;
    site.director.kill()?;
    site.pages(4)?;
    site.director.restart()?;
    site.pages(4)?;
    for server in &site.director.statistics()?[0].servers {
        ensure!(server.connections()? == 6, "{server:?}");
    }
    Ok(())
}

fn sigterm_leaves_nothing() -> Result<()> {
    expect_clean_stop(Signal::SIGTERM)
}

fn sigint_leaves_nothing() -> Result<()> {
    expect_clean_stop(Signal::SIGINT)
}

fn expect_clean_stop(signal: Signal) -> Result<()> {
    let lab = Lab::new()?;
    let before = Snapshot::of(lab.director())?;
    let mut site = Site::start_in(lab, &Service::web("rr", 2).into(), Nginx::start)?;
    let name = site.director.name().to_owned();
    ensure!(site.lab.director().has_address(VIP)?, "the director has no VIP");
    ensure!(lbx_tests::bpffs::pins_of(&name).exists(), "nothing is pinned");
    ensure!(lbx::socket_of(&name).exists(), "there is no socket");
    site.pages(2)?;
    let status = site.director.stop(signal)?;
    ensure!(status.success(), "ended with {status}");
    before.expect(site.lab.director())?;
    expect_no_traces(&name)
}

/// A real server that does not answer ARP holds up the start: time for a signal in the middle of it.
fn stopped_while_starting_it_leaves_nothing() -> Result<()> {
    let mut service = Service::web("rr", 2);
    service
        .servers
        .push(RealServer::new(Ipv4Addr::new(192, 168, 1, 250), 1));
    let yaml = Cluster::from(service).to_string();
    for after in [50, 200, 400, 800].map(Duration::from_millis) {
        let lab = Lab::new()?;
        let before = Snapshot::of(lab.director())?;
        let mut director = Director::begin(lab.director(), lab.id(), &yaml)?;
        thread::sleep(after);
        director.stop(Signal::SIGTERM)?;
        before
            .expect(lab.director())
            .with_context(|| format!("stopped after {after:?}"))?;
        expect_no_traces(lab.id()).with_context(|| format!("stopped after {after:?}"))?;
    }
    Ok(())
}

fn a_stopped_director_starts_again() -> Result<()> {
    let mut site = web(Service::web("rr", 2))?;
    for _ in 0..2 {
        expect_turns(&site.pages(4)?, 2)?;
        site.director.stop(Signal::SIGTERM)?;
        site.director.restart()?;
    }
    expect_turns(&site.pages(4)?, 2)
}

/// Each has its NICs (here: its namespace), its pins and its socket.
fn two_directors_share_a_machine() -> Result<()> {
    let first = web(Service::web("rr", 2))?;
    let second = web(Service::web("rr", 2))?;
    let third = Lab::new()?;
    let name = format!("{}-third", third.id());
    let mut third = Director::start_named(
        third.director(),
        &name,
        &Cluster::from(Service::web("rr", 2)).to_string(),
    )?;
    third.stop(Signal::SIGTERM)?;
    for site in [&first, &second] {
        expect_turns(&site.pages(4)?, 2)?;
        let counts = site.director.statistics()?[0]
            .servers
            .iter()
            .map(|server| server.connections())
            .sum::<Result<u64>>()?;
        ensure!(counts == 4, "{counts} connections listed");
    }
    Ok(())
}
