//! Weights that change by themselves: a slow start, what a real server says of itself, and one that comes and goes.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use lbx_tests::{
    cluster::Service,
    lab::{Lab, rip},
    nginx::Nginx,
    notifications::Script,
    patience,
};

use super::{DETECTED, INTERVAL, RECOVERED, SLACK, SOON, healthy, healthy_web, often, wait_up};
use crate::setup::Site;

crate::harness::tests!(Lbx:
    a_slow_start_raises_the_weight_by_and_by,
    a_page_tells_the_weight,
    a_command_tells_the_weight,
    who_comes_and_goes_stays_out_for_a_while,
);

fn a_slow_start_raises_the_weight_by_and_by() -> Result<()> {
    const TIME: Duration = Duration::from_secs(4);
    let service = Service::weighted("wrr", &[100, 100]).with("slow_start", "4s");
    let site = healthy_web(service)?;
    site.servers[1].simulate_failure(true)?;
    site.director.wait_for(80, rip(2), "down", DETECTED)?;
    site.servers[1].simulate_failure(false)?;
    let first = site.director.wait_for(80, rip(2), "up", RECOVERED)?;
    let begun = Instant::now();
    ensure!(
        first.weight == 100 && (1..50).contains(&first.effective_weight),
        "{first:?}"
    );
    let mut weights = vec![first.effective_weight];
    while weights.last() != Some(&100) && begun.elapsed() < patience::scaled(TIME * 2) {
        std::thread::sleep(Duration::from_millis(100));
        let state = site.director.server_state(80, rip(2))?;
        state.expect("up")?;
        weights.push(state.effective_weight);
    }
    let took = begun.elapsed();
    // It is counted in whole seconds.
    let second = Duration::from_secs(1);
    ensure!(
        took + second >= TIME && took <= patience::scaled(TIME + second),
        "{took:?}: {weights:?}"
    );
    ensure!(weights.is_sorted(), "{weights:?}");
    weights.dedup();
    ensure!(weights.len() >= 4, "not by and by: {weights:?}");
    let other = site.director.server_state(80, rip(1))?;
    ensure!(other.effective_weight == 100, "{other:?}");
    Ok(())
}

fn wait_weight(site: &Site<Nginx>, number: u8, weight: u64) -> Result<()> {
    let what = format!("has a weight of {weight}");
    let fits = |state: &lbx_tests::server_states::ServerState| state.effective_weight == weight;
    site.director
        .wait_state(80, rip(number), &what, INTERVAL * 2 + SLACK, fits)
        .map(drop)
}

fn a_page_tells_the_weight() -> Result<()> {
    let lab = Lab::new()?;
    let serve = |host: &lbx_tests::host::Host| {
        let nginx = Nginx::start(host)?;
        fs::write(nginx.root().join("weight"), "2\n")?;
        Ok(nginx)
    };
    let check = often("http: { path: /weight, weight: true }");
    let service = Service::web("wrr", 2).with("health", check);
    let site = Site::start_in(lab, &service.into(), serve)?;
    wait_up(&site.director, 80, [rip(1), rip(2)])?;
    wait_weight(&site, 1, 2)?;
    fs::write(site.servers[1].root().join("weight"), "6\n")?;
    wait_weight(&site, 2, 6)?;
    let pages = site.pages(16)?;
    let second = pages.iter().filter(|page| *page == "rs2").count();
    ensure!(second == 12, "6 and 2, but {pages:?}");
    // 0 drains.
    fs::write(site.servers[1].root().join("weight"), "0\n")?;
    wait_weight(&site, 2, 0)?;
    crate::setup::expect_all(&site.pages(4)?, "rs1")?;
    site.director.server_state(80, rip(2))?.expect("draining")?;
    fs::write(site.servers[1].root().join("weight"), "a lot\n")?;
    site.director.wait_down(80, rip(2), "is no weight", DETECTED).map(drop)
}

fn a_command_tells_the_weight() -> Result<()> {
    let lab = Lab::with_real_servers(1)?;
    let then = lab.directory().join("then");
    let script = Script::create(lab.directory(), "check", &format!(". {}", then.display()))?;
    fs::write(&then, "exit 0")?;
    let check = often(&format!(
        "exec: {{ command: {}, weight: true }}",
        script.path().display()
    ));
    let service = Service::weighted("wrr", &[5]).with("health", check);
    let site = Site::start_in(lab, &service.into(), Nginx::start)?;
    wait_up(&site.director, 80, [rip(1)])?;
    wait_weight(&site, 1, 5)?;
    // keepalived's misc_dynamic: two more than the weight.
    fs::write(&then, "exit 12")?;
    wait_weight(&site, 1, 10)?;
    fs::write(&then, "exit 1")?;
    site.director
        .wait_down(80, rip(1), "command ended with status 1", DETECTED)
        .map(drop)
}

fn who_comes_and_goes_stays_out_for_a_while() -> Result<()> {
    const HOLD: Duration = Duration::from_secs(3);
    let check = often("http: { path: /healthz }, damping: { failures: 2, within: 60s, hold: 3s }");
    let site = healthy(Service::web("rr", 2).with("health", check), Nginx::start)?;
    for _ in 0..2 {
        site.director.wait_for(80, rip(2), "up", SOON)?;
        site.servers[1].simulate_failure(true)?;
        site.director.wait_for(80, rip(2), "down", DETECTED)?;
        site.servers[1].simulate_failure(false)?;
    }
    let well = Instant::now();
    site.director.expect_stays(80, rip(2), "down", HOLD - INTERVAL)?;
    site.director.wait_for(80, rip(2), "up", INTERVAL * 3 + SLACK)?;
    ensure!(well.elapsed() >= HOLD, "held for {:?} only", well.elapsed());
    Ok(())
}
