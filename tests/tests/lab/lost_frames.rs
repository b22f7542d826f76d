//! Frames that are lost after the program's verdict, and what the director says of them.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use aya::maps::{DevMapHash, Map, MapData};
use lbx_common::maps::{ABI, EGRESS};
use lbx_tests::{
    bpffs,
    cluster::{Cluster, RealServer, Service},
    lab::{Lab, VIP},
    lbx::Director,
    nginx::Nginx,
    wait,
};

use crate::setup::{PAGE, Site, on_segment_2, start_real_servers, two_segments};

crate::harness::tests!(Lbx:
    frames_redirected_into_a_nic_that_is_down_are_reported,
    frames_redirected_into_a_nic_that_takes_none_are_reported,
    a_veth_in_native_mode_whose_other_end_loses_its_program_is_reported,
    a_director_that_loses_no_frame_reports_none,
);

/// How soon something is logged or listed.
const SOON: Duration = Duration::from_secs(5);

/// A director with a real server on each of two segments.
fn site() -> Result<Site<Nginx>> {
    bpffs::mount_tracefs_if_missing()?;
    let mut service = Service::web("rr", 1);
    service.servers.push(RealServer::new(on_segment_2(190), 1));
    Site::start_in(two_segments()?, &Cluster::from(service), Nginx::start)
}

fn frames_redirected_into_a_nic_that_is_down_are_reported() -> Result<()> {
    // With GRO on its other end a veth device takes redirected frames.
    expect_loss_reported(true, "Network is down (os error 100); `ip link set lost0 up`")
}

/// As a driver does that knows no redirects, or a veth device whose other end runs no program. Before Linux 6.3 that shows nowhere.
fn frames_redirected_into_a_nic_that_takes_none_are_reported() -> Result<()> {
    let why = "Operation not supported (os error 95); lost0 takes no redirected frames: set `mode: generic`; a veth device takes \
               them with an XDP program or GRO on its other end";
    expect_loss_reported(false, why)
}

/// The program redirects into a NIC that cannot send, as it would in the moment before the director finds out.
fn expect_loss_reported(gro: bool, why: &str) -> Result<()> {
    let site = site()?;
    let host = site.lab.director();
    host.ip("link add lost0 type veth peer name lost1")?;
    host.set_up("lost0", true)?;
    host.set_up("lost1", true)?;
    host.set_offload("lost1", "gro", gro)?;
    host.set_up("lost0", false)?;
    let (eth1, lost0) = (host.interface_index("eth1")?, host.interface_index("lost0")?);
    let path = bpffs::pins_of(site.director.name())
        .join(format!("v{ABI}"))
        .join(EGRESS);
    host.enter(|| -> Result<()> {
        let mut egress: DevMapHash<MapData> = Map::DevMapHash(MapData::from_pin(path)?).try_into()?;
        Ok(egress.insert(eth1, lost0, None, 0)?)
    })??;
    let line = &format!("frames redirected from eth0 to lost0 are lost: {why}");
    let is_logged = || {
        // By turns: each second one is redirected.
        for _ in 0..2 {
            site.client().run(["curl", "--silent", "--max-time", "1", PAGE])?;
        }
        Ok(site.director.log().contains(line.as_str()))
    };
    wait::until_true(SOON, "the loss is logged", is_logged).map_err(|error| error.context(site.director.log()))?;
    let listed = site.director.list_text(&[])?;
    ensure!(listed.contains(&format!("# eth0: {line}")), "not listed:\n{listed}");
    let json = site.director.json()?;
    ensure!(json["interfaces"][0]["warnings"][0] == line.as_str(), "{json}");
    let log = site.director.log();
    ensure!(log.matches(line.as_str()).count() == 1, "logged again:\n{log}");
    Ok(())
}

fn a_veth_in_native_mode_whose_other_end_loses_its_program_is_reported() -> Result<()> {
    let mut lab = Lab::new()?;
    let _servers = start_real_servers(&lab, &[VIP.into()].into(), Nginx::start)?;
    let cluster = Cluster {
        mode: "native",
        ..Cluster::from(Service::web("rr", 2))
    };
    let director = Director::start(&lab, &cluster)?;
    lab.client().curl(PAGE)?;
    lab.detach_from_peers();
    let is_logged = || Ok(director.log().contains("the other end of this veth device"));
    wait::until_true(SOON, "the loss is logged", is_logged).map_err(|error| error.context(director.log()))?;
    Ok(())
}

fn a_director_that_loses_no_frame_reports_none() -> Result<()> {
    let site = site()?;
    for _ in 0..4 {
        site.client().curl(PAGE)?;
    }
    thread::sleep(Duration::from_secs(2));
    let (log, listed) = (site.director.log(), site.director.list_text(&[])?);
    ensure!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    ensure!(!listed.contains("are lost"), "{listed}");
    Ok(())
}
