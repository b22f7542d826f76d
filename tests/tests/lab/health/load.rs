//! Real servers that fail under load: what clients lose, and when they lose it.

use std::{
    net::SocketAddrV4,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    cluster::Service,
    download::Download,
    host::Host,
    lab::rip,
    load::{Failure, Load, Report},
    nginx::Nginx,
    patience,
    wrk::Wrk,
};

use super::{DETECTED, RECOVERED, healthy_web};
use crate::setup::{PAGE, Site, WEB, serve_big};

crate::harness::tests!(Lbx:
    failing_servers_under_load,
);

/// Pages after which the load counts as under way; how fast they come is the machine's affair.
const PAGES: u64 = 1_000;
/// A download that takes two minutes: longer than any of these tests.
const MEGABYTES: usize = 60;
/// Clients at a time.
const CLIENTS: usize = 12;

/// One after the other: two of these at a time would slow each other down.
fn failing_servers_under_load() -> Result<()> {
    expect_failover(Load::start).context("with a connection for each request")?;
    expect_failover(Load::start_kept).context("with connections that are kept")?;
    expect_wrk_fails_before_detection().context("by wrk")
}

/// How a load is started.
type Start = fn(&Host, SocketAddrV4, usize) -> Load;

/// Kills rs2's nginx, then takes its link, then both.
fn expect_failover(start: Start) -> Result<()> {
    let mut site = healthy_web(Service::web("rr", 2))?;
    serve_big(&site.servers, MEGABYTES)?;
    let mut download = download_from_first(&site)?;
    for failing in [Failing::Process, Failing::Link, Failing::Both] {
        expect_failures_before_detection(&mut site, start, failing).with_context(|| format!("{failing:?}"))?;
        download.expect_progress()?;
    }
    download.expect_start_of(&site.servers[0].root().join("big"))
}

/// A download that takes longer than the test, from rs1.
fn download_from_first(site: &Site<Nginx>) -> Result<Download> {
    for name in ["one", "other"] {
        let download = Download::begin(site.client(), name, &format!("{PAGE}slow/big"), 10_000)?;
        if download.server() == "rs1" {
            return Ok(download);
        }
    }
    anyhow::bail!("rs1 does not take its turn")
}

/// What fails on rs2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failing {
    Process,
    Link,
    Both,
}

impl Failing {
    fn fail(self, site: &mut Site<Nginx>) -> Result<()> {
        if self != Self::Link {
            site.servers[1].kill()?;
        }
        if self != Self::Process {
            site.lab.real_server(2).set_up("eth0", false)?;
        }
        Ok(())
    }

    fn mend(self, site: &mut Site<Nginx>) -> Result<()> {
        if self != Self::Process {
            site.lab.real_server(2).set_up("eth0", true)?;
        }
        if self != Self::Link {
            site.servers[1] = Nginx::start(site.lab.real_server(2))?;
        }
        Ok(())
    }
}

/// That what fails has begun between the failure of rs2 and its detection, and nothing of it on rs1.
fn expect_failures_before_detection(site: &mut Site<Nginx>, start: Start, failing: Failing) -> Result<()> {
    let load = start(site.client(), WEB, CLIENTS);
    load.run_on(PAGES)?;
    let before = load.so_far();
    before.expect_no_failure()?;
    let failed = Instant::now();
    failing.fail(site)?;
    site.director.wait_for(80, rip(2), "down", DETECTED)?;
    let noticed = Instant::now();
    let meanwhile = load.so_far();
    let answered = meanwhile.answered() - before.answered();
    // A refused connection frees its port at once: one that takes it again goes where its record says, to rs2 too.
    let most = usize::try_from(answered + answered / 10)? + CLIENTS;
    ensure!(
        meanwhile.failures.len() <= most,
        "more than every other has failed: {meanwhile}"
    );
    load.run_on(PAGES)?;
    failing.mend(site)?;
    site.director.wait_for(80, rip(2), "up", RECOVERED + DETECTED)?;
    let by_second = |report: &Report| report.answers.get("rs2 nginx").copied();
    let so_far = by_second(&load.so_far());
    // Connections that are kept stay where they are.
    if load.keeps() {
        load.run_on(PAGES)?;
    } else {
        load.wait_until("rs2 answers again", |report| by_second(report) > so_far)?;
    }
    let report = load.finish();
    let failures = &report.failures;
    println!(
        "{failing:?}: out after {:?}, {} failed of {}",
        noticed - failed,
        failures.len(),
        report.answered() + failures.len() as u64
    );
    // A connection that has broken meanwhile may be found so only when it is used again.
    let first = |which: &dyn Fn(&Failure) -> bool| failures.iter().find(|failure| which(failure)).cloned();
    for (what, failure) in [
        ("after detection", first(&|failure| failure.connected > noticed)),
        (
            "before anything happened",
            first(&|failure| failure.began + failure.took < failed),
        ),
        (
            "on rs1",
            first(&|failure| failure.server.as_deref() == Some("rs1 nginx")),
        ),
    ] {
        ensure!(failure.is_none(), "{what}: {failure:?}");
    }
    // Without its link nobody says that rs2 is gone: those who try to connect try again, and reach rs1.
    ensure!(!failures.is_empty() || failing == Failing::Link, "nobody noticed");
    Ok(())
}

/// The same by a real load generator, which says how many failed but not when: so it is asked again after detection.
fn expect_wrk_fails_before_detection() -> Result<()> {
    let mut site = healthy_web(Service::web("rr", 2))?;
    for kept in [true, false] {
        expect_wrk(&site, &format!("before-{kept}"), kept)?;
        let meanwhile = Wrk::start(site.client(), &format!("meanwhile-{kept}"), PAGE, 8, kept, 4)?;
        thread::sleep(patience::scaled(Duration::from_millis(500)));
        site.servers[1].kill()?;
        site.director.wait_for(80, rip(2), "down", DETECTED)?;
        let meanwhile = meanwhile.finish()?;
        ensure!(meanwhile.failed > 0, "nobody noticed: {meanwhile:?}");
        let after = Wrk::start(site.client(), &format!("after-{kept}"), PAGE, 8, kept, 1)?.finish()?;
        ensure!(after.failed == 0 && after.answered > 0, "{after:?}");
        site.servers[1] = Nginx::start(site.lab.real_server(2))?;
        site.director.wait_for(80, rip(2), "up", RECOVERED)?;
        println!(
            "kept {kept}: {} failed of {} meanwhile",
            meanwhile.failed, meanwhile.answered
        );
    }
    Ok(())
}

/// That wrk gets pages, and nothing fails.
fn expect_wrk(site: &Site<Nginx>, name: &str, kept: bool) -> Result<()> {
    let count = Wrk::start(site.client(), name, PAGE, 8, kept, 1)?.finish()?;
    ensure!(count.failed == 0 && count.answered > 0, "{name}: {count:?}");
    Ok(())
}
