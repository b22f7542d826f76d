//! Who gets which connection, where the scheduler looks at the load, the client or the weight alone.

use anyhow::{Result, ensure};
use lbx_tests::{
    clients::{self, Connection, tally, who_answers},
    cluster::Service,
    download::Download,
    nginx::Nginx,
    servers::{TcpServer, UdpServer},
};

use crate::setup::{PAGE, PAGE6, Site, WEB, WEB6, expect_all, expect_turns, reload, serve_big, web};

crate::harness::tests!(Lbx:
    lc_prefers_the_idle_server,
    wlc_prefers_the_idle_server,
    sed_prefers_the_idle_server,
    nq_prefers_the_idle_server,
    wlc_prefers_the_idle_server_over_ipv6,
    wlc_gives_by_weight,
    p2c_uses_both,
    sh_keeps_a_client_on_one_server,
    mh_keeps_a_client_on_one_server,
    dh_sends_everyone_to_one_server,
    fo_sends_all_to_the_heaviest,
    ovf_fills_the_heaviest_first,
    one_packet_schedules_every_datagram,
);

/// So slow that it lasts as long as the test.
const KILOBYTES: u32 = 100;

fn downloads(site: &Site<Nginx>, page: &str, count: usize) -> Result<Vec<Download>> {
    serve_big(&site.servers, 32)?;
    let url = format!("{page}big");
    let begin = |number| Download::begin(site.client(), &format!("long{number}"), &url, KILOBYTES);
    (0..count).map(begin).collect()
}

fn count_of(downloads: &[Download], server: &str) -> usize {
    downloads.iter().filter(|download| download.server() == server).count()
}

/// Long downloads on both; those of rs1 are given up; rs1 gets all that comes then.
fn expect_idle_preferred(page: &str, service: Service) -> Result<()> {
    let site = web(service)?;
    let mut long = downloads(&site, page, 6)?;
    ensure!(
        count_of(&long, "rs1") == 3,
        "{:?}",
        long.iter().map(Download::server).collect::<Vec<_>>()
    );
    long.retain(|download| download.server() == "rs2");
    let pages = site.pages_of(page, 8)?;
    expect_all(&pages, "rs1").map_err(|error| error.context(site.director.list_text(&[]).unwrap_or_default()))?;
    for download in &mut long {
        download.expect_open()?;
    }
    site.director.expect_no_drops()
}

fn lc_prefers_the_idle_server() -> Result<()> {
    expect_idle_preferred(PAGE, Service::web("lc", 2))
}

fn wlc_prefers_the_idle_server() -> Result<()> {
    expect_idle_preferred(PAGE, Service::web("wlc", 2))
}

fn sed_prefers_the_idle_server() -> Result<()> {
    expect_idle_preferred(PAGE, Service::web("sed", 2))
}

fn nq_prefers_the_idle_server() -> Result<()> {
    expect_idle_preferred(PAGE, Service::web("nq", 2))
}

fn wlc_prefers_the_idle_server_over_ipv6() -> Result<()> {
    expect_idle_preferred(PAGE6, Service::web("wlc", 2).over_ipv6())
}

fn wlc_gives_by_weight() -> Result<()> {
    let site = web(Service::weighted("wlc", &[3, 1]))?;
    let long = downloads(&site, PAGE, 8)?;
    ensure!(count_of(&long, "rs1") == 6, "{} of 8", count_of(&long, "rs1"));
    Ok(())
}

fn banners(service: Service) -> Result<Site<TcpServer>> {
    Site::start(service, |host| TcpServer::start(host, 80))
}

fn p2c_uses_both() -> Result<()> {
    let site = banners(Service::web("p2c", 2))?;
    let open = |_| site.client().enter(|| Connection::open(0, WEB))?;
    let held = (0..40).map(open).collect::<Result<Vec<_>>>()?;
    let on_rs1 = held.iter().filter(|connection| connection.server() == "rs1").count();
    ensure!((15..=25).contains(&on_rs1), "{on_rs1} of 40 on rs1");
    Ok(())
}

/// That all ports of the client are at one server; and with the flag that takes ports in, at both.
fn expect_client_kept(scheduler: &'static str, flag: &str) -> Result<()> {
    let ports: Vec<u16> = (20_000..20_040).collect();
    let site = banners(Service::web(scheduler, 2))?;
    let servers = tally(who_answers(site.client(), WEB, &ports)?.values());
    ensure!(servers.len() == 1, "{servers:?}");
    let site = banners(Service::web(scheduler, 2).over_ipv6())?;
    let servers = tally(who_answers(site.client(), WEB6, &ports)?.values());
    ensure!(servers.len() == 1, "{servers:?}");
    let site = banners(Service::web(scheduler, 2).with("flags", format!("[{flag}]")))?;
    let servers = tally(who_answers(site.client(), WEB, &ports)?.values());
    ensure!(servers.len() == 2, "{servers:?}");
    Ok(())
}

fn sh_keeps_a_client_on_one_server() -> Result<()> {
    expect_client_kept("sh", "sh-port")
}

fn mh_keeps_a_client_on_one_server() -> Result<()> {
    expect_client_kept("mh", "mh-port")
}

fn dh_sends_everyone_to_one_server() -> Result<()> {
    let site = banners(Service::web("dh", 3))?;
    let ports: Vec<u16> = (20_000..20_040).collect();
    let servers = tally(who_answers(site.client(), WEB, &ports)?.values());
    ensure!(servers.len() == 1, "{servers:?}");
    Ok(())
}

fn fo_sends_all_to_the_heaviest() -> Result<()> {
    let site = web(Service::weighted("fo", &[1, 3, 2]))?;
    expect_all(&site.pages(6)?, "rs2")?;
    reload(&site.director, Service::weighted("fo", &[1, 0, 2]))?;
    expect_all(&site.pages(6)?, "rs3")?;
    reload(&site.director, Service::weighted("fo", &[1, 3, 2]))?;
    expect_all(&site.pages(6)?, "rs2")
}

fn ovf_fills_the_heaviest_first() -> Result<()> {
    let site = web(Service::weighted("ovf", &[1, 2]))?;
    let long = downloads(&site, PAGE, 5)?;
    let servers: Vec<_> = long.iter().map(Download::server).collect();
    // As in IPVS a server is full when it has more than its weight (ip_vs_ovf.c).
    ensure!(servers == ["rs2", "rs2", "rs2", "rs1", "rs1"], "{servers:?}");
    Ok(())
}

fn one_packet_schedules_every_datagram() -> Result<()> {
    let service = Service::web("rr", 2).on("udp", 80).with("one_packet", true);
    let site = Site::start(service, |host| UdpServer::start(host, WEB))?;
    let ask = |_| site.client().enter(|| clients::ask_by_datagram(20_000, WEB, "hello"))?;
    expect_turns(&(0..8).map(ask).collect::<Result<Vec<_>>>()?, 2)?;
    site.director.expect_no_drops()
}
