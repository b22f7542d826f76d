//! Real servers that fail under load: what clients lose, and when they lose it.

use std::{
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    cluster::Service,
    download::Download,
    lab::rip,
    load::{Failure, Load},
    nginx::Nginx,
    wrk::Wrk,
};

use super::{DETECTED, RECOVERED, healthy_web};
use crate::setup::{PAGE, Site, WEB, serve_big};

crate::harness::tests!(Lbx:
    failing_servers_under_load_with_a_connection_for_each_request,
    failing_servers_under_load_with_connections_that_are_kept,
    failing_servers_under_wrk,
);

/// One at a time: two of these would have no room for two thousand requests a second each.
static ALONE: Mutex<()> = Mutex::new(());

/// What the load has to reach, in requests a second.
const OFTEN: u64 = 2_000;
/// Clients at a time.
const CLIENTS: usize = 12;

fn failing_servers_under_load_with_a_connection_for_each_request() -> Result<()> {
    expect_failover(Load::start)
}

fn failing_servers_under_load_with_connections_that_are_kept() -> Result<()> {
    expect_failover(Load::start_kept)
}

/// Kills rs2's nginx, then takes its link, then both; each time what fails must have begun before rs2 was out.
fn expect_failover(start: fn(&lbx_tests::host::Host, std::net::SocketAddrV4, usize) -> Load) -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut site = healthy_web(Service::web("rr", 2))?;
    let sent = serve_big(&site.servers, 20)?;
    let mut download = download_from_first(&site)?;
    let load = start(site.client(), WEB, CLIENTS);
    expect_often(&load)?;
    load.so_far().expect_no_failure()?;
    for (process, link) in [(true, false), (false, true), (true, true)] {
        let what = format!("process {process}, link {link}");
        expect_one_failure(&mut site, &load, process, link).context(what)?;
        download.expect_progress()?;
    }
    expect_often(&load)?;
    drop(load);
    ensure!(download.finish()? == sent, "the download from rs1 differs");
    Ok(())
}

/// A download that takes longer than the test, from rs1.
fn download_from_first(site: &Site<Nginx>) -> Result<Download> {
    for name in ["one", "other"] {
        let download = Download::begin(site.client(), name, &format!("{PAGE}big"), 800)?;
        if download.server() == "rs1" {
            return Ok(download);
        }
    }
    anyhow::bail!("rs1 does not take its turn")
}

/// That there is a second in which clients ask often enough: the machine has other things to do now and then.
fn expect_often(load: &Load) -> Result<()> {
    let mut answered = 0;
    for _ in 0..5 {
        let before = load.so_far().answered();
        thread::sleep(Duration::from_secs(1));
        answered = load.so_far().answered() - before;
        if answered >= OFTEN {
            return Ok(());
        }
    }
    anyhow::bail!("{answered} requests in a second: {}", load.so_far())
}

fn expect_one_failure(site: &mut Site<Nginx>, load: &Load, process: bool, link: bool) -> Result<()> {
    let before = load.so_far();
    let failed = Instant::now();
    if process {
        site.servers[1].kill()?;
    }
    if link {
        site.lab.real_server(2).set_up("eth0", false)?;
    }
    site.director.wait_for(80, rip(2), "down", DETECTED)?;
    let noticed = Instant::now();
    load.run_on(OFTEN)?;
    if link {
        let host = site.lab.real_server(2);
        host.set_up("eth0", true)?;
    }
    if process {
        site.servers[1] = Nginx::start(site.lab.real_server(2))?;
    }
    site.director.wait_for(80, rip(2), "up", RECOVERED + DETECTED)?;
    load.run_on(OFTEN)?;
    // Whoever still waits for an answer has begun before.
    let report = load.so_far();
    let new = &report.failures[before.failures.len()..];
    let late: Vec<&Failure> = new.iter().filter(|failure| failure.began > noticed).collect();
    ensure!(
        late.is_empty(),
        "{} failed after detection, such as {:?}",
        late.len(),
        late.first()
    );
    let early = new
        .iter()
        .filter(|failure| failure.began + failure.took < failed)
        .count();
    ensure!(early == 0, "{early} failed before anything happened");
    let of_first = new
        .iter()
        .filter(|failure| failure.server.as_deref() == Some("rs1 nginx"))
        .count();
    ensure!(of_first == 0, "{of_first} failed on rs1");
    ensure!(!process || !new.is_empty(), "nobody noticed");
    let begun = report.answered() - before.answered();
    println!(
        "process {process}, link {link}: out after {:?}, {} failed of {}, none after that",
        noticed - failed,
        new.len(),
        begun + new.len() as u64
    );
    Ok(())
}

/// The same by a real load generator, which says how many failed but not when: so it is asked again after detection.
fn failing_servers_under_wrk() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut site = healthy_web(Service::web("rr", 2))?;
    for kept in [true, false] {
        expect_wrk(&site, &format!("before-{kept}"), kept)?;
        let meanwhile = Wrk::start(site.client(), &format!("meanwhile-{kept}"), PAGE, 8, kept, 4)?;
        thread::sleep(Duration::from_millis(500));
        site.servers[1].kill()?;
        site.director.wait_for(80, rip(2), "down", DETECTED)?;
        let meanwhile = meanwhile.finish()?;
        ensure!(meanwhile.failed > 0, "nobody noticed: {meanwhile:?}");
        expect_wrk(&site, &format!("after-{kept}"), kept)?;
        site.servers[1] = Nginx::start(site.lab.real_server(2))?;
        site.director.wait_for(80, rip(2), "up", RECOVERED)?;
        println!(
            "kept {kept}: {} failed of {} meanwhile",
            meanwhile.failed, meanwhile.answered
        );
    }
    Ok(())
}

/// That nothing fails, and that there is a second in which it asks often enough.
fn expect_wrk(site: &Site<Nginx>, name: &str, kept: bool) -> Result<()> {
    let mut rate = 0.0;
    for attempt in 0..5 {
        let count = Wrk::start(site.client(), &format!("{name}-{attempt}"), PAGE, 8, kept, 1)?.finish()?;
        ensure!(count.failed == 0, "{name}: {count:?}");
        rate = count.rate;
        if rate >= OFTEN as f64 {
            return Ok(());
        }
    }
    anyhow::bail!("{name}: {rate} requests in a second")
}
