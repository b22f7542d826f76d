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
    a_server_that_answers_arp_for_the_vip_is_told,
);

/// The kernel asks three times, a second each, before it gives a neighbour up.
const GIVEN_UP: Duration = Duration::from_secs(10);

fn a_server_without_a_mac_address_is_down_for_that_reason() -> Result<()> {
    let site = healthy_web(Service::web("rr", 2))?;
    site.lab.real_server(2).set_up("eth0", false)?;
    // At first nobody answers its probes.
    site.director
        .wait_standing(80, rip(2), "is out", DETECTED, |standing| standing.state != "up")?;
    site.lab
        .director()
        .ip(&format!("neighbour delete {} dev eth0", rip(2)))?;
    let what = "has no MAC address";
    site.director.wait_standing(80, rip(2), what, GIVEN_UP, |standing| {
        standing
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

fn a_server_that_answers_arp_for_the_vip_is_told() -> Result<()> {
    let site = healthy_web(Service::web("rr", 2))?;
    site.lab.real_server(2).set_sysctl("ipv4/conf/all/arp_ignore", "0")?;
    site.lab.real_server(2).set_sysctl("ipv4/conf/lo/arp_ignore", "0")?;
    let told = |text: String| {
        let mut lines = text.lines();
        lines.any(|line| line.contains("ARP for the VIP") && line.contains(&rip(2).to_string()))
    };
    wait::until_true(SOON, "the log tells", || Ok(told(site.director.log()))).with_context(|| site.director.log())?;
    expect_said(
        &site.director,
        "ARP for the VIP is answered by this real server",
        &VIP.to_string(),
    )?;
    wait::until_true(SOON, "the listing tells", || Ok(told(site.director.list_text(&[])?)))
        .with_context(|| site.director.list_text(&[]).unwrap_or_default())?;
    site.lab.real_server(2).set_sysctl("ipv4/conf/all/arp_ignore", "1")?;
    // Nobody believes it for ever.
    let limit = Duration::from_secs(20);
    wait::until_true(limit, "the listing tells no more", || {
        Ok(!told(site.director.list_text(&[])?))
    })
}
