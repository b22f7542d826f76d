//! Devices on which the kernel accepts an XDP program that would lose frames, and NICs that are not the one meant.

use std::time::Duration;

use anyhow::{Result, ensure};
use lbx_tests::{
    cluster::{Cluster, Service},
    host::Host,
    lab::{CLIENT, DIP, Lab, VIP, rip},
    lbx::Director,
    manual_setup,
    nginx::Nginx,
    patience, wait,
    xdp::Mode,
};

use crate::setup::{PAGE, Site, expect_turns, start_real_servers, web};

crate::harness::tests!(Lbx:
    a_veth_of_a_container_is_served_in_generic_mode,
    a_veth_whose_other_end_loses_its_program_becomes_generic,
    native_mode_is_refused_where_frames_would_be_lost,
    one_such_nic_of_two_makes_both_generic,
    a_refusal_of_native_mode_is_in_the_drivers_words,
    a_port_of_a_bridge_is_refused,
    a_nic_that_becomes_a_port_is_reported,
    a_bridge_itself_is_served,
    a_second_nic_that_answers_for_the_vip_is_reported,
    a_vip_that_was_there_before_belongs_to_its_owner,
    a_vip_that_its_owner_gives_to_another_host_is_left_there,
);

/// How soon something is logged.
const SOON: Duration = Duration::from_secs(5);

/// A director in a container: the other ends of its NICs run no XDP program. Fields go in their order: the lab last.
struct Container {
    _servers: Vec<Nginx>,
    lab: Lab,
}

impl Container {
    fn new(addresses: &[std::net::Ipv4Addr]) -> Result<Self> {
        let lab = Lab::builder()
            .host("client", &[CLIENT])
            .host("container", addresses)
            .host("rs1", &[rip(1)])
            .host("rs2", &[rip(2)])
            .build()?;
        Ok(Self {
            _servers: start_real_servers(&lab, &[VIP.into()].into(), Nginx::start)?,
            lab,
        })
    }

    fn host(&self) -> &Host {
        self.lab.host("container")
    }

    fn start(&self, cluster: &Cluster) -> Result<Director> {
        Director::start_named(self.host(), self.lab.id(), &cluster.to_string())
    }

    fn expect_served(&self, director: &Director, mode: Mode) -> Result<()> {
        let page = |_| Ok(self.lab.client().curl(PAGE)?.replace(" nginx", ""));
        expect_turns(&(0..6).map(page).collect::<Result<Vec<_>>>()?, 2)?;
        let (_, running) = self.host().xdp_program("eth0")?.unwrap_or((0, Mode::Generic));
        ensure!(running == mode, "{running:?}\n{}", director.log());
        director.expect_no_drops()
    }
}

fn cluster(mode: &'static str) -> Cluster {
    Cluster {
        mode,
        ..Cluster::from(Service::web("rr", 2))
    }
}

fn a_veth_of_a_container_is_served_in_generic_mode() -> Result<()> {
    let container = Container::new(&[DIP])?;
    let director = container.start(&cluster("auto"))?;
    let log = director.log();
    ensure!(
        log.contains("no native XDP: all NICs run the program in generic mode")
            && log.contains("other end of this veth"),
        "{log}"
    );
    container.expect_served(&director, Mode::Generic)?;
    let listed = director.list_text(&[])?;
    ensure!(listed.contains("# eth0: XDP mode generic"), "{listed}");
    Ok(())
}

/// The end in the segment runs a program for a while: native then, and generic as soon as that has gone.
fn a_veth_whose_other_end_loses_its_program_becomes_generic() -> Result<()> {
    let mut container = Container::new(&[DIP])?;
    let host = container.host().clone();
    container.lab.attach_to_peer(&host, 0)?;
    let director = container.start(&cluster("auto"))?;
    container.expect_served(&director, Mode::Native)?;
    container.lab.detach_from_peers();
    wait::until_true(SOON, "generic mode", || {
        Ok(matches!(host.xdp_program("eth0")?, Some((_, Mode::Generic))))
    })?;
    container.expect_served(&director, Mode::Generic)?;
    // Without a program VIPs are refused for a moment: once, and not a second time.
    let log = director.log();
    ensure!(log.matches("no native XDP").count() == 1, "{log}");
    Ok(())
}

fn native_mode_is_refused_where_frames_would_be_lost() -> Result<()> {
    let container = Container::new(&[DIP])?;
    let refused = Director::refused(container.host(), container.lab.id(), &cluster("native").to_string())?;
    ensure!(refused.code() == Some(5), "{refused}");
    ensure!(
        refused
            .stderr
            .contains("interface eth0: the other end of this veth device")
            && refused.stderr.contains("runs no XDP program"),
        "{refused}"
    );
    ensure!(!container.host().has_address(VIP)?, "the VIP stays");
    Ok(())
}

fn one_such_nic_of_two_makes_both_generic() -> Result<()> {
    let mut container = Container::new(&[DIP, crate::setup::on_segment_2(2)])?;
    let host = container.host().clone();
    container.lab.attach_to_peer(&host, 0)?;
    let mut cluster = cluster("auto");
    cluster.interfaces.push("eth1".to_owned());
    let director = container.start(&cluster)?;
    container.expect_served(&director, Mode::Generic)?;
    ensure!(director.log().contains("interface=\"eth1\""), "{}", director.log());
    Ok(())
}

/// What the kernel says over netlink: BPF links give an error number alone.
fn a_refusal_of_native_mode_is_in_the_drivers_words() -> Result<()> {
    let lab = Lab::new()?;
    let director = lab.director();
    director.ip("link add lan0 type bridge")?;
    director.ip("link set lan0 up")?;
    let mut cluster = cluster("native");
    cluster.interfaces.push("lan0".to_owned());
    let refused = Director::refused(director, lab.id(), &cluster.to_string())?;
    ensure!(refused.code() == Some(5), "{refused}");
    ensure!(
        refused.stderr.contains("interface lan0")
            && refused
                .stderr
                .contains("nderlying driver does not support XDP in native mode"),
        "{refused}"
    );
    // Natively or not at all: the program of the first NIC is gone again.
    ensure!(director.xdp_program("eth0")?.is_none(), "a program stays");
    cluster.mode = "auto";
    let director = Director::start(&lab, &cluster)?;
    let log = director.log();
    ensure!(
        log.contains("no native XDP") && log.contains("does not support XDP in native mode"),
        "{log}"
    );
    Ok(())
}

fn a_port_of_a_bridge_is_refused() -> Result<()> {
    let lab = Lab::new()?;
    let director = lab.director();
    director.ip("link add lan0 type bridge")?;
    director.ip("link set lan0 up")?;
    director.ip("link set eth0 master lan0")?;
    let refused = Director::refused(director, lab.id(), &cluster("auto").to_string())?;
    ensure!(refused.code() == Some(5), "{refused}");
    ensure!(
        refused
            .stderr
            .contains("interface eth0 is a port of lan0, which takes its frames: use `interface: lan0`"),
        "{refused}"
    );
    ensure!(director.xdp_program("eth0")?.is_none(), "a program was attached");
    Ok(())
}

fn a_nic_that_becomes_a_port_is_reported() -> Result<()> {
    let site = web(Service::web("rr", 2))?;
    expect_turns(&site.pages(4)?, 2)?;
    let director = site.lab.director();
    director.ip("link add lan0 type bridge")?;
    director.ip("link set lan0 up")?;
    director.ip("link set eth0 master lan0")?;
    wait::until_true(SOON, "it is logged", || {
        Ok(site.director.log().contains("interface eth0 is a port of lan0"))
    })?;
    director.ip("link set eth0 nomaster")?;
    wait::until_true(SOON, "clients are served again", || Ok(site.pages(2).is_ok()))?;
    expect_turns(&site.pages(4)?, 2)
}

/// With the address on the bridge, as a host of virtual machines has it.
fn a_bridge_itself_is_served() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.director();
    let mac = host.mac("eth0")?;
    host.ip("link add lan0 type bridge stp_state 0 forward_delay 0")?;
    host.ip(&format!("link set lan0 address {mac} up"))?;
    host.ip("address flush dev eth0")?;
    host.ip("link set eth0 master lan0")?;
    host.ip(&format!("address add {DIP}/24 dev lan0"))?;
    let mut cluster = cluster("auto");
    cluster.interfaces = vec!["lan0".to_owned()];
    let site = Site::start_in(lab, &cluster, Nginx::start)?;
    expect_turns(&site.pages(6)?, 2)?;
    site.director.expect_no_drops()
}

/// The usual pair of a NIC for management and one for services on one segment: both answer ARP for every address.
fn a_second_nic_that_answers_for_the_vip_is_reported() -> Result<()> {
    let second = std::net::Ipv4Addr::new(192, 168, 1, 3);
    let lab = Lab::builder()
        .host("client", &[CLIENT])
        .host("director", &[DIP, second])
        .host("rs1", &[rip(1)])
        .build()?;
    manual_setup::make_real_server(lab.real_server(1), VIP)?;
    let _server = Nginx::start(lab.real_server(1))?;
    let director = Director::start(&lab, &Service::web("rr", 1).into())?;
    let warning = "this host answers ARP for the VIP by eth1 too";
    wait::until_true(SOON, "the second NIC is reported", || {
        Ok(director.log().contains(warning))
    })?;
    let listed = director.list_text(&[])?;
    ensure!(
        listed.contains("eth1 of this host answers ARP for the VIP too"),
        "{listed}"
    );
    // What the warning advises ends it.
    lab.director()
        .run(["sysctl", "-w", "net.ipv4.conf.eth1.arp_ignore=1"])?
        .success()?;
    wait::until_true(Duration::from_secs(20), "the listing is clean", || {
        Ok(!director.list_text(&[])?.contains("answers ARP"))
    })
}

/// As keepalived has it: what lbx has found it neither adds again nor removes.
fn a_vip_that_was_there_before_belongs_to_its_owner() -> Result<()> {
    let container = Container::new(&[DIP])?;
    let host = container.host().clone();
    host.ip(&format!("address add {VIP}/32 dev eth0"))?;
    let mut director = container.start(&cluster("auto"))?;
    container.expect_served(&director, Mode::Generic)?;
    host.ip(&format!("address del {VIP}/32 dev eth0"))?;
    wait::until_true(SOON, "it is logged", || {
        Ok(director.log().contains("VIP removed by its owner"))
    })?;
    crate::setup::reload(&director, cluster("auto"))?;
    std::thread::sleep(patience::scaled(Duration::from_secs(2)));
    ensure!(!host.has_address(VIP)?, "it was added again:\n{}", director.log());
    host.ip(&format!("address add {VIP}/32 dev eth0"))?;
    container.expect_served(&director, Mode::Generic)?;
    director.stop(nix::sys::signal::Signal::SIGTERM)?;
    ensure!(host.has_address(VIP)?, "a stop has removed it");
    ensure!(
        director.log().matches("lbx neither adds nor removes it").count() == 1,
        "{}",
        director.log()
    );
    Ok(())
}

/// A failover by VRRP: the address goes to another host, and this director does not take it back.
fn a_vip_that_its_owner_gives_to_another_host_is_left_there() -> Result<()> {
    let container = Container::new(&[DIP])?;
    let host = container.host().clone();
    host.ip(&format!("address add {VIP}/32 dev eth0"))?;
    let director = container.start(&cluster("auto"))?;
    container.expect_served(&director, Mode::Generic)?;
    host.ip(&format!("address del {VIP}/32 dev eth0"))?;
    // rs1 stands for the other director: it has the VIP on eth0 and serves it itself.
    let other = container.lab.real_server(1);
    other.ip(&format!("address add {VIP}/32 dev eth0"))?;
    other.set_sysctl("ipv4/conf/all/arp_ignore", "0")?;
    other.run(["arping", "-U", "-c", "1", "-I", "eth0", &VIP.to_string()])?;
    container.lab.client().ip("neighbour flush all")?;
    let page = || Ok(container.lab.client().curl(PAGE).is_ok_and(|page| page == "rs1 nginx"));
    wait::until_true(SOON, "the other host serves", page)?;
    for _ in 0..6 {
        ensure!(page()?, "{}", director.log());
        std::thread::sleep(Duration::from_millis(500));
    }
    ensure!(!host.has_address(VIP)?, "two owners:\n{}", director.log());
    Ok(())
}
