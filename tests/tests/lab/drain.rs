//! Weight 0: what a real server has it keeps, new connections go elsewhere.

use std::time::Duration;

use anyhow::{Result, ensure};
use lbx_tests::{cluster::Service, download::Download, nginx::Nginx, wait};

use crate::setup::{PAGE, PAGE6, Site, expect_all, expect_turns, reload, serve_big, web};

crate::harness::tests!(Lbx:
    an_open_download_survives_a_drain_by_rr,
    an_open_download_survives_a_drain_by_maglev,
    an_open_download_over_ipv6_survives_a_drain_by_rr,
    an_open_download_over_ipv6_survives_a_drain_by_maglev,
);

fn an_open_download_survives_a_drain_by_rr() -> Result<()> {
    expect_drained(PAGE, Service::web("rr", 2))
}

fn an_open_download_survives_a_drain_by_maglev() -> Result<()> {
    expect_drained(PAGE, Service::web("maglev", 2))
}

fn an_open_download_over_ipv6_survives_a_drain_by_rr() -> Result<()> {
    expect_drained(PAGE6, Service::web("rr", 2).over_ipv6())
}

fn an_open_download_over_ipv6_survives_a_drain_by_maglev() -> Result<()> {
    expect_drained(PAGE6, Service::web("maglev", 2).over_ipv6())
}

fn expect_drained(page: &str, service: Service) -> Result<()> {
    let site: Site<Nginx> = web(service.clone())?;
    let sent = serve_big(&site.servers, 16)?;
    let mut download = Download::begin(site.client(), "open", &format!("{page}big"), 4_000)?;
    let (drained, other) = match download.server() {
        "rs1" => (0, "rs2"),
        _ => (1, "rs1"),
    };
    let mut reduced = service.clone();
    reduced.servers[drained].weight = 0;
    reload(&site.director, reduced)?;
    expect_all(&site.pages_of(page, 10)?, other)?;
    download.expect_progress()?;
    let listed = site.director.list()?;
    ensure!(listed[0].servers[drained].weight()? == 0, "{listed:?}");
    ensure!(download.finish()? == sent, "the download differs");
    // It comes back as if nothing had been.
    reload(&site.director, service.clone())?;
    if service.scheduler == "rr" {
        expect_turns(&site.pages_of(page, 6)?, 2)?;
    } else {
        let both = || Ok(site.pages_of(page, 10)?.iter().any(|server| server != other));
        wait::until_true(Duration::from_secs(5), "it gets connections again", both)?;
    }
    site.director.expect_no_drops()
}
