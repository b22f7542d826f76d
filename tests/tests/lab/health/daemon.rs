//! The daemon reloads, or dies and comes back: who was up stays up, and who was down stays down.

use std::time::Duration;

use anyhow::{Result, ensure};
use lbx_tests::{
    cluster::{Cluster, Service},
    lab::rip,
    load::Load,
    nginx::Nginx,
};

use super::{CHECKS_PASS, DETECTED, INTERVAL, RECOVERED, healthy_web, often, page_check, tells_of_flaps, wait_up};
use crate::setup::{Site, WEB, expect_all, expect_turns, reload};

crate::harness::tests!(Lbx:
    a_reload_makes_nobody_flap,
    a_reload_with_another_check_makes_nobody_flap,
    a_restart_makes_nobody_flap,
    a_server_that_is_down_stays_down_across_a_restart,
    a_server_that_fails_while_the_daemon_is_dead_is_noticed,
    a_server_that_is_new_is_probed_first,
);

/// Longer than it takes to be taken for down by mistake.
const WHILE: Duration = INTERVAL.saturating_mul(4);

fn expect_calm(site: &Site<Nginx>, said: usize) -> Result<()> {
    site.director.expect_stays(80, rip(1), "up", WHILE)?;
    site.director.server_state(80, rip(2))?.expect("up")?;
    let log = site.director.log().split_off(said);
    ensure!(!tells_of_flaps(&log), "somebody has come or gone:\n{log}");
    Ok(())
}

fn a_reload_makes_nobody_flap() -> Result<()> {
    let service = Service::web("rr", 2).with("health", page_check());
    let site = super::healthy(service.clone(), Nginx::start)?;
    let load = Load::start(site.client(), WEB, 2);
    let mut cluster = Cluster::from(service.clone());
    cluster.services.push(Service::web("rr", 2).on("tcp", 8080));
    for next in [cluster, Cluster::from(service)] {
        let said = site.director.log().len();
        reload(&site.director, next)?;
        expect_calm(&site, said)?;
    }
    load.finish().expect_no_failure()
}

fn a_reload_with_another_check_makes_nobody_flap() -> Result<()> {
    let site = healthy_web(Service::web("rr", 2))?;
    let load = Load::start(site.client(), WEB, 2);
    for check in [often("tcp: {}"), often("ping: {}"), "none".to_owned(), page_check()] {
        let said = site.director.log().len();
        reload(&site.director, Service::web("rr", 2).with("health", check))?;
        expect_calm(&site, said)?;
    }
    load.finish().expect_no_failure()
}

fn a_restart_makes_nobody_flap() -> Result<()> {
    let mut site = healthy_web(Service::web("rr", 2))?;
    let load = Load::start(site.client(), WEB, 2);
    for _ in 0..2 {
        let said = site.director.log().len();
        site.director.kill()?;
        load.run_on(50)?;
        site.director.restart()?;
        expect_calm(&site, said)?;
    }
    load.finish().expect_no_failure()?;
    expect_turns(&site.pages(4)?, 2)
}

fn a_server_that_is_down_stays_down_across_a_restart() -> Result<()> {
    let mut site = healthy_web(Service::web("rr", 2))?;
    site.servers[1].kill()?;
    site.director.wait_down(80, rip(2), "connection refused", DETECTED)?;
    let load = Load::start(site.client(), WEB, 2);
    let said = site.director.log().len();
    site.director.kill()?;
    load.run_on(50)?;
    site.director.restart()?;
    site.director.server_state(80, rip(2))?.expect("down")?;
    site.director.expect_stays(80, rip(2), "down", WHILE)?;
    site.director
        .server_state(80, rip(2))?
        .expect_down("connection refused")?;
    let log = site.director.log().split_off(said);
    ensure!(!log.contains(CHECKS_PASS), "it came in between:\n{log}");
    let report = load.finish();
    report.expect_no_failure()?;
    ensure!(report.answers.keys().eq(["rs1 nginx"]), "{report}");
    site.servers[1] = Nginx::start(site.lab.real_server(2))?;
    site.director.wait_for(80, rip(2), "up", RECOVERED)?;
    expect_turns(&site.pages(4)?, 2)
}

fn a_server_that_fails_while_the_daemon_is_dead_is_noticed() -> Result<()> {
    let mut site = healthy_web(Service::web("rr", 2))?;
    site.director.kill()?;
    site.servers[1].kill()?;
    site.director.restart()?;
    site.director.wait_down(80, rip(2), "connection refused", DETECTED)?;
    expect_all(&site.pages(6)?, "rs1")
}

/// A real server that the file has got is down until its first probe, which alone decides.
fn a_server_that_is_new_is_probed_first() -> Result<()> {
    let three = Service::web("rr", 3).with("health", page_check());
    let mut two = three.clone();
    two.servers.truncate(2);
    let lab = lbx_tests::lab::Lab::with_real_servers(3)?;
    let mut site = Site::start_in(lab, &two.into(), Nginx::start)?;
    wait_up(&site.director, 80, [rip(1), rip(2)])?;
    site.servers[2].kill()?;
    let load = Load::start(site.client(), WEB, 2);
    let said = site.director.log().len();
    reload(&site.director, three)?;
    site.director.wait_down(80, rip(3), "connection refused", DETECTED)?;
    load.run_on(100)?;
    load.finish().expect_no_failure()?;
    ensure!(
        !site.director.log().split_off(said).contains(CHECKS_PASS),
        "it came in between"
    );
    site.servers[2] = Nginx::start(site.lab.real_server(3))?;
    site.director.wait_for(80, rip(3), "up", RECOVERED)?;
    expect_turns(&site.pages(6)?, 3)
}
