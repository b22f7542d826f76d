//! Others on the director that change its packets: probes are led all the same, or say nothing.

use std::thread;

use anyhow::{Result, ensure};
use lbx_tests::{
    cluster::{Cluster, Service},
    lab::{Lab, rip},
    nginx::Nginx,
};

use super::{INTERVAL, SOON, page_check, wait_up};
use crate::setup::Site;

crate::harness::tests!(Lbx:
    marks_that_are_overwritten_change_nothing,
    a_probe_that_is_led_elsewhere_brings_nobody_up,
);

/// A lab whose director has a rule of nftables in a chain of its output.
fn lab_with(chain: &str, rule: &str) -> Result<Lab> {
    let lab = Lab::new()?;
    let rules = format!("add table ip meddler; add chain ip meddler out {{ {chain} }}; add rule ip meddler out {rule}");
    lab.director().run(["nft", rules.as_str()])?.success()?;
    Ok(lab)
}

fn web() -> Cluster {
    Service::web("rr", 2).with("health", page_check()).into()
}

fn marks_that_are_overwritten_change_nothing() -> Result<()> {
    let lab = lab_with("type route hook output priority 0;", "meta mark set 7")?;
    let site = Site::start_in(lab, &web(), Nginx::start)?;
    wait_up(&site.director, 80, [rip(1), rip(2)])?;
    thread::sleep(INTERVAL * 5);
    let log = site.director.log();
    ensure!(
        !log.contains("health checks suspended") && !log.contains(" down: "),
        "{log}"
    );
    Ok(())
}

fn a_probe_that_is_led_elsewhere_brings_nobody_up() -> Result<()> {
    let elsewhere = format!("ip daddr {} tcp dport 80 dnat to {}", rip(2), rip(1));
    let lab = lab_with("type nat hook output priority -100;", &elsewhere)?;
    let site = Site::start_in(lab, &web(), Nginx::start)?;
    wait_up(&site.director, 80, [rip(1)])?;
    let not_rewritten = site.director.wait_state(80, rip(2), "is not probed", SOON, |state| {
        let reason = state.reason.as_deref();
        reason.is_some_and(|reason| reason.contains("probe not rewritten"))
    })?;
    ensure!(not_rewritten.state == "down", "{not_rewritten:?}");
    thread::sleep(INTERVAL * 5);
    let state = site.director.server_state(80, rip(2))?;
    ensure!(state.state == "down", "{state:?}");
    let log = site.director.log();
    ensure!(log.contains("health checks suspended"), "it is not told:\n{log}");
    Ok(())
}
