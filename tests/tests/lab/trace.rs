//! `lbx trace` shows the decisions about real packets of each kind, and nothing of others.

use std::{net::SocketAddrV4, time::Duration};

use anyhow::{Result, ensure};
use lbx_tests::{
    clients::{self, Connection},
    cluster::{Cluster, Service},
    lab::{CLIENT, CLIENT6, VIP},
    lbx,
    process::Process,
    servers::{TcpServer, UdpServer},
    wait,
};

use crate::setup::{Site, WEB, WEB6};

crate::harness::tests!(Lbx:
    every_kind_of_packet_is_named,
    filters_narrow_the_trace,
    a_trace_of_an_unknown_service_ends_with_an_error,
);

const ECHO: SocketAddrV4 = SocketAddrV4::new(VIP, 7);
/// How soon a decision is printed.
const SOON: Duration = Duration::from_secs(3);

/// TCP over both families under rr and maglev, and UDP.
fn site() -> Result<Site<(TcpServer, UdpServer)>> {
    let mut cluster = Cluster::from(Service::web("rr", 2).with("name", "web"));
    cluster
        .services
        .push(Service::web("maglev", 2).over_ipv6().with("name", "web6"));
    cluster
        .services
        .push(Service::web("maglev", 2).on("udp", 7).with("name", "echo"));
    Site::start(cluster, |host| {
        Ok((TcpServer::start(host, 80)?, UdpServer::start(host, ECHO)?))
    })
}

/// A trace that has begun.
fn trace(site: &Site<(TcpServer, UdpServer)>, arguments: &[&str]) -> Result<Process> {
    let program = lbx::binary()?.display().to_string();
    let traced = || site.director.log().matches("trace enabled").count();
    let before = traced();
    let line = [&program, "trace", "--name", site.director.name()];
    let trace = site.lab.director().spawn("trace", line.iter().chain(arguments))?;
    wait::until_true(SOON, "the trace is enabled", || Ok(traced() > before))?;
    Ok(trace)
}

/// Waits for a line that begins and ends so.
fn expect(trace: &Process, begin: &str, end: &str) -> Result<()> {
    let found = wait::until_true(SOON, &format!("a line {begin} … {end}"), || {
        Ok(trace
            .log()
            .lines()
            .any(|line| line.starts_with(begin) && line.ends_with(end)))
    });
    found.map_err(|error| error.context(format!("traced:\n{}", trace.log())))
}

fn every_kind_of_packet_is_named() -> Result<()> {
    let site = site()?;
    let trace = trace(&site, &[])?;
    site.client().enter(|| -> Result<()> {
        Connection::open(20_001, WEB)?.echo("hello")?;
        Connection::open(20_002, WEB)?.reset()?;
        Connection::open(20_003, WEB6)?.echo("hello")?;
        clients::ask_by_datagram(20_004, ECHO, "hello").map(drop)
    })??;
    let (web, other) = (format!("{CLIENT}:20001 -> web "), format!("{CLIENT}:20002 -> web "));
    expect(
        &trace,
        &format!("{web}SYN 60 bytes"),
        "-> 192.168.1.185 (scheduled, new)",
    )?;
    expect(&trace, &format!("{web}ACK "), "-> 192.168.1.185 (recorded)")?;
    expect(&trace, &format!("{web}FIN+ACK "), "-> 192.168.1.185 (recorded)")?;
    expect(
        &trace,
        &format!("{other}SYN 60 bytes"),
        "-> 192.168.1.190 (scheduled, new)",
    )?;
    expect(&trace, &format!("{other}RST+ACK "), "-> 192.168.1.190 (recorded)")?;
    expect(
        &trace,
        &format!("[{CLIENT6}]:20003 -> web6 SYN 80 bytes"),
        " (hashed, new)",
    )?;
    expect(&trace, &format!("[{CLIENT6}]:20003 -> web6 ACK "), " (hashed)")?;
    expect(
        &trace,
        &format!("{CLIENT}:20004 -> echo datagram 33 bytes"),
        " (hashed)",
    )?;
    ensure!(
        !trace.log().contains('?') && !trace.log().contains("::ffff:"),
        "{}",
        trace.log()
    );
    site.director.expect_no_drops()
}

fn filters_narrow_the_trace() -> Result<()> {
    let site = site()?;
    let visit = |port| {
        site.client().enter(|| -> Result<()> {
            Connection::open(port, WEB)?.echo("hello")?;
            Connection::open(port, WEB6)?.echo("hello")
        })?
    };
    let (client, client6) = (CLIENT.to_string(), CLIENT6.to_string());
    for (port, arguments, shown, hidden) in [
        (20_010, ["--client", &client], " -> web ", " -> web6 "),
        (20_020, ["--client", &client6], " -> web6 ", " -> web "),
        (20_030, ["--service", "web6"], " -> web6 ", " -> web "),
    ] {
        let trace = trace(&site, &arguments)?;
        visit(port)?;
        let lines = || -> Vec<String> {
            let log = trace.log();
            let of_port = log.lines().filter(|line| line.contains(&format!(":{port} -> ")));
            of_port.map(str::to_owned).collect()
        };
        wait::until_true(SOON, &format!("lines with {arguments:?}"), || Ok(lines().len() >= 4))?;
        let lines = lines().join("\n");
        ensure!(
            lines.contains(shown) && !lines.contains(hidden),
            "{arguments:?}:\n{lines}"
        );
    }
    Ok(())
}

fn a_trace_of_an_unknown_service_ends_with_an_error() -> Result<()> {
    let site = site()?;
    let program = lbx::binary()?.display().to_string();
    let line = [&program, "trace", "--name", site.director.name(), "--service", "nobody"];
    let output = site.lab.director().run(line)?;
    ensure!(output.code() == Some(1), "{output}");
    ensure!(output.stderr.contains("no service is named nobody"), "{output}");
    Ok(())
}
