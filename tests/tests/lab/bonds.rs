//! Bonds: a director whose NIC is `bond0` over two members.

use std::time::Duration;

use anyhow::{Result, ensure};
use lbx_tests::{
    bond::{BOND, BondMode, MEMBERS, active_members},
    cluster::{Cluster, Service},
    host::Host,
    lab::{CLIENT, DIP, Lab, VIP},
    lbx::Director,
    load::Load,
    nginx::Nginx,
    wait,
    xdp::Mode,
};
use nix::sys::signal::Signal;

use crate::setup::{Site, WEB, expect_turns};

crate::harness::tests!(Bond:
    a_bond_of_the_lab_carries_frames_by_either_member,
    an_active_backup_bond_is_served_natively,
    an_lacp_bond_is_served_natively,
    a_balance_xor_bond_is_served_natively,
    bonds_are_served_in_generic_mode_too,
    members_leave_and_join,
    a_vlan_on_a_bond_is_served_natively,
    a_member_that_would_lose_frames_makes_it_generic,
    a_bond_of_another_mode_is_served_in_generic_mode,
    a_member_of_a_bond_is_refused,
);

/// How soon a bond has changed to its other member.
const SOON: Duration = Duration::from_secs(10);

/// A lab whose director has a bond of this mode.
fn bonded(mode: BondMode) -> Result<Lab> {
    let mut lab = Lab::new()?;
    let director = lab.director().clone();
    lab.bond(&director, mode)?;
    Ok(lab)
}

fn cluster(interface: &str, mode: &'static str) -> Cluster {
    Cluster {
        interfaces: vec![interface.to_owned()],
        mode,
        ..Cluster::from(Service::web("rr", 2))
    }
}

/// Without the carrier of one member, then of the other, then with both.
fn with_either_member(lab: &Lab, director: &Host, mut check: impl FnMut() -> Result<()>) -> Result<()> {
    for number in 0..MEMBERS.len() {
        lab.set_cable(director, number, false)?;
        let other = MEMBERS[1 - number];
        wait::until_true(SOON, &format!("{other} carries frames alone"), || {
            Ok(active_members(director)? == [other])
        })?;
        check()?;
        lab.set_cable(director, number, true)?;
        wait::until_true(SOON, "both members have carrier", || {
            Ok(director.link(MEMBERS[number])?["linkinfo"]["info_slave_data"]["mii_status"] == "UP")
        })?;
    }
    check()
}

fn a_bond_of_the_lab_carries_frames_by_either_member() -> Result<()> {
    for mode in BondMode::ALL {
        // No name of a director: the ports of the bridge run no XDP program.
        let mut lab = Lab::builder()
            .host("client", &[CLIENT])
            .host("bonded", &[DIP])
            .build()?;
        let host = lab.host("bonded").clone();
        lab.bond(&host, mode)?;
        with_either_member(&lab, &host, || {
            ensure!(lab.client().ping(DIP)?, "{mode:?}: no answer");
            ensure!(host.ping(CLIENT)?, "{mode:?}: no way out");
            Ok(())
        })?;
    }
    Ok(())
}

fn an_active_backup_bond_is_served_natively() -> Result<()> {
    expect_served(BondMode::ActiveBackup, Mode::Native)
}

fn an_lacp_bond_is_served_natively() -> Result<()> {
    expect_served(BondMode::Lacp, Mode::Native)
}

fn a_balance_xor_bond_is_served_natively() -> Result<()> {
    expect_served(BondMode::BalanceXor, Mode::Native)
}

fn bonds_are_served_in_generic_mode_too() -> Result<()> {
    BondMode::ALL
        .into_iter()
        .try_for_each(|mode| expect_served(mode, Mode::Generic))
}

/// Members fail and come back under load: no established connection ends, and no new one is refused.
fn expect_served(mode: BondMode, xdp: Mode) -> Result<()> {
    let name = if xdp == Mode::Native { "native" } else { "generic" };
    let mut site = Site::start_in(bonded(mode)?, &cluster(BOND, name), Nginx::start)?;
    let director = site.lab.director();
    let attached = director.xdp_program(BOND)?;
    ensure!(attached.is_some_and(|(_, mode)| mode == xdp), "{attached:?}");
    ensure!(
        !director.ip(&format!("address show dev {BOND} to {VIP}/32"))?.is_empty(),
        "the VIP is not on the bond"
    );
    expect_turns(&site.pages(6)?, 2)?;
    let loads = [
        Load::start(site.lab.client(), WEB, 2),
        Load::start_kept(site.lab.client(), WEB, 2),
    ];
    with_either_member(&site.lab, director, || {
        loads.iter().try_for_each(|load| load.run_on(20))
    })?;
    for load in loads {
        load.finish().expect_no_failure()?;
    }
    expect_turns(&site.pages(6)?, 2)?;
    site.director.expect_no_drops()?;
    // What the members receive is the bond's.
    let log = site.director.log();
    ensure!(!log.contains("reach this host's own stack"), "{log}");
    let listed = site.director.list_text(&[])?;
    // The usual mode is not mentioned.
    ensure!(
        listed.contains("# bond0: XDP mode generic") == (xdp == Mode::Generic),
        "{listed}"
    );
    site.director.stop(Signal::SIGTERM)?;
    let director = site.lab.director();
    for nic in [BOND, MEMBERS[0], MEMBERS[1]] {
        ensure!(director.xdp_program(nic)?.is_none(), "the program stays on {nic}");
    }
    ensure!(!director.has_address(VIP)?, "the VIP stays");
    Ok(())
}

/// A member is taken out and put back while lbx runs: the kernel moves the program, lbx the entry of the NIC.
fn members_leave_and_join() -> Result<()> {
    let site = Site::start_in(bonded(BondMode::ActiveBackup)?, &cluster(BOND, "native"), Nginx::start)?;
    let director = site.lab.director();
    let load = Load::start_kept(site.lab.client(), WEB, 2);
    for member in MEMBERS {
        load.run_on(20)?;
        // First down: the kernel closes a member only after it has taken it out, and in between its frames are the host's.
        director.ip(&format!("link set {member} down"))?;
        director.ip(&format!("link set {member} nomaster"))?;
        load.run_on(20)?;
        ensure!(director.xdp_program(member)?.is_none(), "the program stays on {member}");
        director.ip(&format!("link set {member} master {BOND}"))?;
        wait::until_true(SOON, "it is a member again", || {
            Ok(director.link(member)?["linkinfo"]["info_slave_data"]["mii_status"] == "UP")
        })?;
    }
    load.run_on(20)?;
    load.finish().expect_no_failure()?;
    site.director.expect_no_drops()
}

/// A VLAN device on the bond: the tag is in the frames of the members.
fn a_vlan_on_a_bond_is_served_natively() -> Result<()> {
    let lab = bonded(BondMode::ActiveBackup)?;
    let director = lab.director();
    for host in [lab.client(), director, lab.real_server(1), lab.real_server(2)] {
        let (nic, own) = if host.name() == director.name() {
            (BOND, DIP)
        } else {
            ("eth0", host.address())
        };
        host.ip(&format!("link add link {nic} name vlan10 type vlan id 10"))?;
        host.ip("link set vlan10 up")?;
        host.ip(&format!("address del {own}/24 dev {nic}"))?;
        host.ip(&format!("address add {own}/24 dev vlan10"))?;
    }
    let site = Site::start_in(lab, &cluster("vlan10", "native"), Nginx::start)?;
    expect_turns(&site.pages(6)?, 2)?;
    with_either_member(&site.lab, site.lab.director(), || expect_turns(&site.pages(6)?, 2))?;
    site.director.expect_no_drops()
}

/// A native program on the bond would lose the frames of a member whose other end runs none.
fn a_member_that_would_lose_frames_makes_it_generic() -> Result<()> {
    let mut lab = bonded(BondMode::ActiveBackup)?;
    lab.detach_from_peers();
    let refused = Director::refused(lab.director(), lab.id(), &cluster(BOND, "native").to_string())?;
    ensure!(
        refused
            .stderr
            .contains("interface bond0: the other end of this veth device"),
        "{refused}"
    );
    let site = Site::start_in(lab, &cluster(BOND, "auto"), Nginx::start)?;
    expect_turns(&site.pages(6)?, 2)?;
    let attached = site.lab.director().xdp_program(BOND)?;
    ensure!(matches!(attached, Some((_, Mode::Generic))), "{attached:?}");
    Ok(())
}

/// A mode of bonds for which the kernel has no native XDP (`bond_xdp_check`).
fn a_bond_of_another_mode_is_served_in_generic_mode() -> Result<()> {
    let lab = bonded(BondMode::ActiveBackup)?;
    let director = lab.director();
    director.ip("link add bond1 type bond mode balance-tlb")?;
    director.ip("link set bond1 up")?;
    let mut cluster = cluster(BOND, "native");
    cluster.interfaces.push("bond1".to_owned());
    let refused = Director::refused(director, lab.id(), &cluster.to_string())?;
    ensure!(refused.stderr.contains("interface bond1"), "{refused}");
    cluster.mode = "auto";
    let site = Site::start_in(lab, &cluster, Nginx::start)?;
    ensure!(site.director.log().contains("no native XDP"), "{}", site.director.log());
    expect_turns(&site.pages(6)?, 2)
}

fn a_member_of_a_bond_is_refused() -> Result<()> {
    let lab = bonded(BondMode::ActiveBackup)?;
    let refused = Director::refused(lab.director(), lab.id(), &cluster("eth0", "auto").to_string())?;
    ensure!(refused.code() == Some(5), "{refused}");
    ensure!(
        refused.stderr.contains("interface eth0 is a port of bond0") && refused.stderr.contains("`interface: bond0`"),
        "{refused}"
    );
    Ok(())
}
