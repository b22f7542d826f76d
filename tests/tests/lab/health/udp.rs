//! Checks by datagram: a real DNS server, an echo, and ICMP that says nobody listens.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context as _, Result};
use lbx_tests::{
    cluster::Service,
    dns::DnsServer,
    lab::{VIP, rip},
    servers::UdpServer,
};

use super::{DETECTED, RECOVERED, healthy, often};

crate::harness::tests!(Lbx:
    dns_names_that_are_wrong_or_gone,
    dns_servers_that_are_gone,
    udp_without_a_listener,
    udp_with_the_wrong_reply,
    udp_that_needs_no_reply,
    udp_answers_from_the_rip,
);

const WWW: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ECHO: SocketAddrV4 = SocketAddrV4::new(VIP, 7);

fn dns() -> Service {
    let asked = often("dns: { name: www.example.org, type: A, answer: 192.0.2.1 }");
    Service::web("rr", 2).on("udp", 53).with("health", asked)
}

fn dns_names_that_are_wrong_or_gone() -> Result<()> {
    let site = healthy(dns(), |host| DnsServer::start(host, WWW))?;
    let server = &site.servers[1];
    server.rename(Some(VIP))?;
    site.director.wait_down(53, rip(2), "wrong answer", DETECTED)?;
    server.rename(None)?;
    let what = "the name does not exist";
    let gone = site.director.wait_state(53, rip(2), what, DETECTED, |state| {
        state
            .reason
            .as_deref()
            .is_some_and(|reason| reason.contains("NXDOMAIN"))
    });
    gone?.expect_down("wrong response code NXDOMAIN")?;
    server.rename(Some(WWW))?;
    site.director.wait_for(53, rip(2), "up", RECOVERED).map(drop)
}

/// Its kernel says so: an ICMP error that has the VIP outside and inside.
fn dns_servers_that_are_gone() -> Result<()> {
    let mut site = healthy(dns(), |host| DnsServer::start(host, WWW))?;
    drop(site.servers.pop().context("no server")?);
    site.director.wait_down(53, rip(2), "connection refused", DETECTED)?;
    site.servers.push(DnsServer::start(site.lab.real_server(2), WWW)?);
    site.director.wait_for(53, rip(2), "up", RECOVERED).map(drop)
}

fn echo(asked: &str) -> Service {
    Service::web("rr", 2).on("udp", 7).with("health", often(asked))
}

fn udp_without_a_listener() -> Result<()> {
    for family in [|service| service, Service::over_ipv6 as fn(Service) -> Service] {
        let service = family(echo("udp: { payload: hello, reply: rs }"));
        let (listen, server) = ((service.vip, 7), service.servers[1].address);
        let mut site = healthy(service, |host| UdpServer::start(host, listen))?;
        drop(site.servers.pop().context("no server")?);
        site.director.wait_down(7, server, "connection refused", DETECTED)?;
        site.servers.push(UdpServer::start(site.lab.real_server(2), listen)?);
        site.director.wait_for(7, server, "up", RECOVERED)?;
    }
    Ok(())
}

fn udp_with_the_wrong_reply() -> Result<()> {
    let service = echo("udp: { payload: hello, reply: \"rs1 hello\" }");
    let site = crate::setup::Site::start(service, |host| UdpServer::start(host, ECHO))?;
    site.director.wait_for(7, rip(1), "up", RECOVERED)?;
    site.director.wait_down(7, rip(2), "wrong answer", DETECTED).map(drop)
}

fn udp_that_needs_no_reply() -> Result<()> {
    let mut site = healthy(echo("udp: {}"), |host| UdpServer::start(host, ECHO))?;
    drop(site.servers.pop().context("no server")?);
    site.director
        .wait_down(7, rip(2), "connection refused", DETECTED)
        .map(drop)
}

/// Restarted on the wildcard address, it answers from the RIP: clients get no reply, so it is down, and it says why.
fn udp_answers_from_the_rip() -> Result<()> {
    let kinds = ["udp: { payload: hello, reply: rs }", "udp: { payload: hello }"];
    for (kind, over_ipv6) in kinds.iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let service = echo(kind);
        let service = if over_ipv6 { service.over_ipv6() } else { service };
        let (listen, server) = ((service.vip, 7), service.servers[1].address);
        let anywhere = if over_ipv6 { "[::]:7" } else { "0.0.0.0:7" }.parse::<std::net::SocketAddr>()?;
        let mut site = healthy(service, |host| UdpServer::start(host, listen))?;
        drop(site.servers.pop().context("no server")?);
        site.servers.push(UdpServer::start(site.lab.real_server(2), anywhere)?);
        let reason = format!("answers from {server}, not from the VIP");
        site.director
            .wait_state(7, server, &reason, DETECTED * 2, |state| {
                state.reason.as_deref().is_some_and(|said| said.contains(&reason))
            })?
            .expect_down(&reason)?;
        drop(site.servers.pop().context("no server")?);
        site.servers.push(UdpServer::start(site.lab.real_server(2), listen)?);
        site.director.wait_for(7, server, "up", RECOVERED)?;
    }
    Ok(())
}
