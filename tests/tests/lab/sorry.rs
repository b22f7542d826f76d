//! The sorry server: it gets new connections while no real server is available.

use std::time::Duration;

use anyhow::{Result, ensure};
use lbx_tests::{
    cluster::{Cluster, Service},
    download::Download,
    lab::{Lab, rip, six},
    nginx::Nginx,
    wait,
};

use crate::setup::{PAGE, PAGE6, Site, expect_all, expect_turns, reload, serve_big};

crate::harness::tests!(Lbx:
    drained_servers_leave_it_to_the_sorry_server_by_rr,
    drained_servers_leave_it_to_the_sorry_server_by_maglev,
    drained_servers_leave_it_to_the_sorry_server_over_ipv6,
    servers_that_are_down_leave_it_to_the_sorry_server,
);

/// How soon a real server that says nothing any more is given up, and how soon it is taken back.
const SOON: Duration = Duration::from_secs(10);

/// Two real servers, and rs3 for when there are none.
fn start(service: &Service) -> Result<Site<Nginx>> {
    let cluster = Cluster::from(service.clone());
    Site::start_in(Lab::with_real_servers(3)?, &cluster, Nginx::start)
}

fn drained_servers_leave_it_to_the_sorry_server_by_rr() -> Result<()> {
    expect_sorry_while_drained(PAGE, Service::web("rr", 2).with("sorry_server", rip(3)))
}

fn drained_servers_leave_it_to_the_sorry_server_by_maglev() -> Result<()> {
    expect_sorry_while_drained(PAGE, Service::web("maglev", 2).with("sorry_server", rip(3)))
}

fn drained_servers_leave_it_to_the_sorry_server_over_ipv6() -> Result<()> {
    let service = Service::web("rr", 2).over_ipv6();
    expect_sorry_while_drained(PAGE6, service.with("sorry_server", six(rip(3))))
}

fn expect_sorry_while_drained(page: &str, service: Service) -> Result<()> {
    let site = start(&service)?;
    let normal = site.pages_of(page, 12)?;
    ensure!(!normal.contains(&"rs3".to_owned()), "sorry for nothing: {normal:?}");
    let sent = serve_big(&site.servers, 16)?;
    let mut closed = service.clone();
    for server in &mut closed.servers {
        server.weight = 0;
    }
    reload(&site.director, closed)?;
    expect_all(&site.pages_of(page, 6)?, "rs3")?;
    let mut download = Download::begin(site.client(), "sorry", &format!("{page}big"), 4_000)?;
    expect_all(&[download.server().to_owned()], "rs3")?;
    reload(&site.director, service)?;
    let normal = site.pages_of(page, 12)?;
    ensure!(!normal.contains(&"rs3".to_owned()), "still sorry: {normal:?}");
    download.expect_progress()?;
    ensure!(download.finish()? == sent, "the download differs");
    site.director.expect_no_drops()
}

fn servers_that_are_down_leave_it_to_the_sorry_server() -> Result<()> {
    let service = Service::web("rr", 2).with("sorry_server", rip(3));
    let site = start(&service)?;
    expect_turns(&site.pages(6)?, 2)?;
    for number in [1, 2] {
        site.lab.real_server(number).set_up("eth0", false)?;
    }
    // A request to one that has just gone waits in vain for five seconds: look at the listing instead.
    wait::until_true(SOON * 2, "both are lost", || {
        Ok(site.director.list_text(&[])?.matches("no MAC address").count() == 2)
    })?;
    expect_all(&site.pages(6)?, "rs3")?;
    for number in [1, 2] {
        site.lab.real_server(number).set_up("eth0", true)?;
    }
    wait::until_true(SOON, "both are back", || {
        Ok(!site.director.list_text(&[])?.contains("no MAC address"))
    })?;
    expect_turns(&site.pages(6)?, 2)
}
