//! Teams: a director whose NIC is `team0` over two ports.

use std::time::Duration;

use anyhow::{Result, ensure};
use lbx_tests::{
    bond::{MEMBERS, TEAM},
    cluster::{Cluster, Service},
    lab::Lab,
    lbx::Director,
    load::Load,
    nginx::Nginx,
    wait,
    xdp::Mode,
};

use crate::setup::{Site, WEB, expect_turns};

crate::harness::tests!(Team:
    a_team_is_served_in_generic_mode,
);

/// How soon a port has its carrier back.
const SOON: Duration = Duration::from_secs(10);

fn cluster(interface: &str, mode: &'static str) -> Cluster {
    Cluster {
        interfaces: vec![interface.to_owned()],
        mode,
        ..Cluster::from(Service::web("rr", 2))
    }
}

/// The driver of teams has no native XDP, and a program on the team runs where its ports have handed the frames up.
fn a_team_is_served_in_generic_mode() -> Result<()> {
    let mut lab = Lab::new()?;
    let host = lab.director().clone();
    let _teamd = lab.team(&host)?;
    let refused = Director::refused(&host, lab.id(), &cluster(TEAM, "native").to_string())?;
    ensure!(refused.stderr.contains("interface team0"), "{refused}");
    let refused = Director::refused(&host, lab.id(), &cluster(MEMBERS[0], "auto").to_string())?;
    ensure!(
        refused.stderr.contains("interface eth0 is a port of team0"),
        "{refused}"
    );
    let site = Site::start_in(lab, &cluster(TEAM, "auto"), Nginx::start)?;
    let attached = site.lab.director().xdp_program(TEAM)?;
    ensure!(matches!(attached, Some((_, Mode::Generic))), "{attached:?}");
    expect_turns(&site.pages(6)?, 2)?;
    let load = Load::start_kept(site.lab.client(), WEB, 2);
    for (number, port) in MEMBERS.into_iter().enumerate() {
        site.lab.set_cable(site.lab.director(), number, false)?;
        // The kept connections go on by the other port.
        load.run_on(20)?;
        site.lab.set_cable(site.lab.director(), number, true)?;
        wait::until_true(SOON, "the team has both ports", || {
            Ok(site.lab.director().link(port)?["operstate"] == "UP")
        })?;
    }
    load.finish().expect_no_failure()?;
    let log = site.director.log();
    ensure!(!log.contains("reach this host's own stack"), "{log}");
    site.director.expect_no_drops()
}
