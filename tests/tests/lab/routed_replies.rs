//! Real servers whose gateway is the director: their replies to clients on another segment come from an address of its own.

use std::time::Duration;

use anyhow::{Result, ensure};
use lbx::dataplane::traffic_control::TcAttachment;
use lbx_common::maps::{ABI, MAPS_ADDED_LATER};
use lbx_tests::{
    bpffs,
    cluster::{Cluster, Service},
    host::Host,
    lab::{DIP, DIP6, Lab, VIP, VIP6, rip, six},
    nginx::Nginx,
    wait,
};

use crate::{
    prober::Prober,
    setup::{PAGE, PAGE6, Site, expect_turns, on_segment_2},
};

crate::harness::tests!(Lbx:
    replies_over_ipv4_that_the_director_drops_are_reported,
    replies_over_ipv6_that_the_director_drops_are_reported,
    pins_of_a_build_without_a_map_are_adopted,
);

/// How soon something is logged or listed.
const SOON: Duration = Duration::from_secs(10);
/// Exit status of curl that has waited for too long.
const TIMED_OUT: Option<i32> = Some(28);

/// Real servers on the first segment, with the VIP and the director as their gateway; the client on the second.
fn site(service: Service) -> Result<Site<Nginx>> {
    let (client, gateway) = (on_segment_2(10), on_segment_2(2));
    let lab = Lab::builder()
        .host("client", &[client])
        .host("director", &[DIP, gateway])
        .host("rs1", &[rip(1)])
        .host("rs2", &[rip(2)])
        .build()?;
    lab.client().ip(&format!("route add {VIP}/32 via {gateway}"))?;
    lab.client().ip(&format!("route add {VIP6}/128 via {}", six(gateway)))?;
    for host in lab.real_servers() {
        host.ip(&format!("route add default via {DIP}"))?;
        host.ip(&format!("route add default via {DIP6}"))?;
    }
    let cluster = Cluster {
        interfaces: vec!["eth0".to_owned(), "eth1".to_owned()],
        ..Cluster::from(service)
    };
    Site::start_in(lab, &cluster, Nginx::start)
}

fn expect_reported(service: Service, page: &str, fix: &[(&str, &str)]) -> Result<()> {
    let site = site(service)?;
    let director: &Host = site.lab.director();
    let fetch =
        || -> Result<Option<i32>> { Ok(site.client().run(["curl", "--silent", "--max-time", "2", page])?.code()) };
    ensure!(!site.director.list_text(&[])?.contains("gateway"), "listed too early");
    ensure!(fetch()? == TIMED_OUT, "the client was served");
    let settings = fix
        .iter()
        .map(|(key, value)| format!("net.{}={value}", key.replace('/', ".")));
    let advice = format!("`sysctl -w {}`", settings.collect::<Vec<_>>().join(" "));
    wait::until_true(SOON, "listed", || {
        let listed = site.director.list_text(&[])?;
        let line = listed
            .lines()
            .find(|line| line.starts_with("# eth0: replies of real servers"));
        Ok(line.is_some_and(|line| line.contains("gateway") && line.contains(&advice)))
    })?;
    let warned = || site.director.log().matches("WARN replies of real servers").count();
    ensure!(site.director.log().contains(&advice), "{}", site.director.log());
    ensure!(fetch()? == TIMED_OUT && warned() == 1, "{}", site.director.log());
    for (key, value) in fix {
        director.set_sysctl(key, value)?;
    }
    expect_turns(&site.pages_of(page, 4)?, 2)?;
    wait::until_true(SOON, "no longer listed", || {
        Ok(!site.director.list_text(&[])?.contains("gateway"))
    })?;
    // Replies go on, and nothing is wrong with them.
    site.pages_of(page, 4)?;
    std::thread::sleep(Duration::from_secs(2));
    ensure!(!site.director.list_text(&[])?.contains("gateway"), "listed again");
    let log = site.director.log();
    ensure!(
        warned() == 1 && log.contains("let replies of real servers from VIPs through now"),
        "{log}"
    );
    site.director.expect_no_drops()
}

fn replies_over_ipv4_that_the_director_drops_are_reported() -> Result<()> {
    let fix = [("ipv4/conf/eth0/accept_local", "1"), ("ipv4/ip_forward", "1")];
    expect_reported(Service::web("rr", 2), PAGE, &fix)
}

fn replies_over_ipv6_that_the_director_drops_are_reported() -> Result<()> {
    let fix = [("ipv6/conf/all/forwarding", "1")];
    expect_reported(Service::web("rr", 2).over_ipv6(), PAGE6, &fix)
}

/// An update of lbx under a killed daemon: what the older build did not pin is made, and everything else is as it was.
fn pins_of_a_build_without_a_map_are_adopted() -> Result<()> {
    let mut prober = Prober::start(Lab::new()?, &["eth0"])?;
    drop(prober.take_dataplane());
    for map in MAPS_ADDED_LATER {
        std::fs::remove_file(bpffs::pins_of(prober.lab.id()).join(format!("v{ABI}/{map}")))?;
    }
    prober.restart_by(TcAttachment::TcxLink, &["eth0"])?;
    for map in MAPS_ADDED_LATER {
        let pin = bpffs::pins_of(prober.lab.id()).join(format!("v{ABI}/{map}"));
        ensure!(pin.exists(), "{map} is not pinned");
    }
    prober.with(|dataplane| dataplane.routed_replies())??;
    Ok(())
}
