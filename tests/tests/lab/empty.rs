//! Services without a usable real server: what real clients see of it.

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use lbx_tests::{
    cluster::{Cluster, Service},
    host::Host,
    lab::{CLIENT, VIP, VIP6},
    nginx::Nginx,
    patience, wait,
};

use crate::setup::{PAGE, PAGE6, Site, expect_turns, reload, web};

crate::harness::tests!(Lbx:
    clients_are_refused_at_once,
    clients_are_refused_at_once_over_ipv6,
    clients_are_refused_in_generic_mode,
    clients_wait_where_packets_are_dropped,
    what_was_probed_and_failed_is_refused_until_it_is_back,
    connections_that_are_held_are_not_reset,
);

/// Exit statuses of curl.
const REFUSED: i32 = 7;
const TIMED_OUT: i32 = 28;

/// A web service and one of datagrams, all of whose real servers have weight 0.
fn drained() -> [Service; 2] {
    [
        Service::weighted("rr", &[0, 0]),
        Service::weighted("maglev", &[0, 0]).on("udp", 53),
    ]
}

fn cluster(services: impl IntoIterator<Item = Service>) -> Cluster {
    let mut services = services.into_iter();
    let mut cluster = Cluster::from(services.next().expect("a service"));
    cluster.services.extend(services);
    cluster
}

/// How curl ends, and after what time.
fn curl(client: &Host, url: &str) -> Result<(Option<i32>, Duration)> {
    let begin = Instant::now();
    let output = client.run(["curl", "--globoff", "--silent", "--max-time", "3", url])?;
    Ok((output.code(), begin.elapsed()))
}

/// How a datagram to a service ends.
fn ask(client: &Host, from: &str, vip: SocketAddr) -> Result<ErrorKind> {
    client.enter(|| {
        let socket = UdpSocket::bind(from)?;
        socket.set_read_timeout(Some(patience::scaled(Duration::from_secs(1))))?;
        socket.connect(vip)?;
        socket.send(b"a question of some length")?;
        let ended = socket.recv(&mut [0; 64]).err().context("an answer")?;
        Ok(ended.kind())
    })?
}

/// The packets that the listing says were dropped for a reason.
fn counted<Server>(site: &Site<Server>, reason: &str) -> Result<u64> {
    let listed = site.director.list_text(&["--stats"])?;
    let line = listed
        .lines()
        .find_map(|line| line.strip_prefix("# dropped ")?.strip_suffix(&format!(": {reason}")));
    Ok(line.map_or(Ok(0), str::parse)?)
}

fn expect_refused(site: &Site<Nginx>, url: &str, from: &str, vip: SocketAddr) -> Result<()> {
    // A lost ARP request or neighbour solicitation is repeated after a second, and has nothing to do with the answer.
    ensure!(site.client().ping(vip.ip())?, "the VIP does not answer");
    let before = counted(site, "rejected")?;
    for _ in 0..3 {
        let (code, after) = curl(site.client(), url)?;
        ensure!(code == Some(REFUSED), "curl ends with {code:?} after {after:?}");
        ensure!(after < patience::scaled(Duration::from_secs(1)), "only after {after:?}");
        let kind = ask(site.client(), from, vip)?;
        ensure!(kind == ErrorKind::ConnectionRefused, "a datagram: {kind}");
    }
    let refused = counted(site, "rejected")? - before;
    ensure!(refused == 6, "{refused} packets counted as rejected");
    ensure!(counted(site, "no_backend")? == 0, "dropped as well");
    Ok(())
}

fn clients_are_refused_at_once() -> Result<()> {
    let site = web(cluster(drained()))?;
    expect_refused(&site, PAGE, "0.0.0.0:0", (VIP, 53).into())
}

fn clients_are_refused_at_once_over_ipv6() -> Result<()> {
    let site = web(cluster(drained().map(Service::over_ipv6)))?;
    expect_refused(&site, PAGE6, "[::]:0", (VIP6, 53).into())
}

fn clients_are_refused_in_generic_mode() -> Result<()> {
    let six = drained().map(Service::over_ipv6);
    let mut cluster = cluster(drained().into_iter().chain(six));
    cluster.mode = "generic";
    let site = web(cluster)?;
    expect_refused(&site, PAGE, "0.0.0.0:0", (VIP, 53).into())?;
    expect_refused(&site, PAGE6, "[::]:0", (VIP6, 53).into())
}

fn clients_wait_where_packets_are_dropped() -> Result<()> {
    let site = web(cluster(drained().map(|service| service.with("on_empty", "drop"))))?;
    let (code, after) = curl(site.client(), PAGE)?;
    ensure!(code == Some(TIMED_OUT), "curl ends with {code:?} after {after:?}");
    let kind = ask(site.client(), "0.0.0.0:0", (VIP, 53).into())?;
    ensure!(kind == ErrorKind::WouldBlock, "a datagram: {kind}");
    ensure!(counted(&site, "rejected")? == 0, "rejected");
    ensure!(counted(&site, "no_backend")? >= 2, "not counted");
    // Of the flag alone that changes on a reload.
    reload(&site.director, cluster(drained()))?;
    let (code, after) = curl(site.client(), PAGE)?;
    ensure!(code == Some(REFUSED), "curl ends with {code:?} after {after:?}");
    Ok(())
}

fn what_was_probed_and_failed_is_refused_until_it_is_back() -> Result<()> {
    let health = "{ tcp: {}, interval: 200ms, rise: 1, fall: 1 }";
    let mut site = web(Service::web("rr", 2).with("health", health))?;
    wait::until_true(Duration::from_secs(10), "both are up", || {
        Ok(!site.director.list_text(&[])?.contains("not probed"))
    })?;
    expect_turns(&site.pages(4)?, 2)?;
    site.servers.clear();
    wait::until_true(Duration::from_secs(10), "both are down", || {
        Ok(site
            .director
            .list_text(&[])?
            .matches("down: connection refused")
            .count()
            == 2)
    })?;
    let (code, after) = curl(site.client(), PAGE)?;
    ensure!(code == Some(REFUSED), "curl ends with {code:?} after {after:?}");
    ensure!(counted(&site, "rejected")? > 0, "not by the director");
    site.servers = site.lab.real_servers().map(Nginx::start).collect::<Result<_>>()?;
    wait::until_true(Duration::from_secs(10), "both are back", || {
        Ok(!site.director.list_text(&[])?.contains("down: "))
    })?;
    expect_turns(&site.pages(4)?, 2)
}

fn connections_that_are_held_are_not_reset() -> Result<()> {
    use lbx_tests::{clients::Connection, servers::TcpServer};
    let health = "{ http: {}, interval: 200ms, rise: 1, fall: 1 }";
    let service = Service::web("rr", 1).with("on_failure", "drop");
    let site = Site::start(service.clone(), |host| TcpServer::start(host, 80))?;
    let mut held = site.client().enter(|| Connection::open(40_000, (VIP, 80)))??;
    held.echo("before")?;
    // The server speaks no HTTP: it fails, and lives.
    reload(&site.director, service.clone().with("health", health))?;
    wait::until_true(Duration::from_secs(10), "it is down", || {
        Ok(site.director.list_text(&[])?.contains("down: "))
    })?;
    let (code, after) = curl(site.client(), PAGE)?;
    ensure!(code == Some(REFUSED), "curl ends with {code:?} after {after:?}");
    let rejected = counted(&site, "rejected")?;
    let waiting = std::thread::spawn(move || {
        held.echo("while it is down")?;
        anyhow::Ok(held)
    });
    wait::until_true(Duration::from_secs(5), "its packets are dropped", || {
        Ok(counted(&site, "no_backend")? > 0)
    })?;
    ensure!(counted(&site, "rejected")? == rejected, "{CLIENT} was answered");
    reload(&site.director, service)?;
    match waiting.join() {
        Ok(echoed) => drop(echoed?),
        Err(_) => bail!("the client has panicked"),
    }
    Ok(())
}
