//! Clients behind a link that takes smaller packets: what routers say of it to the VIP reaches the real server.

use anyhow::{Result, ensure};
use lbx_tests::{
    cluster::{Cluster, Service},
    download::Download,
    lab::{DIP, Lab, VIP, VIP6, rip, six},
    nginx::Nginx,
};

use crate::setup::{PAGE, PAGE6, Site, serve_big};

crate::harness::tests!(Lbx:
    rr_clients_behind_a_small_mtu,
    maglev_clients_behind_a_small_mtu,
);

const MEGABYTES: usize = 10;
const ROUTER: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 168, 1, 1);
const ROUTER_BEHIND: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 168, 3, 1);
const CLIENT_BEHIND: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 168, 3, 10);

/// A lab whose client is on segment 3, behind a router that sends no more than 1,400 bytes at a time to it. The client does
/// not know and asks for segments of 1,460 bytes.
fn lab() -> Result<Lab> {
    let lab = Lab::builder()
        .host("client", &[CLIENT_BEHIND])
        .host("router", &[ROUTER, ROUTER_BEHIND])
        .host("director", &[DIP])
        .host("rs1", &[rip(1)])
        .host("rs2", &[rip(2)])
        .build()?;
    let router = lab.host("router");
    router.set_sysctl("ipv4/ip_forward", "1")?;
    router.set_sysctl("ipv6/conf/all/forwarding", "1")?;
    router.ip("link set dev eth1 mtu 1400")?;
    lab.client().ip(&format!("route add default via {ROUTER_BEHIND}"))?;
    lab.client()
        .ip(&format!("-6 route add default via {}", six(ROUTER_BEHIND)))?;
    for host in lab.real_servers() {
        host.ip(&format!("route add 192.168.3.0/24 via {ROUTER}"))?;
        host.ip(&format!("-6 route add fd00:3::/64 via {}", six(ROUTER)))?;
        // Else the server finds out by itself what it is not told.
        host.set_sysctl("ipv4/tcp_mtu_probing", "0")?;
    }
    Ok(lab)
}

fn rr_clients_behind_a_small_mtu() -> Result<()> {
    expect_told("rr")
}

fn maglev_clients_behind_a_small_mtu() -> Result<()> {
    expect_told("maglev")
}

/// One family: its page, its VIP, `ip`'s name for ICMP in it, and the counter of messages that a packet was too big.
const FAMILIES: [(&str, &str, &str, &str); 2] = [
    (PAGE, "-4", "icmp", "IcmpInDestUnreachs"),
    (PAGE6, "-6", "ipv6-icmp", "Icmp6InPktTooBigs"),
];

fn expect_told(scheduler: &'static str) -> Result<()> {
    let mut cluster = Cluster::from(Service::web(scheduler, 2));
    cluster.services.push(Service::web(scheduler, 2).over_ipv6());
    let site = Site::start_in(lab()?, &cluster, Nginx::start)?;
    let sent = serve_big(&site.servers, MEGABYTES)?;
    let router = site.lab.host("router");
    for (page, family, icmp, told) in FAMILIES {
        let vip = if family == "-4" {
            VIP.to_string()
        } else {
            VIP6.to_string()
        };
        let big = format!("{page}big");
        // While the router's word does not get through to the VIP, a big packet does not get through to the client.
        let silence = format!("to {vip} ipproto {icmp} blackhole");
        router.ip(&format!("{family} rule add pref 1 {silence}"))?;
        let stuck = site.client().run([
            "curl",
            "--globoff",
            "--silent",
            "--max-time",
            "1",
            "--output",
            "/dev/null",
            &big,
        ])?;
        ensure!(stuck.code() == Some(28), "no time-out while nobody is told: {stuck}");
        let hear = || -> Result<Vec<u64>> { site.lab.real_servers().map(|host| host.counter(told)).collect() };
        ensure!(hear()? == [0, 0], "{:?} messages before any came through", hear()?);
        router.ip(&format!("{family} rule delete pref 1"))?;
        let download = Download::begin(site.client(), &format!("{scheduler}{family}"), &big, 50_000)?;
        let server = download.server().to_owned();
        ensure!(download.finish()? == sent, "the download differs");
        let heard = hear()?;
        let number = if server == "rs1" { 0 } else { 1 };
        // The connection that hung before may still be on the other server, and its packets be told of too.
        ensure!(heard[number] > 0, "{server} has the flow and was not told: {heard:?}");
        let route = site.lab.host(&server).ip(&format!(
            "route get {}",
            if family == "-4" {
                CLIENT_BEHIND.to_string()
            } else {
                six(CLIENT_BEHIND).to_string()
            }
        ))?;
        ensure!(route.contains("mtu 1400"), "{server} has learnt nothing: {route}");
    }
    site.director.expect_no_drops()
}
