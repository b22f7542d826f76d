//! VLANs: the director, its clients and its real servers on VLAN devices.

use anyhow::{Result, ensure};
use lbx_tests::{
    cluster::{Cluster, Service},
    host::Host,
    lab::{CLIENT, DIP, Lab, VIP, rip},
    lbx::Director,
    manual_setup,
    nginx::Nginx,
};
use nix::sys::signal::Signal;

use crate::setup::{Site, Snapshot, expect_turns, on_segment_2};

crate::harness::tests!(Vlan:
    a_vlan_device_is_balanced,
    a_vlan_within_a_service_vlan_is_balanced,
    real_servers_in_another_vlan_are_reached,
    a_third_tag_is_refused,
);

/// Moves a host's address into a VLAN: on a device of this name over eth0, made by these commands.
fn move_into(host: &Host, commands: &[&str], device: &str) -> Result<()> {
    let address = host.address();
    host.ip("address flush dev eth0")?;
    for command in commands {
        host.ip(command)?;
    }
    host.ip(&format!("address add {address}/24 dev {device}")).map(drop)
}

const VLAN_10: [&str; 2] = ["link add link eth0 name eth0.10 type vlan id 10", "link set eth0.10 up"];
const VLAN_10_IN_100: [&str; 4] = [
    "link add link eth0 name eth0.100 type vlan proto 802.1ad id 100",
    "link set eth0.100 up",
    "link add link eth0.100 name eth0.100.10 type vlan id 10",
    "link set eth0.100.10 up",
];

fn a_vlan_device_is_balanced() -> Result<()> {
    expect_balanced(&VLAN_10, "eth0.10", "rx-vlan-hw-parse")
}

fn a_vlan_within_a_service_vlan_is_balanced() -> Result<()> {
    expect_balanced(&VLAN_10_IN_100, "eth0.100.10", "rx-vlan-stag-hw-parse")
}

/// That a cluster works of which every host is in a VLAN and nobody on the NIC itself.
fn expect_balanced(commands: &[&str], device: &str, offload: &str) -> Result<()> {
    let lab = Lab::new()?;
    for host in lab.hosts() {
        move_into(host, commands, device)?;
    }
    let before = Snapshot::of(lab.director())?;
    let mut cluster = Cluster::from(Service::web("rr", 2));
    cluster.interfaces = vec![device.to_owned()];
    let mut site = Site::start_in(lab, &cluster, Nginx::start)?;
    let director = site.lab.director();
    expect_turns(&site.pages(6)?, 2)?;
    site.director.expect_no_drops()?;

    ensure!(director.xdp_program("eth0")?.is_some(), "no program on the NIC");
    ensure!(director.xdp_program(device)?.is_none(), "a program on the VLAN device");
    let vip = director.ip(&format!("address show dev {device} to {VIP}/32"))?;
    ensure!(!vip.is_empty(), "the VIP is not on the VLAN device");
    let log = site.director.log();
    ensure!(
        log.contains(&format!("feature=\"{offload}\"")),
        "the NIC may hide tags:\n{log}"
    );
    site.director.stop(Signal::SIGTERM)?;
    before.expect(director)
}

/// Clients and rs1 on the NIC itself, rs2 in a VLAN on it: frames come in without a tag and go out with one.
fn real_servers_in_another_vlan_are_reached() -> Result<()> {
    let lab = Lab::builder()
        .host("client", &[CLIENT])
        .host("director", &[DIP])
        .host("rs1", &[rip(1)])
        .host("rs2", &[rip(2)])
        .build()?;
    for (host, last) in [(lab.client(), 10), (lab.director(), 2), (lab.real_server(2), 190)] {
        for command in VLAN_10 {
            host.ip(command)?;
        }
        host.ip(&format!("address add {}/24 dev eth0.10", on_segment_2(last)))?;
    }
    // What rs2 answers reaches the client's first address by its VLAN device: nobody forwards.
    let server = lab.real_server(2);
    server.ip("address flush dev eth0")?;
    server.ip(&format!("route add {CLIENT}/32 via {}", on_segment_2(10)))?;
    let mut service = Service::web("rr", 2);
    service.servers[1].address = on_segment_2(190).into();
    let site = Site::start_in(lab, &service.into(), Nginx::start)?;
    expect_turns(&site.pages(6)?, 2)?;
    site.director.expect_no_drops()?;
    let json = site.director.json()?.to_string();
    ensure!(
        json.contains("\"eth0.10\""),
        "the listing does not name the VLAN device: {json}"
    );
    Ok(())
}

fn a_third_tag_is_refused() -> Result<()> {
    let lab = Lab::new()?;
    let director = lab.director();
    let deeper = [
        "link add link eth0.100.10 name deep type vlan id 11",
        "link set deep up",
    ];
    move_into(director, &[&VLAN_10_IN_100[..], &deeper].concat(), "deep")?;
    manual_setup::make_real_server(lab.real_server(1), VIP)?;
    let mut cluster = Cluster::from(Service::web("rr", 1));
    cluster.interfaces = vec!["deep".to_owned()];
    let output = Director::refused(director, lab.id(), &cluster.to_string())?;
    ensure!(!output.status.success(), "{output}");
    ensure!(
        output
            .stderr
            .contains("interface deep cannot be served: more than two VLAN tags: lbx supports two (802.1ad QinQ)"),
        "{output}"
    );
    Ok(())
}
