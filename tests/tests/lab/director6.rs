//! The director on an IPv6 network: its VIPs, its real servers' MAC addresses.

use std::{net::Ipv6Addr, time::Duration};

use anyhow::{Result, ensure};
use lbx_tests::{
    host::Host,
    lab::Lab,
    lbx::{self, Director},
    mac::Mac,
    nginx::Nginx,
    wait,
};
use nix::sys::signal::Signal;

use crate::setup::Snapshot;

crate::harness::tests!(Lbx:
    an_ipv6_vip_comes_and_goes,
    an_ipv6_vip_is_announced,
    a_silent_mac_change_is_followed_by_neighbour_discovery,
    a_link_local_real_server_is_refused,
);

const VIP6: &str = "2001:db8::160";
const SOON: Duration = Duration::from_secs(4);

fn ip(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
}

/// Client, director and real servers that speak IPv6 besides IPv4, the real servers with the VIP.
struct Site6 {
    _servers: Vec<Nginx>,
    lab: Lab,
}

fn site() -> Result<Site6> {
    let lab = Lab::new()?;
    let mut servers = Vec::new();
    for (host, last) in lab.hosts().iter().zip([0x10, 0x2, 0x185, 0x190]) {
        for conf in ["all", "lo", "eth0"] {
            host.set_sysctl(&format!("ipv6/conf/{conf}/disable_ipv6"), "0")?;
        }
        host.ip(&format!("address add {}/64 dev eth0 nodad", ip(last)))?;
        if host.name().starts_with("rs") {
            lbx::real_server(host, lab.id(), &["--vip", VIP6, "--once"])?.success()?;
            servers.push(Nginx::start(host)?);
        }
    }
    Ok(Site6 { _servers: servers, lab })
}

fn file(servers: &str) -> String {
    format!("interface: eth0\nservices:\n  - {{vip: \"{VIP6}\", port: 80, realservers: [{servers}]}}\n")
}

impl Site6 {
    fn start(&self) -> Result<Director> {
        let yaml = file("\"2001:db8::185\", \"2001:db8::190\"");
        Director::start_named(self.lab.director(), self.lab.id(), &yaml)
    }

    fn page(&self) -> Result<String> {
        self.lab.client().curl(&format!("http://[{VIP6}]/"))
    }
}

fn vip_on(host: &Host) -> Result<String> {
    host.ip(&format!("-6 address show dev eth0 to {VIP6}/128"))
}

fn an_ipv6_vip_comes_and_goes() -> Result<()> {
    let site = site()?;
    let host = site.lab.director();
    // The kernel's own link-local address changes by itself until then.
    wait::until_true(SOON, "no address is tentative", || {
        Ok(host.ip("-6 address show tentative")?.is_empty())
    })?;
    let before = Snapshot::of(host)?;
    let mut director = site.start()?;
    let vip = vip_on(host)?;
    ensure!(vip.contains("nodad") && vip.contains("deprecated"), "{vip}");
    let route = host.ip("-6 route get 2001:db8::10")?;
    ensure!(
        route.contains("src 2001:db8::2 "),
        "the VIP is a source address: {route}"
    );
    let mut pages = vec![site.page()?, site.page()?];
    pages.sort();
    ensure!(pages == ["rs1 nginx", "rs2 nginx"], "{pages:?}");
    director.expect_no_drops()?;

    host.ip(&format!("address del {VIP6}/128 dev eth0"))?;
    wait::until_true(SOON, "the VIP is back", || Ok(vip_on(host)?.contains(VIP6)))?;
    director.stop(Signal::SIGTERM)?;
    ensure!(vip_on(host)?.is_empty(), "the VIP stays");
    before.expect(host)
}

/// A neighbour that has the VIP at another MAC address learns the new one, unasked.
fn an_ipv6_vip_is_announced() -> Result<()> {
    let site = site()?;
    let client = site.lab.client();
    let stale = Mac([2, 0, 0, 0, 0, 99]);
    client.ip(&format!("neighbour replace {VIP6} lladdr {stale} dev eth0 nud stale"))?;
    let _director = site.start()?;
    let mac = site.lab.director().mac("eth0")?.to_string();
    wait::until_true(SOON, "the client has heard it", || {
        Ok(client.ip(&format!("-6 neighbour show {VIP6}"))?.contains(&mac))
    })
}

fn a_silent_mac_change_is_followed_by_neighbour_discovery() -> Result<()> {
    let site = site()?;
    let director = site.start()?;
    for (server, number) in site.lab.real_servers().zip(1..) {
        server.set_sysctl("ipv6/conf/eth0/ndisc_notify", "0")?;
        server.set_mac("eth0", Mac([2, 0, 0, 0, 1, number]))?;
    }
    wait::until_true(SOON, "both have moved", || {
        Ok(director.log().matches("MAC address changed from").count() == 2)
    })?;
    let mut pages = vec![site.page()?, site.page()?];
    pages.sort();
    ensure!(pages == ["rs1 nginx", "rs2 nginx"], "{pages:?}");
    Ok(())
}

fn a_link_local_real_server_is_refused() -> Result<()> {
    let site = site()?;
    let yaml = file("\"fe80::185\"");
    let output = Director::refused(site.lab.director(), site.lab.id(), &yaml)?;
    ensure!(!output.status.success(), "{output}");
    ensure!(output.stderr.contains("link-local"), "{output}");
    Ok(())
}
