//! Real servers that are out of the file and still have connections: their checks go on, and `drain_timeout` ends them.

use std::{
    net::SocketAddrV4,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    clients::Connection,
    cluster::{Cluster, Service},
    datagram_stream::DatagramStream,
    host::Host,
    lab::{VIP, rip},
    patience,
    servers::{TcpServer, UdpServer},
    wait,
};
use serde_json::Value;

use crate::{
    health::{DETECTED, healthy, often},
    setup::{Site, reload},
};

crate::harness::tests!(Lbx:
    a_flow_leaves_a_drained_server_that_stops,
    a_flow_leaves_a_removed_server_that_stops_by_rr,
    a_flow_leaves_a_removed_server_that_stops_by_maglev,
    a_flow_leaves_a_removed_host_that_is_off,
    a_flow_leaves_a_removed_server_that_stops_after_a_restart,
    a_flow_leaves_a_removed_server_that_stops_after_the_first_port_went,
    checks_of_a_removed_server_end_when_it_has_drained,
    a_removed_server_that_is_down_keeps_its_flows_by_on_failure,
    drain_timeout_ends_a_connection_and_not_before,
    drain_timeout_of_a_flow_is_twice_the_udp_timeout,
    drain_timeout_goes_on_across_a_restart,
);

const ECHO: SocketAddrV4 = SocketAddrV4::new(VIP, 7);
/// Another port of the same service.
const OTHER: SocketAddrV4 = SocketAddrV4::new(VIP, 9);

/// How late a drain timeout may be: two ticks, and the director looks once a second.
const LATE: Duration = Duration::from_millis(4_500);

fn echo(scheduler: &'static str) -> Service {
    let check = often("udp: { payload: hello, reply: rs }");
    Service::web(scheduler, 2).on("udp", 7).with("health", check)
}

/// The number of a real server, from 0, by its name.
fn index(server: &str) -> usize {
    usize::from(server == "rs2")
}

/// The same service without a real server.
fn without(service: &Service, server: &str) -> Service {
    let mut reduced = service.clone();
    reduced.servers.remove(index(server));
    reduced
}

/// A flow that never pauses, to a real server that is then taken out of the file and keeps the flow.
fn drain(service: &Service) -> Result<(Site<Option<UdpServer>>, DatagramStream, String)> {
    let site = healthy(service.clone(), |host| Ok(Some(UdpServer::start(host, ECHO)?)))?;
    let stream = DatagramStream::begin(site.client(), ECHO)?;
    let server = stream.server()?;
    reload(&site.director, without(service, &server))?;
    expect_stays(&stream, &server, Duration::from_secs(2))?;
    Ok((site, stream, server))
}

/// That a flow stays where it is for a time.
fn expect_stays(stream: &DatagramStream, server: &str, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        let answered = stream.server()?;
        ensure!(answered == server, "the flow has left {server} for {answered}");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// How a real server is listed, if it is.
fn listed(site: &Site<impl Sized>, server: &str) -> Result<Option<Value>> {
    let address = rip(1 + index(server) as u8).to_string();
    let json = site.director.json()?;
    let servers = json["services"][0]["servers"].as_array().context("no servers")?;
    Ok(servers.iter().find(|listed| listed["address"] == address).cloned())
}

fn expect_moves(site: &mut Site<Option<UdpServer>>, stream: &DatagramStream, server: &str) -> Result<()> {
    site.servers[index(server)] = None;
    stream
        .wait_other(server, DETECTED)
        .with_context(|| site.director.log())?;
    expect_logged(site, server, "connection refused")
}

/// That the log says for which reason a real server is down.
fn expect_logged(site: &Site<impl Sized>, server: &str, reason: &str) -> Result<()> {
    let line = format!("real server {} down: {reason}", rip(1 + index(server) as u8));
    ensure!(
        site.director.log().contains(&line),
        "no {line:?} in\n{}",
        site.director.log()
    );
    Ok(())
}

/// What the others are held against.
fn a_flow_leaves_a_drained_server_that_stops() -> Result<()> {
    let service = echo("rr");
    let mut site = healthy(service.clone(), |host| Ok(Some(UdpServer::start(host, ECHO)?)))?;
    let stream = DatagramStream::begin(site.client(), ECHO)?;
    let server = stream.server()?;
    let mut drained = service;
    drained.servers[index(&server)].weight = 0;
    reload(&site.director, drained)?;
    expect_stays(&stream, &server, Duration::from_secs(2))?;
    expect_moves(&mut site, &stream, &server)
}

fn a_flow_leaves_a_removed_server_that_stops_by_rr() -> Result<()> {
    let (mut site, stream, server) = drain(&echo("rr"))?;
    expect_moves(&mut site, &stream, &server)
}

fn a_flow_leaves_a_removed_server_that_stops_by_maglev() -> Result<()> {
    let (mut site, stream, server) = drain(&echo("maglev"))?;
    expect_moves(&mut site, &stream, &server)
}

fn a_flow_leaves_a_removed_host_that_is_off() -> Result<()> {
    let (site, stream, server) = drain(&echo("rr"))?;
    site.lab.real_server(1 + index(&server)).set_up("eth0", false)?;
    stream
        .wait_other(&server, DETECTED)
        .with_context(|| site.director.log())?;
    expect_logged(&site, &server, "timed out")
}

/// What the check was is not known any more: that of the service is taken.
fn a_flow_leaves_a_removed_server_that_stops_after_a_restart() -> Result<()> {
    let (mut site, stream, server) = drain(&echo("rr"))?;
    site.director.kill()?;
    site.director.restart()?;
    expect_stays(&stream, &server, Duration::from_secs(2))?;
    expect_moves(&mut site, &stream, &server)
}

fn a_flow_leaves_a_removed_server_that_stops_after_the_first_port_went() -> Result<()> {
    let check = often("udp: { payload: hello, reply: rs }, port: 7");
    let service = Service {
        ports: Some("[7, 9]"),
        ..Service::web("rr", 2).on("udp", 7).with("health", check)
    };
    let serve = |host: &Host| {
        let servers = (UdpServer::start(host, ECHO)?, UdpServer::start(host, OTHER)?);
        Ok(Some(servers))
    };
    let mut site = healthy(service.clone(), serve)?;
    let stream = DatagramStream::begin(site.client(), OTHER)?;
    let server = stream.server()?;
    // What is in the file has another check now, which it would not pass.
    let mut reduced = Service {
        ports: None,
        ..without(&service, &server).on("udp", 9)
    };
    reduced.options = vec![("health", often("udp: { payload: hello, reply: rs }"))];
    reload(&site.director, reduced)?;
    expect_stays(&stream, &server, Duration::from_secs(2))?;
    site.servers[index(&server)] = None;
    stream
        .wait_other(&server, DETECTED)
        .with_context(|| site.director.log())?;
    expect_logged(&site, &server, "connection refused")
}

fn checks_of_a_removed_server_end_when_it_has_drained() -> Result<()> {
    let service = Cluster {
        timeouts: vec![("udp", 1)],
        ..echo("rr").with("drain_timeout", "none").into()
    };
    let mut site = healthy(service.clone(), |host| Ok(Some(UdpServer::start(host, ECHO)?)))?;
    let mut reduced = service;
    reduced.services[0].servers.pop();
    reload(&site.director, reduced)?;
    let drained = || Ok(site.director.log().contains("drained: no connections left"));
    wait::until_true(Duration::from_secs(15), "it has drained", drained)?;
    // The director looks once a second.
    thread::sleep(patience::scaled(Duration::from_secs(2)));
    site.servers[1] = None;
    thread::sleep(patience::scaled(DETECTED));
    let log = site.director.log();
    ensure!(!log.contains(" down: "), "it is still checked:\n{log}");
    Ok(())
}

fn a_removed_server_that_is_down_keeps_its_flows_by_on_failure() -> Result<()> {
    let service = echo("rr").with("on_failure", "keep");
    let (mut site, stream, server) = drain(&service)?;
    site.servers[index(&server)] = None;
    let down = || Ok(listed(&site, &server)?.is_some_and(|listed| listed["state"] == "down"));
    wait::until_true(DETECTED, "it is listed as down", down).with_context(|| site.director.log())?;
    let table = site.director.list_text(&[])?;
    let address = rip(1 + index(&server) as u8);
    for note in [
        "down: connection refused",
        "draining: its connections are re-scheduled in ",
    ] {
        ensure!(table.contains(&format!("{address}: {note}")), "no {note:?} in\n{table}");
    }
    let host = site.lab.real_server(1 + index(&server));
    site.servers[index(&server)] = Some(UdpServer::start(host, ECHO)?);
    let back = || Ok(listed(&site, &server)?.is_some_and(|listed| listed["state"] == "draining"));
    wait::until_true(DETECTED, "it is up again", back)?;
    ensure!(stream.server()? == server, "the flow has left");
    Ok(())
}

/// Connections to rs1 and to rs2 of a service that has the connections of removed real servers for so long, and when rs2 was
/// taken out of the file.
fn hold(timeout: &str) -> Result<(Site<TcpServer>, [Connection; 2], Instant)> {
    let service = Service::web("rr", 2).on("tcp", 7000).with("drain_timeout", timeout);
    let site = Site::start(service.clone(), |host| TcpServer::start(host, 7000))?;
    let open = || {
        site.client()
            .enter(|| Connection::open(0, SocketAddrV4::new(VIP, 7000)))
    };
    let (one, other) = (open()??, open()??);
    let both = if one.server() == "rs1" {
        [one, other]
    } else {
        [other, one]
    };
    ensure!(both[1].server() == "rs2", "not in turn");
    let removed = Instant::now();
    reload(&site.director, without(&service, "rs2"))?;
    Ok((site, both, removed))
}

/// That a connection lives until a drain timeout is over, and no longer.
fn expect_end(connection: &mut Connection, removed: Instant, timeout: Duration) -> Result<()> {
    while connection.echo("still there").is_ok() {
        ensure!(removed.elapsed() < timeout + patience::scaled(LATE), "it goes on");
        thread::sleep(Duration::from_millis(100));
    }
    ensure!(removed.elapsed() >= timeout, "cut after {:?}", removed.elapsed());
    Ok(())
}

fn expect_drain_timeout_logged(site: &Site<impl Sized>) -> Result<()> {
    let log = site.director.log();
    let line = "drained: drain_timeout is over; connections left re-scheduled";
    ensure!(log.contains(line), "no {line:?} in\n{log}");
    Ok(())
}

fn drain_timeout_ends_a_connection_and_not_before() -> Result<()> {
    let (site, [mut first, mut second], removed) = hold("6s")?;
    let mut before = 6;
    for _ in 0..4 {
        let left = listed(&site, "rs2")?.context("not listed")?["drain_seconds_left"].as_u64();
        let left = left.context("no time left")?;
        ensure!((1..=before).contains(&left), "{left} s left after {before}");
        let table = site.director.list_text(&[])?;
        let note = table
            .lines()
            .find(|line| line.contains("draining: keeps its connections for "));
        ensure!(
            note.is_some_and(|note| note.ends_with(" s more, gets no new ones")),
            "{table}"
        );
        before = left;
        second.echo("still there")?;
        thread::sleep(Duration::from_millis(1_400));
    }
    ensure!(before < 6, "no time passes");
    expect_end(&mut second, removed, Duration::from_secs(6))?;
    expect_drain_timeout_logged(&site)?;
    first.echo("still there")?;
    ensure!(listed(&site, "rs2")?.is_none(), "still listed");
    Ok(())
}

fn drain_timeout_of_a_flow_is_twice_the_udp_timeout() -> Result<()> {
    let cluster = Cluster {
        timeouts: vec![("udp", 3)],
        ..Service::web("rr", 2).on("udp", 7).into()
    };
    let site = Site::start(cluster.clone(), |host| UdpServer::start(host, ECHO))?;
    let stream = DatagramStream::begin(site.client(), ECHO)?;
    let server = stream.server()?;
    let mut reduced = cluster;
    reduced.services[0].servers.remove(index(&server));
    let timeout = Duration::from_secs(6);
    let removed = Instant::now();
    reload(&site.director, reduced)?;
    expect_stays(&stream, &server, timeout.saturating_sub(removed.elapsed()))?;
    stream.wait_other(&server, LATE)?;
    expect_drain_timeout_logged(&site)
}

fn drain_timeout_goes_on_across_a_restart() -> Result<()> {
    let (mut site, [mut first, mut second], removed) = hold("9s")?;
    thread::sleep(Duration::from_secs(3));
    site.director.kill()?;
    second.echo("without the daemon")?;
    thread::sleep(Duration::from_secs(3));
    site.director.restart()?;
    expect_end(&mut second, removed, Duration::from_secs(9))?;
    first.echo("still there")
}
