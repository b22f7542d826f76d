//! Packets for services that reach the director's own stack, and what the director says of them.

use std::time::Duration;

use anyhow::{Result, ensure};
use aya::maps::{Array, Map, MapData};
use lbx_common::{
    maps::{ABI, MAX_NICS, NICS},
    nic::Nic,
};
use lbx_tests::{
    bpffs,
    cluster::{Cluster, RealServer, Service},
    lab::{VIP, VIP6},
    nginx::Nginx,
    wait,
};

use crate::setup::{PAGE, PAGE6, Site, on_segment_2, two_segments, web};

crate::harness::tests!(Tcx:
    packets_by_a_nic_without_the_program_are_reported,
    packets_by_a_nic_of_real_servers_alone_are_reported,
    packets_over_ipv6_by_a_nic_without_the_program_are_reported,
    packets_that_the_program_passes_are_reported,
);

/// How soon something is logged or listed.
const SOON: Duration = Duration::from_secs(10);
/// The reason in the log and the listing.
const NOT_SERVED: &str = "reach this host's own stack by eth1, which refuses them, where lbx does not serve clients: add eth1 to \
                          `interface`, or keep clients from this NIC by their routes";
/// What follows for IPv4.
const OR_ARP: &str = " or ARP (`sysctl -w net.ipv4.conf.eth1.arp_ignore=1`)";

/// A client that has the MAC address of the director's second NIC for a VIP, by whatever mistake.
fn misled(site: &Site<Nginx>) -> Result<()> {
    let mac = site.lab.director().mac("eth1")?;
    for (vip, length) in [(VIP.to_string(), 32), (VIP6.to_string(), 128)] {
        site.client()
            .ip(&format!("neigh replace {vip} lladdr {mac} dev eth1 nud permanent"))?;
        site.client().ip(&format!("route add {vip}/{length} dev eth1"))?;
    }
    Ok(())
}

/// That requests fail, and that log and listing say why: once.
fn expect_reported(site: &Site<Nginx>, page: &str, service: &str, why: &str) -> Result<()> {
    let line = format!("packets for {service} {why}");
    let is_logged = || {
        for _ in 0..3 {
            let answer = site
                .client()
                .run(["curl", "--globoff", "--silent", "--max-time", "1", page])?;
            ensure!(answer.code() != Some(0), "it was served");
        }
        Ok(site.director.log().contains(&line))
    };
    wait::until_true(SOON, "it is logged", is_logged).map_err(|error| error.context(site.director.log()))?;
    let listed = site.director.list_text(&[])?;
    ensure!(
        listed.contains(&format!("# {service}: {line}")),
        "not listed:\n{listed}"
    );
    ensure!(
        site.director.json()?["services"][0]["warnings"][0] == line.as_str(),
        "not in JSON"
    );
    let log = site.director.log();
    ensure!(log.matches(&line).count() == 1, "logged again:\n{log}");
    Ok(())
}

fn packets_by_a_nic_without_the_program_are_reported() -> Result<()> {
    let site = Site::start_in(two_segments()?, &Service::web("rr", 1).into(), Nginx::start)?;
    ensure!(
        site.lab.director().xdp_program("eth1")?.is_none(),
        "the program is on eth1"
    );
    misled(&site)?;
    expect_reported(&site, PAGE, "192.168.1.160:80/tcp", &format!("{NOT_SERVED}{OR_ARP}"))
}

fn packets_over_ipv6_by_a_nic_without_the_program_are_reported() -> Result<()> {
    let cluster = Cluster::from(Service::web("rr", 1).over_ipv6());
    let site = Site::start_in(two_segments()?, &cluster, Nginx::start)?;
    misled(&site)?;
    expect_reported(&site, PAGE6, "[fd00:1::160]:80/tcp", NOT_SERVED)
}

fn packets_by_a_nic_of_real_servers_alone_are_reported() -> Result<()> {
    let mut service = Service::web("rr", 1);
    service.servers.push(RealServer::new(on_segment_2(190), 1));
    let site = Site::start_in(two_segments()?, &service.into(), Nginx::start)?;
    ensure!(
        site.lab.director().xdp_program("eth1")?.is_some(),
        "no program is on eth1"
    );
    site.client().curl(PAGE)?;
    ensure!(!site.director.list_text(&[])?.contains("own stack"), "listed too early");
    misled(&site)?;
    expect_reported(&site, PAGE, "192.168.1.160:80/tcp", &format!("{NOT_SERVED}{OR_ARP}"))
}

/// Another process changes what the program knows of the NIC.
fn packets_that_the_program_passes_are_reported() -> Result<()> {
    const WORDS: usize = size_of::<Nic>() * MAX_NICS as usize / 8;
    let site = web(Service::web("rr", 2))?;
    site.client().curl(PAGE)?;
    let path = bpffs::pins_of(site.director.name()).join(format!("v{ABI}")).join(NICS);
    let mut nics: Array<MapData, [u64; WORDS]> = Map::Array(MapData::from_pin(path)?).try_into()?;
    nics.set(0, [0; WORDS], 0)?;
    let why = "reach this host's own stack by eth0, which refuses them, although lbx serves clients there";
    let is_logged = || {
        for _ in 0..3 {
            site.client().run(["curl", "--silent", "--max-time", "1", PAGE])?;
        }
        Ok(site.director.log().contains(why))
    };
    wait::until_true(SOON, "it is logged", is_logged).map_err(|error| error.context(site.director.log()))
}
