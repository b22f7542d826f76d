//! What goes through the director, and what goes past it.

use std::net::SocketAddrV4;

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    clients::{self, Connection},
    cluster::{Cluster, RealServer, Service},
    host::Host,
    lab::{DIP, Lab, VIP, rip},
    mac::Mac,
    nginx::Nginx,
    payload,
    servers::{TcpServer, UdpServer},
    xdp::Mode,
};

use crate::setup::{PAGE, Site, WEB, expect_turns, on_segment_2, serve_big, two_segments, web};

crate::harness::tests!(Lbx:
    a_download_of_100_megabytes_arrives_whole,
    an_upload_of_100_megabytes_arrives_whole,
    generic_mode_carries_files_too,
    native_mode_is_native,
    udp_is_balanced,
    tcp_and_udp_share_a_port,
    the_director_alone_answers_arp_for_the_vip,
    a_real_server_that_answers_arp_is_noticed,
    what_is_no_service_passes,
    a_real_server_on_another_nic_is_reached,
);

const MEGABYTES: usize = 100;

fn a_download_of_100_megabytes_arrives_whole() -> Result<()> {
    let site = web(Service::web("rr", 2))?;
    let sent = serve_big(&site.servers, MEGABYTES)?;
    let to = site.lab.directory().join("down");
    for _ in &site.servers {
        site.client().download(&format!("{PAGE}big"), &to)?;
        ensure!(payload::digest(&to)? == sent, "the download differs");
    }
    Ok(())
}

fn an_upload_of_100_megabytes_arrives_whole() -> Result<()> {
    let site = web(Service::web("rr", 2))?;
    expect_upload(&site, MEGABYTES)
}

/// Uploads a file to every server in turn and compares what has arrived.
fn expect_upload(site: &Site<Nginx>, megabytes: usize) -> Result<()> {
    let file = site.lab.directory().join("up");
    let sent = payload::write(&file, megabytes)?;
    for _ in &site.servers {
        site.client().upload(&file, &format!("{PAGE}put/up"))?;
    }
    for nginx in &site.servers {
        let arrived = payload::digest(&nginx.root().join("put/up")).context("a server got no upload")?;
        ensure!(arrived == sent, "the upload differs");
    }
    Ok(())
}

fn mode_of(site: &Site<Nginx>) -> Result<Mode> {
    let (_, mode) = site.lab.director().xdp_program("eth0")?.context("no program on eth0")?;
    Ok(mode)
}

fn generic_mode_carries_files_too() -> Result<()> {
    let mut cluster = Cluster::from(Service::web("rr", 2));
    cluster.mode = "generic";
    let site = web(cluster)?;
    ensure!(mode_of(&site)? == Mode::Generic, "not generic");
    expect_turns(&site.pages(6)?, 2)?;
    expect_upload(&site, MEGABYTES / 5)
}

fn native_mode_is_native() -> Result<()> {
    let mut cluster = Cluster::from(Service::web("rr", 2));
    cluster.mode = "native";
    let site = web(cluster)?;
    ensure!(mode_of(&site)? == Mode::Native, "not native");
    expect_turns(&site.pages(6)?, 2)
}

const ECHO: SocketAddrV4 = SocketAddrV4::new(VIP, 7);

fn udp_is_balanced() -> Result<()> {
    let site = Site::start(Service::web("rr", 2).on("udp", 7), |host| UdpServer::start(host, ECHO))?;
    let ask = |port| site.client().enter(|| clients::ask_by_datagram(port, ECHO, "hello"));
    let ports = 20_000..20_010;
    let first = ports.clone().map(|port| ask(port)?).collect::<Result<Vec<_>>>()?;
    expect_turns(&first, 2)?;
    // A flow stays where it is.
    let again = ports.map(|port| ask(port)?).collect::<Result<Vec<_>>>()?;
    ensure!(again == first, "{first:?}, then {again:?}");
    Ok(())
}

fn tcp_and_udp_share_a_port() -> Result<()> {
    let mut cluster = Cluster::from(Service::web("rr", 1).on("udp", 80));
    let mut tcp = Service::web("rr", 2);
    tcp.servers.remove(0);
    cluster.services.push(tcp);
    let serve = |host: &Host| Ok((TcpServer::start(host, 80)?, UdpServer::start(host, WEB)?));
    let site = Site::start_in(Lab::new()?, &cluster, serve)?;
    let by_udp = site.client().enter(|| clients::ask_by_datagram(0, WEB, "hello"))??;
    let by_tcp = site.client().enter(|| Connection::open(0, WEB))??;
    ensure!(
        (by_udp.as_str(), by_tcp.server()) == ("rs1", "rs2"),
        "{by_udp}, {}",
        by_tcp.server()
    );
    Ok(())
}

fn the_director_alone_answers_arp_for_the_vip() -> Result<()> {
    let site = web(Service::web("rr", 2))?;
    let answers = site.client().arp_probe(VIP)?;
    ensure!(answers == [Mac::of(DIP)].into(), "{answers:?} answer");
    Ok(())
}

fn a_real_server_that_answers_arp_is_noticed() -> Result<()> {
    let site = web(Service::web("rr", 2))?;
    site.lab.real_server(1).set_sysctl("ipv4/conf/all/arp_ignore", "0")?;
    let answers = site.client().arp_probe(VIP)?;
    ensure!(answers == [Mac::of(DIP), Mac::of(rip(1))].into(), "{answers:?} answer");
    Ok(())
}

fn what_is_no_service_passes() -> Result<()> {
    let site = web(Service::web("rr", 2))?;
    let (client, director) = (site.client(), site.lab.director());
    ensure!(client.ping(DIP)?, "the DIP does not answer");
    ensure!(client.ping(VIP)?, "the VIP does not answer");
    let _server = TcpServer::start(director, 22)?;
    for address in [DIP, VIP] {
        let answer = client.enter(|| Connection::open(0, SocketAddrV4::new(address, 22)))??;
        ensure!(
            answer.server() == "director",
            "{} answers at {address}",
            answer.server()
        );
    }
    let udp = SocketAddrV4::new(VIP, 80);
    let _udp = UdpServer::start(director, udp)?;
    let answer = client.enter(|| clients::ask_by_datagram(0, udp, "hello"))??;
    ensure!(answer == "director", "{answer} answers UDP at {udp}");
    for host in [client, director] {
        let page = host.curl(&format!("http://{}/", rip(1)))?;
        ensure!(page == "rs1 nginx", "{page:?} on {}", host.name());
    }
    Ok(())
}

fn a_real_server_on_another_nic_is_reached() -> Result<()> {
    let mut service = Service::web("rr", 1);
    service.servers.push(RealServer::new(on_segment_2(190), 1));
    let site = Site::start_in(two_segments()?, &service.into(), Nginx::start)?;
    expect_turns(&site.pages(8)?, 2)?;
    expect_upload(&site, MEGABYTES / 5)
}
