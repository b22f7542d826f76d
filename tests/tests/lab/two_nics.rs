//! Clients on one segment, real servers on another: frames leave by another NIC than they came in by.

use std::time::Duration;

use anyhow::{Result, ensure};
use lbx_tests::{
    cluster::{Cluster, Service},
    lab::{CLIENT, DIP, Lab, VIP, VIP6, six},
    lbx::Director,
    mac::Mac,
    nginx::Nginx,
    patience, payload, wait,
};

use crate::setup::{PAGE, PAGE6, Site, expect_turns, on_segment_2, serve_big};

crate::harness::tests!(Lbx:
    real_servers_on_the_second_segment_over_ipv4,
    real_servers_on_the_second_segment_over_ipv6,
    vips_are_announced_on_every_segment_of_clients,
    a_reload_whose_vip_cannot_be_added_is_loaded_and_retried,
);

fn real_servers_on_the_second_segment_over_ipv4() -> Result<()> {
    expect_redirected(PAGE, |service| service)
}

fn real_servers_on_the_second_segment_over_ipv6() -> Result<()> {
    expect_redirected(PAGE6, Service::over_ipv6)
}

/// The client has a NIC on the second segment too, by which answers reach its first address: nobody forwards.
fn lab() -> Result<Lab> {
    let gateway = on_segment_2(10);
    let lab = Lab::builder()
        .host("client", &[CLIENT, gateway])
        .host("director", &[DIP, on_segment_2(2)])
        .host("rs1", &[on_segment_2(185)])
        .host("rs2", &[on_segment_2(190)])
        .build()?;
    for host in lab.real_servers() {
        host.ip(&format!("route add {CLIENT}/32 via {gateway}"))?;
        host.ip(&format!("route add {}/128 via {}", six(CLIENT), six(gateway)))?;
    }
    Ok(lab)
}

fn expect_redirected(page: &str, family: impl Fn(Service) -> Service) -> Result<()> {
    for scheduler in ["rr", "maglev"] {
        let mut service = Service::web(scheduler, 2);
        service.servers[0].address = on_segment_2(185).into();
        service.servers[1].address = on_segment_2(190).into();
        let cluster = Cluster::from(family(service));
        let site = Site::start_in(lab()?, &cluster, Nginx::start)?;
        if scheduler == "rr" {
            expect_turns(&site.pages_of(page, 8)?, 2)?;
        }
        let sent = serve_big(&site.servers, 10)?;
        let to = site.lab.directory().join("down");
        site.client().download(&format!("{page}big"), &to)?;
        ensure!(payload::digest(&to)? == sent, "the download differs");
        site.director.expect_no_drops()?;
    }
    Ok(())
}

/// Clients on both segments know another director's MAC address: each learns that of the NIC on its segment.
fn vips_are_announced_on_every_segment_of_clients() -> Result<()> {
    let lab = Lab::builder()
        .host("client", &[CLIENT])
        .host("other", &[on_segment_2(10)])
        .host("director", &[DIP, on_segment_2(2)])
        .host("rs1", &[lbx_tests::lab::rip(1)])
        .build()?;
    let stale = Mac([2, 0, 0, 0, 0, 99]);
    let knows = |host: &str, mac: &str| -> Result<bool> {
        let lines = [VIP.to_string(), VIP6.to_string()].map(|vip| lab.host(host).ip(&format!("neighbour show {vip}")));
        Ok(lines
            .into_iter()
            .collect::<Result<Vec<_>>>()?
            .iter()
            .all(|line| line.contains(mac)))
    };
    let make_stale = || -> Result<()> {
        for host in ["client", "other"] {
            for vip in [VIP.to_string(), VIP6.to_string()] {
                let entry = format!("neighbour replace {vip} lladdr {stale} dev eth0 nud stale");
                lab.host(host).ip(&entry)?;
            }
        }
        Ok(())
    };
    make_stale()?;
    let mut cluster = Cluster::from(Service::web("rr", 1));
    cluster.services.push(Service::web("rr", 1).over_ipv6());
    cluster.interfaces.push("eth1".to_owned());
    let director = Director::start(&lab, &cluster)?;
    let macs = ["eth0", "eth1"].map(|nic| lab.director().mac(nic).map(|mac| mac.to_string()));
    let [first, second] = [&macs[0], &macs[1]].map(|mac| mac.as_ref().map_or("", String::as_str));
    wait::until_true(Duration::from_secs(5), "both have learnt it", || {
        Ok(knows("client", first)? && knows("other", second)?)
    })?;
    // A reload that changes nothing announces nothing.
    std::thread::sleep(patience::scaled(Duration::from_secs(4)));
    make_stale()?;
    crate::setup::reload(&director, cluster)?;
    std::thread::sleep(patience::scaled(Duration::from_secs(2)));
    ensure!(
        knows("client", &stale.to_string())? && knows("other", &stale.to_string())?,
        "announced again"
    );
    Ok(())
}

/// The tables are the new ones by then: the log must not say that nothing changed.
fn a_reload_whose_vip_cannot_be_added_is_loaded_and_retried() -> Result<()> {
    let mut service = Service::web("rr", 1);
    service.servers[0].address = on_segment_2(185).into();
    let mut cluster = Cluster::from(service.clone());
    let site = Site::start_in(lab()?, &cluster, Nginx::start)?;
    site.lab.director().set_sysctl("ipv6/conf/eth0/disable_ipv6", "1")?;
    cluster.services.push(service.over_ipv6());
    crate::setup::reload(&site.director, cluster)?;
    let log = site.director.log();
    let expected =
        format!("configuration reloaded, but NICs or VIPs do not match it yet, retrying: cannot add {VIP6}/128");
    ensure!(
        log.contains(&expected) && log.contains("disable_ipv6=0") && !log.contains("reload refused"),
        "{log}"
    );
    ensure!(site.director.list()?.len() == 2, "the service is not loaded");
    site.lab.director().set_sysctl("ipv6/conf/eth0/disable_ipv6", "0")?;
    wait::until_true(Duration::from_secs(10), "the VIP is added once it can be", || {
        Ok(site
            .lab
            .director()
            .ip("-6 address show dev eth0")?
            .contains(&VIP6.to_string()))
    })
}
