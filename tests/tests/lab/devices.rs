//! Devices on which the kernel accepts an XDP program that would lose frames, and NICs that are not the one meant.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::programs::XdpMode;
use lbx::dataplane::{Dataplane, traffic_control::TcAttachment};
use lbx_common::maps::ABI;
use lbx_tests::{
    bpffs,
    cluster::{Cluster, Service},
    host::Host,
    lab::{CLIENT, DIP, Lab, VIP, rip},
    lbx::Director,
    load::Load,
    manual_setup,
    nginx::Nginx,
    patience, wait,
    xdp::Mode,
};

use crate::prober::Prober;
use crate::setup::{PAGE, Site, WEB, expect_turns, start_real_servers, web};

crate::harness::tests!(Lbx:
    a_veth_of_a_container_is_served_in_generic_mode,
    a_veth_whose_other_end_loses_its_program_becomes_generic,
    a_reload_that_changes_the_mode_ends_no_connection,
    a_filter_drops_vip_packets_too_and_goes_with_the_next_daemon,
    native_mode_is_refused_where_frames_would_be_lost,
    a_refusal_of_native_mode_is_in_the_drivers_words,
    what_a_driver_needs_for_native_mode_is_said_with_the_command,
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
        log.contains("no native XDP: eth0 runs the program in generic mode") && log.contains("other end of this veth"),
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
    let load = Load::start(container.lab.client(), WEB, 4);
    load.run_on(20)?;
    container.lab.detach_from_peers();
    wait::until_true(SOON, "generic mode", || {
        Ok(matches!(host.xdp_program("eth0")?, Some((_, Mode::Generic))))
    })?;
    load.run_on(20)?;
    load.finish().expect_no_failure()?;
    expect_no_refusal(&host)?;
    container.expect_served(&director, Mode::Generic)?;
    let log = director.log();
    ensure!(log.matches("no native XDP:").count() == 1, "{log}");
    Ok(())
}

/// There and back, under load: never has the host's own stack a chance to refuse a VIP.
fn a_reload_that_changes_the_mode_ends_no_connection() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.director().clone();
    let _servers = start_real_servers(&lab, &[VIP.into()].into(), Nginx::start)?;
    let director = Director::start(&lab, &cluster("native"))?;
    let load = Load::start(lab.client(), WEB, 4);
    for (name, mode) in [("generic", Mode::Generic), ("native", Mode::Native)].repeat(3) {
        load.run_on(20)?;
        crate::setup::reload(&director, cluster(name))?;
        let running = host.xdp_program("eth0")?;
        ensure!(running.is_some_and(|(_, running)| running == mode), "{running:?}");
    }
    load.run_on(20)?;
    load.finish().expect_no_failure()?;
    expect_no_refusal(&host)
}

/// Where the kernel has no links for tc, and where a daemon was killed just then.
fn a_filter_drops_vip_packets_too_and_goes_with_the_next_daemon() -> Result<()> {
    // Exit statuses of curl.
    const TIMED_OUT: Option<i32> = Some(28);
    const REFUSED: Option<i32> = Some(7);
    let mut site = Prober::balancing(cluster("native"), Nginx::start)?;
    let prober = &mut site.prober;
    let devices = prober.devices(&["eth0"])?;
    let eth0 = *devices.first().context("no eth0")?;
    let curl = |lab: &Lab| -> Result<Option<i32>> {
        Ok(lab.client().run(["curl", "--silent", "--max-time", "1", PAGE])?.code())
    };
    prober.with(|dataplane| dataplane.drop_vip_packets_with(TcAttachment::ClsactFilter, eth0))??;
    prober.with(|dataplane| dataplane.detach(eth0))??;
    ensure!(curl(&prober.lab)? == TIMED_OUT, "the host's own stack has answered");
    ensure!(prober.lab.client().ping(VIP)?, "ICMP is dropped");
    prober.with(|dataplane| dataplane.attach(eth0, None, XdpMode::Driver))??;
    prober.with(Dataplane::stop_dropping_vip_packets)?;
    // This NIC has no role: the program passes everything.
    ensure!(curl(&prober.lab)? == REFUSED, "the drops have not ended");
    // Any program will do for what a killed daemon leaves.
    prober.see_to_by(TcAttachment::ClsactFilter, &devices)?;
    let host = prober.lab.director().clone();
    let tc = |words: &str| -> Result<String> {
        let words = format!("tc filter {words} dev eth0 ingress");
        host.run(words.split(' '))?.success()
    };
    let pin = bpffs::pins_of(prober.lab.id()).join(format!("v{ABI}/filter_{eth0}"));
    let add = format!(
        "tc filter add dev eth0 ingress prio 76 handle 0x6c62 bpf da pinned {}",
        pin.display()
    );
    host.run(add.split(' '))?.success()?;
    ensure!(tc("show")?.contains("lbx"), "no filter");
    prober.restart_by(TcAttachment::ClsactFilter, &["eth0"])?;
    ensure!(!tc("show")?.contains("lbx"), "it stays: {}", tc("show")?);
    Ok(())
}

/// No TCP reset and no ICMP error has left this host.
fn expect_no_refusal(host: &Host) -> Result<()> {
    for counter in ["TcpOutRsts", "IcmpOutDestUnreachs"] {
        let sent = host.counter(counter)?;
        ensure!(sent == 0, "{counter}: {sent}");
    }
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
            && refused.stderr.contains("runs no native XDP program"),
        "{refused}"
    );
    ensure!(!container.host().has_address(VIP)?, "the VIP stays");
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
        log.contains("no native XDP: lan0 runs") && log.contains("does not support XDP in native mode"),
        "{log}"
    );
    // The bridge alone: nothing is sent to it.
    let modes = ["eth0", "lan0"].map(|nic| lab.director().xdp_program(nic));
    let [eth0, lan0] = modes.map(|mode| mode.ok().flatten().map(|(_, mode)| mode));
    ensure!(
        (eth0, lan0) == (Some(Mode::Native), Some(Mode::Generic)),
        "{eth0:?}, {lan0:?}"
    );
    Ok(())
}

/// veth needs as many queues to receive as its other end has to send; the command that lbx names gives it to it.
fn what_a_driver_needs_for_native_mode_is_said_with_the_command() -> Result<()> {
    let lab = Lab::new()?;
    let director = lab.director();
    lab.set_send_queues(director, 0, 2)?;
    let refused = Director::refused(director, lab.id(), &cluster("native").to_string())?;
    let command = "ethtool -L eth0 rx 2";
    ensure!(
        refused.stderr.contains("number of rx queues") && refused.stderr.contains(&format!("`{command}`")),
        "{refused}"
    );
    let started = Director::start(&lab, &cluster("auto"))?;
    let log = started.log();
    ensure!(log.contains("no native XDP") && log.contains(command), "{log}");
    drop(started);
    director.run(command.split(' '))?.success()?;
    Director::start(&lab, &cluster("native"))?.expect_no_drops()
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
        Ok(director.log().contains("lbx does not add it again"))
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
