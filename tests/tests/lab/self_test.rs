//! The self-test of the data path: what it finds where tables or programs are not what lbx wrote, and that it leaves nothing behind.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, Map, MapData};
use lbx_common::{
    backend::{Backend, MacAndState},
    maps::{ABI, BACKENDS, VIPS},
};
use lbx_tests::{
    bpffs,
    cluster::{Cluster, Service},
    nginx::Nginx,
    wait, xdp,
};
use serde_json::Value;

use crate::setup::{PAGE, Site, reload, web};

crate::harness::tests!(Lbx:
    a_healthy_director_finds_and_leaves_nothing,
    frames_that_reach_the_host_are_reported_until_they_are_forwarded,
    frames_that_are_dropped_are_reported,
    frames_to_a_wrong_mac_address_are_reported,
    a_program_that_another_process_replaced_is_put_back,
);

/// How soon something is logged or listed.
const SOON: Duration = Duration::from_secs(5);

fn pinned(site: &Site<Nginx>, map: &str) -> Result<MapData> {
    let path = bpffs::pins_of(site.director.name()).join(format!("v{ABI}")).join(map);
    MapData::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))
}

fn words<const N: usize>(site: &Site<Nginx>, map: &str) -> Result<Array<MapData, [u64; N]>> {
    Ok(Map::Array(pinned(site, map)?).try_into()?)
}

/// Every kind of service, for each of which frames differ; the first with these weights.
fn cluster(weights: [u16; 2]) -> Cluster {
    let udp = |scheduler| Service {
        protocol: "udp",
        port: 53,
        ..Service::web(scheduler, 2)
    };
    let all_ports = Service {
        vip: [192, 168, 1, 161].into(),
        ports: Some("all"),
        ..Service::web("wlc", 2)
    };
    let services = vec![
        Service::weighted("rr", &weights),
        Service::web("maglev", 2).over_ipv6(),
        udp("maglev").with("one_packet", true),
        udp("rr").over_ipv6(),
        all_ports.with("persistence", 300),
    ];
    Cluster {
        services,
        ..Cluster::from(Service::web("rr", 2))
    }
}

fn a_healthy_director_finds_and_leaves_nothing() -> Result<()> {
    let site = web(cluster([1, 1]))?;
    // The first tests, the first scan, and the tests after a change.
    thread::sleep(Duration::from_secs(3));
    reload(&site.director, cluster([2, 1]))?;
    thread::sleep(Duration::from_secs(2));
    let log = site.director.log();
    ensure!(!log.contains("WARN") && !log.contains("failed"), "{log}");
    let json = site.director.json()?;
    let counted = |traffic: &Value| ["packets", "bytes", "connections"].map(|name| traffic[name].as_u64());
    for service in json["services"].as_array().context("no services")? {
        let servers = service["servers"].as_array().context("no servers")?;
        for traffic in servers.iter().chain([service]).map(|listed| &listed["traffic"]) {
            ensure!(counted(traffic) == [Some(0); 3], "counted: {service}");
        }
    }
    ensure!(json["flow_records"] == 0, "a record is left: {json}");
    ensure!(json["interfaces"][0]["warnings"] == Value::Array(Vec::new()), "{json}");
    site.director.expect_no_drops()
}

/// Has another process change a map, and lbx something else; waits until the log and the listing say what comes of it.
fn expect_reported(site: &Site<Nginx>, what: &str) -> Result<()> {
    // A change of anything has all services tested.
    reload(&site.director, cluster([1, 2]))?;
    let line = format!("more services {what}; ");
    let is_logged = || Ok(site.director.log().contains(&line));
    wait::until_true(SOON, "the fault is logged", is_logged).map_err(|error| error.context(site.director.log()))?;
    let listed = site.director.list_text(&[])?;
    ensure!(
        listed.contains("# eth0: self-test failed on eth0: frames for 192.168.1.160:") && listed.contains(&line),
        "not listed:\n{listed}"
    );
    // Once, until it changes.
    reload(&site.director, cluster([2, 3]))?;
    thread::sleep(Duration::from_secs(2));
    let log = site.director.log();
    ensure!(log.matches(&line).count() == 1, "logged again:\n{log}");
    Ok(())
}

fn frames_that_reach_the_host_are_reported_until_they_are_forwarded() -> Result<()> {
    let site = web(cluster([1, 1]))?;
    let mut vips = words::<16>(&site, VIPS)?;
    let buckets = (0..vips.len()).map(|index| Ok((index, vips.get(&index, 0)?)));
    let buckets: Vec<_> = buckets.collect::<Result<_>>()?;
    let used: Vec<_> = buckets.into_iter().filter(|(_, bucket)| *bucket != [0; 16]).collect();
    for (index, _) in &used {
        vips.set(*index, [0; 16], 0)?;
    }
    expect_reported(&site, "reach this host's own stack, which refuses connections")?;
    let log = site.director.log();
    ensure!(
        log.contains("and 4 more services"),
        "not all services were tested:\n{log}"
    );
    for (index, bucket) in used {
        vips.set(index, bucket, 0)?;
    }
    reload(&site.director, cluster([1, 1]))?;
    let is_over = || Ok(site.director.log().contains("self-test no longer fails on"));
    wait::until_true(SOON, "the end of it is logged", is_over)?;
    let listed = site.director.list_text(&[])?;
    ensure!(!listed.contains("self-test"), "listed still:\n{listed}");
    site.client().curl(PAGE).map(drop)
}

/// Has another process change all backends.
fn change_backends(site: &Site<Nginx>, change: impl Fn(MacAndState) -> MacAndState) -> Result<()> {
    let mut backends = words::<8>(site, BACKENDS)?;
    for index in 0..64 {
        let mut backend = Backend::from_words(backends.get(&index, 0)?);
        if backend.mac_and_state != 0 {
            backend.mac_and_state = change(MacAndState::from_word(backend.mac_and_state)).to_word();
            backends.set(index, backend.words(), 0)?;
        }
    }
    Ok(())
}

fn frames_that_are_dropped_are_reported() -> Result<()> {
    let site = web(cluster([1, 1]))?;
    change_backends(&site, |_| MacAndState::from_word(0))?;
    expect_reported(&site, "are dropped although a real server is up")
}

fn frames_to_a_wrong_mac_address_are_reported() -> Result<()> {
    let site = web(cluster([1, 1]))?;
    change_backends(&site, |backend| MacAndState {
        mac: [2, 0, 0, 0, 0, 0x77],
        ..backend
    })?;
    expect_reported(&site, "are sent to a MAC address of none of its real servers")
}

fn a_program_that_another_process_replaced_is_put_back() -> Result<()> {
    let site = web(Service::web("rr", 2))?;
    let host = site.lab.director();
    let before = host.xdp_program("eth0")?;
    let link = bpffs::pins_of(site.director.name())
        .join(format!("v{ABI}"))
        .join(format!("link_{}", host.interface_index("eth0")?));
    xdp::replace(&link, &xdp::pass())?;
    ensure!(host.xdp_program("eth0")? != before, "it was not replaced");
    let is_back = || Ok(host.xdp_program("eth0")? == before);
    wait::until_true(SOON, "the program is back", is_back)?;
    let log = site.director.log();
    ensure!(log.contains("XDP program of eth0 replaced by another process"), "{log}");
    site.client().curl(PAGE).map(drop)
}
