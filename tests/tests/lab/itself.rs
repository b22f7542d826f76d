//! The lab, proven without lbx: whatever fails here is no fault of the director.

use std::{fs, net::SocketAddrV4, os::fd::OwnedFd, time::Duration};

use anyhow::{Result, ensure};
use lbx_tests::{
    clients,
    host::Host,
    lab::{DIP, Lab, VIP, rip},
    load::Load,
    mac::Mac,
    manual_setup, netns,
    nginx::Nginx,
    patience, payload,
    servers::{TcpServer, UdpServer},
    xdp::{self, Mode, Way},
};

use crate::setup::{WEB, two_segments};

crate::harness::tests!(Lab:
    hosts_reach_each_other,
    a_pinned_neighbour_stands_in_for_the_director,
    arp_tells_quiet_and_loud_real_servers_apart,
    native_xdp_carries_files_both_ways,
    generic_xdp_carries_files_both_ways,
    native_xdp_redirects_to_another_segment,
    load_counts_answers_and_failures,
    connections_from_chosen_ports,
    a_mac_address_changes,
    a_lab_leaves_nothing,
);

fn hosts_reach_each_other() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(lab.real_server(2))?;
    ensure!(lab.client().ping(DIP)?, "the director does not answer");
    ensure!(!lab.client().ping(VIP)?, "somebody answers for the VIP");
    let page = lab.client().curl(&format!("http://{}/", rip(2)))?;
    ensure!(page == "rs2 nginx", "{page:?}");
    ensure!(lab.client().has_address(lab.client().address())? && !lab.client().has_address(VIP)?);
    ensure!(
        lab.director().mac("eth0")? == Mac::of(DIP),
        "the MAC address is another"
    );
    Ok(())
}

fn a_pinned_neighbour_stands_in_for_the_director() -> Result<()> {
    let lab = Lab::new()?;
    let server = lab.real_server(1);
    manual_setup::make_real_server(server, VIP)?;
    manual_setup::pin_neighbour(lab.client(), VIP, server.mac("eth0")?)?;
    let _nginx = Nginx::start(server)?;
    let page = lab.client().curl(&format!("http://{VIP}/"))?;
    ensure!(page == "rs1 nginx", "{page:?}");
    let echo = SocketAddrV4::new(VIP, 7);
    let _echo = UdpServer::start(server, echo)?;
    let answer = lab.client().enter(|| clients::ask_by_datagram(0, echo, "hello"))??;
    ensure!(answer == "rs1", "{answer:?}");
    Ok(())
}

fn arp_tells_quiet_and_loud_real_servers_apart() -> Result<()> {
    let lab = Lab::new()?;
    manual_setup::make_real_server(lab.real_server(1), VIP)?;
    let answers = lab.client().arp_probe(VIP)?;
    ensure!(answers.is_empty(), "{answers:?} answers");
    manual_setup::make_loud_real_server(lab.real_server(2), VIP)?;
    lab.director().ip(&format!("address add {VIP}/32 dev eth0"))?;
    let answers = lab.client().arp_probe(VIP)?;
    ensure!(answers == [Mac::of(DIP), Mac::of(rip(2))].into(), "{answers:?} answer");
    Ok(())
}

fn native_xdp_carries_files_both_ways() -> Result<()> {
    files_both_ways(Mode::Native)
}

fn generic_xdp_carries_files_both_ways() -> Result<()> {
    files_both_ways(Mode::Generic)
}

/// Puts a director of twenty instructions in place, which sends all for the VIP to one real server.
fn stand_in(director: &Host, server: Mac, way: Way, mode: Mode) -> Result<OwnedFd> {
    director.ip(&format!("address add {VIP}/32 dev eth0"))?;
    if mode == Mode::Generic {
        // Generic XDP cannot send on what GRO has put together.
        director.set_offload("eth0", "gro", false)?;
    }
    let own = match way {
        Way::Back => director.mac("eth0")?,
        Way::Out(_) => director.mac("eth1")?,
    };
    xdp::attach(director.namespace(), "eth0", &xdp::send_on(VIP, own, server, way), mode)
}

fn files_both_ways(mode: Mode) -> Result<()> {
    let lab = Lab::new()?;
    let server = lab.real_server(1);
    manual_setup::make_real_server(server, VIP)?;
    let _program = stand_in(lab.director(), server.mac("eth0")?, Way::Back, mode)?;
    let nginx = Nginx::start(server)?;
    let sent = payload::write(&nginx.root().join("big"), 20)?;
    let (down, up) = (lab.directory().join("down"), nginx.root().join("put/up"));
    lab.client().download(&format!("http://{VIP}/big"), &down)?;
    ensure!(payload::digest(&down)? == sent, "the download differs");
    lab.client().upload(&down, &format!("http://{VIP}/put/up"))?;
    ensure!(payload::digest(&up)? == sent, "the upload differs");
    Ok(())
}

fn native_xdp_redirects_to_another_segment() -> Result<()> {
    let lab = two_segments()?;
    let server = lab.real_server(2);
    manual_setup::make_real_server(server, VIP)?;
    let egress = lab.director().interface_index("eth1")?;
    let _program = stand_in(lab.director(), server.mac("eth0")?, Way::Out(egress), Mode::Native)?;
    let nginx = Nginx::start(server)?;
    let page = lab.client().curl(&format!("http://{VIP}/"))?;
    ensure!(page == "rs2 nginx", "{page:?}");
    let source = lab.directory().join("big");
    let sent = payload::write(&source, 5)?;
    lab.client().upload(&source, &format!("http://{VIP}/put/up"))?;
    ensure!(
        payload::digest(&nginx.root().join("put/up"))? == sent,
        "the upload differs"
    );
    Ok(())
}

fn load_counts_answers_and_failures() -> Result<()> {
    let lab = Lab::new()?;
    let server = lab.real_server(1);
    let target = SocketAddrV4::new(server.address(), 80);
    let nginx = Nginx::start(server)?;
    let load = Load::start(lab.client(), target, 4);
    load.run_on(100)?;
    load.so_far().expect_no_failure()?;
    drop(nginx);
    load.wait_until("a request fails", |report| !report.failures.is_empty())?;
    let report = load.finish();
    ensure!(report.answers.keys().eq(["rs1 nginx"]), "{report}");
    ensure!(report.expect_no_failure().is_err(), "{report}");
    Ok(())
}

fn connections_from_chosen_ports() -> Result<()> {
    let lab = Lab::new()?;
    let server = lab.real_server(1);
    let target = SocketAddrV4::new(server.address(), 80);
    let _server = TcpServer::start(server, 80)?;
    let ports: Vec<u16> = (20_000..30_000).collect();
    // Twice: a port is free again at once.
    for _ in 0..2 {
        let answers = clients::who_answers(lab.client(), target, &ports)?;
        ensure!(answers.keys().eq(&ports), "{} ports answered", answers.len());
        ensure!(clients::tally(answers.values()) == [("rs1".to_owned(), ports.len())].into());
    }
    let mut connection = lab.client().enter(|| clients::Connection::open(0, target))??;
    connection.echo("still there")?;
    Ok(())
}

fn a_mac_address_changes() -> Result<()> {
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 99]);
    let lab = Lab::new()?;
    let server = lab.real_server(1);
    manual_setup::make_real_server(server, VIP)?;
    manual_setup::pin_neighbour(lab.client(), VIP, server.mac("eth0")?)?;
    let _server = TcpServer::start(server, 80)?;
    let open = || {
        lab.client()
            .enter(|| clients::Connection::open_within(patience::scaled(Duration::from_millis(300)), 0, WEB))
    };
    ensure!(open()?.is_ok(), "no answer by the first address");
    server.set_mac("eth0", OTHER)?;
    ensure!(open()?.is_err(), "an answer by the old address");
    manual_setup::pin_neighbour(lab.client(), VIP, OTHER)?;
    ensure!(open()?.is_ok(), "no answer by the new address");
    server.announce()?;
    ensure!(
        lab.client().arp_probe(server.address())? == [OTHER].into(),
        "ARP tells another address"
    );
    Ok(())
}

fn a_lab_leaves_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let (id, directory) = (lab.id().to_owned(), lab.directory().to_owned());
    let held = lab.client().spawn("held", ["sleep", "1000"])?;
    let _server = TcpServer::start(lab.client(), 80)?;
    let script = "sleep 1000 >/dev/null 2>&1 & echo $!";
    let escaped: u32 = lab.client().run(["sh", "-c", script])?.success()?.trim().parse()?;
    let running = |pid: u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok();
    ensure!(running(escaped) && running(held.pid()), "no program runs");
    drop(lab);
    ensure!(!running(escaped) && !running(held.pid()), "a program goes on");
    ensure!(!directory.exists(), "{} is left", directory.display());
    let namespaces = fs::read_dir(netns::DIRECTORY)?.flatten();
    let mut left = namespaces.filter(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{id}-")));
    ensure!(left.next().is_none(), "a namespace is left");
    Ok(())
}
