//! Neighbours as health: no MAC address, and a real server that answers ARP for the VIP.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    cluster::Service,
    lab::{VIP, rip},
    wait,
};

use super::{DETECTED, SOON, expect_said, healthy_web};
use crate::setup::{expect_all, expect_turns};

crate::harness::tests!(Lbx:
    a_server_without_a_mac_address_is_down_for_that_reason,
    a_real_server_that_answers_arp_for_the_vip_is_reported,
    a_director_without_carrier_takes_no_real_server_down,
);

/// A real server is lost when it has been silent for eight seconds.
const GIVEN_UP: Duration = Duration::from_secs(15);

fn a_server_without_a_mac_address_is_down_for_that_reason() -> Result<()> {
    let site = healthy_web(Service::web("rr", 2))?;
    site.lab.real_server(2).set_up("eth0", false)?;
    // At first nobody answers its probes.
    site.director
        .wait_state(80, rip(2), "is out", DETECTED, |state| state.state != "up")?;
    let what = "has no MAC address";
    site.director.wait_state(80, rip(2), what, GIVEN_UP, |state| {
        state
            .reason
            .as_deref()
            .is_some_and(|reason| reason.contains("MAC address not resolved"))
    })?;
    let table = site.director.list_text(&[])?;
    ensure!(table.contains("MAC address"), "not told in\n{table}");
    expect_all(&site.pages(4)?, "rs1")?;
    site.lab.real_server(2).set_up("eth0", true)?;
    site.director.wait_for(80, rip(2), "up", GIVEN_UP)?;
    expect_turns(&site.pages(4)?, 2)
}

fn a_real_server_that_answers_arp_for_the_vip_is_reported() -> Result<()> {
    let site = healthy_web(Service::web("rr", 2))?;
    site.lab.real_server(2).set_sysctl("ipv4/conf/all/arp_ignore", "0")?;
    site.lab.real_server(2).set_sysctl("ipv4/conf/lo/arp_ignore", "0")?;
    let told = |text: String| {
        let mut lines = text.lines();
        lines.any(|line| line.contains("ARP for the VIP") && line.contains(&rip(2).to_string()))
    };
    wait::until_true(SOON, "the log tells", || Ok(told(site.director.log()))).with_context(|| site.director.log())?;
    expect_said(&site.director, "real server answers ARP for the VIP", &VIP.to_string())?;
    wait::until_true(SOON, "the listing tells", || Ok(told(site.director.list_text(&[])?)))
        .with_context(|| site.director.list_text(&[]).unwrap_or_default())?;
    site.lab.real_server(2).set_sysctl("ipv4/conf/all/arp_ignore", "1")?;
    // Nobody believes it for ever.
    let limit = Duration::from_secs(20);
    wait::until_true(limit, "the listing tells no more", || {
        Ok(!told(site.director.list_text(&[])?))
    })
}

fn a_director_without_carrier_takes_no_real_server_down() -> Result<()> {
    let site = healthy_web(Service::web("rr", 2))?;
    site.lab.set_cable(site.lab.director(), 0, false)?;
    let what = "the suspension is logged";
    let told = || site.director.log().contains("health checks suspended");
    wait::until_true(DETECTED, what, || Ok(told())).with_context(|| site.director.log())?;
    for server in [rip(1), rip(2)] {
        let state = site.director.server_state(80, server)?;
        ensure!(state.state == "up", "{server} is {state:?}");
    }
    site.lab.set_cable(site.lab.director(), 0, true)?;
    wait::until_true(SOON, "health checks are resumed", || {
        Ok(site.director.log().contains("no health checks are suspended any more"))
    })
    .with_context(|| site.director.log())?;
    let log = site.director.log();
    ensure!(!log.contains(" down: "), "a real server was taken down:\n{log}");
    // The kernel has dropped lbx's entries with the carrier.
    wait::until_true(SOON, "the kernel's table has both real servers again", || {
        let table = site.lab.director().ip("neighbour show")?;
        let is_kept = |server| {
            let mut lines = table.lines();
            lines.any(|line| line.starts_with(&format!("{server} ")) && line.contains("extern_learn"))
        };
        Ok(is_kept(rip(1)) && is_kept(rip(2)))
    })?;
    expect_turns(&site.pages(4)?, 2)
}
