//! `mode: auto` on several NICs: native on each that can, as long as no packet is lost for it.

use std::time::Duration;

use anyhow::{Result, ensure};
use lbx_tests::{
    cluster::{Cluster, Service},
    host::Host,
    lab::{CLIENT, DIP, Lab, VIP, rip},
    lbx::Director,
    manual_setup,
    nginx::Nginx,
    wait,
    xdp::{self, Mode},
};

use crate::setup::{PAGE, expect_turns, on_segment_2, reload};

crate::harness::tests!(Lbx:
    one_generic_nic_leaves_the_other_native,
    a_generic_nic_makes_those_generic_that_send_to_it,
    a_real_server_behind_a_generic_nic_changes_the_mode_on_a_reload,
    a_native_mode_that_is_refused_leaves_the_generic_one,
    a_reload_that_is_refused_leaves_the_native_one,
);

/// A director whose eth0 can run a program natively, and whose eth1 cannot: the other end of that veth device runs none. The client
/// is on both segments. Fields go in their order: the lab last.
struct Mixed {
    _servers: Vec<Nginx>,
    lab: Lab,
}

impl Mixed {
    /// The second real server is at this address.
    fn new(second: std::net::Ipv4Addr) -> Result<Self> {
        let mut lab = Lab::builder()
            .host("client", &[CLIENT, on_segment_2(10)])
            .host("container", &[DIP, on_segment_2(2)])
            .host("rs1", &[rip(1)])
            .host("rs2", &[second])
            .build()?;
        if second != rip(2) {
            let route = format!("route add {CLIENT}/32 via {}", on_segment_2(10));
            lab.real_server(2).ip(&route)?;
        }
        let host = lab.host("container").clone();
        lab.attach_to_peer(&host, 0)?;
        let start = |host: &Host| {
            manual_setup::make_real_server(host, VIP)?;
            Nginx::start(host)
        };
        Ok(Self {
            _servers: lab.real_servers().map(start).collect::<Result<_>>()?,
            lab,
        })
    }

    fn start(&self, cluster: &Cluster) -> Result<Director> {
        Director::start_named(self.lab.host("container"), self.lab.id(), &cluster.to_string())
    }

    /// Both real servers answer in turn, with the program in these modes on eth0 and eth1.
    fn expect_served(&self, director: &Director, modes: [Mode; 2]) -> Result<()> {
        let page = |_| Ok(self.lab.client().curl(PAGE)?.replace(" nginx", ""));
        expect_turns(&(0..6).map(page).collect::<Result<Vec<_>>>()?, 2)?;
        for (nic, mode) in ["eth0", "eth1"].into_iter().zip(modes) {
            let running = self.lab.host("container").xdp_program(nic)?.map(|(_, mode)| mode);
            ensure!(running == Some(mode), "{nic}: {running:?}\n{}", director.log());
        }
        director.expect_no_drops()
    }
}

fn cluster(second: std::net::Ipv4Addr) -> Cluster {
    let mut service = Service::web("rr", 2);
    service.servers[1].address = second.into();
    Cluster {
        mode: "auto",
        ..Cluster::from(service)
    }
}

/// The first real server alone: eth0 is the only NIC.
fn alone() -> Cluster {
    Cluster {
        mode: "auto",
        ..Cluster::from(Service::web("rr", 1))
    }
}

fn expect_reload_refused(director: &Director, cluster: &Cluster) -> Result<()> {
    director.reload(&cluster.to_string())?;
    wait::until_true(Duration::from_secs(5), "the reload is refused", || {
        Ok(director.log().contains("reload refused, nothing changed"))
    })
}

/// Real servers are behind eth0. What arrives on eth1, in generic mode, is redirected to it.
fn one_generic_nic_leaves_the_other_native() -> Result<()> {
    let mixed = Mixed::new(rip(2))?;
    let mut cluster = cluster(rip(2));
    cluster.interfaces.push("eth1".to_owned());
    let director = mixed.start(&cluster)?;
    let log = director.log();
    ensure!(
        log.contains("no native XDP: eth1 runs the program in generic mode"),
        "{log}"
    );
    ensure!(!log.contains("eth0 runs the program in generic mode"), "{log}");
    mixed.expect_served(&director, [Mode::Native, Mode::Generic])?;
    // The client now sends by its other NIC.
    mixed
        .lab
        .client()
        .ip(&format!("route add {VIP}/32 dev eth1 src {CLIENT}"))?;
    mixed.expect_served(&director, [Mode::Native, Mode::Generic])?;
    let known = mixed.lab.client().ip(&format!("neighbour show {VIP} dev eth1"))?;
    let eth1 = mixed.lab.host("container").mac("eth1")?.to_string();
    ensure!(known.contains(&eth1), "the packets went by another NIC: {known}");
    Ok(())
}

/// A native program on eth0 could not redirect to eth1: the kernel drops such frames.
fn a_generic_nic_makes_those_generic_that_send_to_it() -> Result<()> {
    let second = on_segment_2(190);
    let mixed = Mixed::new(second)?;
    let director = mixed.start(&cluster(second))?;
    let log = director.log();
    ensure!(
        log.contains("no native XDP: eth0 runs the program in generic mode")
            && log.contains("packets for real servers behind eth1 leave by it, and it runs in generic mode"),
        "{log}"
    );
    mixed.expect_served(&director, [Mode::Generic; 2])
}

fn a_real_server_behind_a_generic_nic_changes_the_mode_on_a_reload() -> Result<()> {
    let second = on_segment_2(190);
    let mixed = Mixed::new(second)?;
    let director = mixed.start(&alone())?;
    let mode = || -> Result<_> { Ok(mixed.lab.host("container").xdp_program("eth0")?.map(|(_, mode)| mode)) };
    ensure!(mode()? == Some(Mode::Native), "{:?}", mode()?);
    reload(&director, cluster(second))?;
    mixed.expect_served(&director, [Mode::Generic; 2])
}

/// A reload that cannot be had changes nothing.
fn a_native_mode_that_is_refused_leaves_the_generic_one() -> Result<()> {
    let second = on_segment_2(190);
    let mixed = Mixed::new(second)?;
    let director = mixed.start(&cluster(second))?;
    let native = Cluster {
        mode: "native",
        ..cluster(second)
    };
    expect_reload_refused(&director, &native)?;
    mixed.expect_served(&director, [Mode::Generic; 2])
}

/// The reload makes eth0 generic for the sake of eth1, and then fails at a NIC that runs another program.
fn a_reload_that_is_refused_leaves_the_native_one() -> Result<()> {
    let second = on_segment_2(190);
    let mixed = Mixed::new(second)?;
    let director = mixed.start(&alone())?;
    let host = mixed.lab.host("container");
    host.ip("link add foreign0 type veth peer name foreign1")?;
    for nic in ["foreign0", "foreign1"] {
        host.ip(&format!("link set {nic} up"))?;
    }
    let _foreign = xdp::attach(host.namespace(), "foreign0", &xdp::pass(), Mode::Generic)?;
    let mut refused = cluster(second);
    refused.interfaces.push("foreign0".to_owned());
    expect_reload_refused(&director, &refused)?;
    let mode = host.xdp_program("eth0")?.map(|(_, mode)| mode);
    ensure!(mode == Some(Mode::Native), "{mode:?}\n{}", director.log());
    for _ in 0..4 {
        mixed.lab.client().curl(PAGE)?;
    }
    director.expect_no_drops()
}
