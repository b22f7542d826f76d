//! The classic black hole of direct server return: a real server that answers on its own address and has no VIP.

use std::{net::IpAddr, time::Instant};

use anyhow::{Result, ensure};
use lbx_tests::{
    cluster::{Cluster, Service},
    host::Host,
    lab::{VIP, VIP6, rip, six},
    manual_setup,
    nginx::Nginx,
    patience,
};

use super::{CHECKS_PASS, DETECTED, INTERVAL, RECOVERED, expect_said, healthy, healthy_web, often, page_check};
use crate::setup::{PAGE, PAGE6, Site, expect_all, expect_turns};

crate::harness::tests!(Lbx:
    a_missing_vip_takes_a_server_out_and_the_rip_does_not_tell,
    a_missing_vip_takes_a_server_out_over_ipv6,
    a_server_without_the_vip_never_comes_in,
);

/// Takes the VIP from a real server's lo.
pub(super) fn take_vip(host: &Host, vip: impl Into<IpAddr>) -> Result<()> {
    host.ip(&format!("address delete {} dev lo", vip.into())).map(drop)
}

fn a_missing_vip_takes_a_server_out_and_the_rip_does_not_tell() -> Result<()> {
    let web = Service::web("rr", 2);
    let by_rip = often("http: { path: /healthz }, target: rip");
    let mut cluster = Cluster::from(web.clone().with("name", "web").with("health", page_check()));
    cluster.services.push(web.on("tcp", 8080).with("health", by_rip));
    let site = healthy(cluster, Nginx::start)?;
    expect_out_without_vip(&site, PAGE, VIP.into(), rip(2).into(), || {
        site.director.expect_stays(8080, rip(2), "up", INTERVAL * 2)?;
        let table = site.director.list_text(&[])?;
        let note = format!("# web {}: down: VIP not configured", rip(2));
        ensure!(table.contains(&note), "no {note:?} in\n{table}");
        Ok(())
    })
}

fn a_missing_vip_takes_a_server_out_over_ipv6() -> Result<()> {
    let site = healthy_web(Service::web("rr", 2).over_ipv6())?;
    expect_out_without_vip(&site, PAGE6, VIP6.into(), six(rip(2)).into(), || Ok(()))
}

/// That rs2 goes with its VIP, soon and for that reason, and comes with it.
pub(super) fn expect_out_without_vip(
    site: &Site<Nginx>,
    page: &str,
    vip: IpAddr,
    server: IpAddr,
    meanwhile: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let (director, host) = (&site.director, site.lab.real_server(2));
    expect_turns(&site.pages_of(page, 4)?, 2)?;
    let taken = Instant::now();
    take_vip(host, vip)?;
    director.wait_down(80, server, "VIP not configured", DETECTED)?;
    ensure!(
        taken.elapsed() <= patience::scaled(DETECTED),
        "only after {:?}",
        taken.elapsed()
    );
    expect_said(
        director,
        &format!("real server {server} down: VIP not configured"),
        &vip.to_string(),
    )?;
    expect_all(&site.pages_of(page, 6)?, "rs1")?;
    meanwhile()?;
    manual_setup::make_real_server(host, vip)?;
    let state = director.wait_for(80, server, "up", RECOVERED)?;
    ensure!(state.reason.is_none(), "{state:?}");
    expect_said(director, &format!("real server {server}"), CHECKS_PASS)?;
    expect_turns(&site.pages_of(page, 4)?, 2)
}

fn a_server_without_the_vip_never_comes_in() -> Result<()> {
    let site = healthy_web(Service::web("rr", 2))?;
    take_vip(site.lab.real_server(2), VIP)?;
    site.director.wait_down(80, rip(2), "VIP not configured", DETECTED)?;
    site.director.expect_stays(80, rip(2), "down", INTERVAL * 4)?;
    expect_all(&site.pages(6)?, "rs1")
}
