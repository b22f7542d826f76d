//! Datagrams in fragments: all of one go to the same real server.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    clients::{self, tally},
    cluster::Service,
    host::Host,
    lab::{CLIENT, CLIENT6, VIP, VIP6},
    nginx::Nginx,
    servers::UdpServer,
    wait,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::setup::{PAGE, PAGE6, Site, expect_turns};

crate::harness::tests!(Lbx:
    big_datagrams_arrive_whole_by_rr,
    big_datagrams_arrive_whole_by_maglev,
    big_datagrams_over_ipv6_arrive_whole_by_rr,
    big_datagrams_over_ipv6_arrive_whole_by_maglev,
    tcp_beside_fragments_is_as_ever,
    orphans_are_dropped_and_counted,
);

const PORT: u16 = 7;

fn vip(six: bool) -> IpAddr {
    if six { VIP6.into() } else { VIP.into() }
}

fn service(scheduler: &'static str, six: bool) -> Service {
    let service = Service::web(scheduler, 3).on("udp", PORT);
    if six { service.over_ipv6() } else { service }
}

fn big_datagrams_arrive_whole_by_rr() -> Result<()> {
    expect_whole("rr", false)
}

fn big_datagrams_arrive_whole_by_maglev() -> Result<()> {
    expect_whole("maglev", false)
}

fn big_datagrams_over_ipv6_arrive_whole_by_rr() -> Result<()> {
    expect_whole("rr", true)
}

fn big_datagrams_over_ipv6_arrive_whole_by_maglev() -> Result<()> {
    expect_whole("maglev", true)
}

/// A text of so many bytes no two blocks of which agree.
fn text(length: usize) -> String {
    let mut text: String = (0..=length / 6).map(|number| format!("{number:05} ")).collect();
    text.truncate(length);
    text
}

/// That datagrams of three to six fragments, from many ports, each reach one server, from which they come back.
fn expect_whole(scheduler: &'static str, six: bool) -> Result<()> {
    let target = SocketAddr::new(vip(six), PORT);
    let site = Site::start(service(scheduler, six), |host| UdpServer::start(host, target))?;
    let ask = |port, length| {
        site.client()
            .enter(|| clients::ask_by_datagram(port, target, &text(length)))?
    };
    let mut answers = Vec::new();
    for (port, length) in (20_000..20_030).zip([4_000, 5_500, 8_000].into_iter().cycle()) {
        let first = ask(port, length).with_context(|| format!("{length} bytes from port {port}"))?;
        // Small and big ones of one flow go the same way.
        let again = [ask(port, 8_192)?, ask(port, 5)?];
        ensure!(again.iter().all(|server| *server == first), "{first}, then {again:?}");
        answers.push(first);
    }
    ensure!(tally(&answers).len() == 3, "{answers:?}");
    site.director.expect_no_drops()
}

fn tcp_beside_fragments_is_as_ever() -> Result<()> {
    for (six, page) in [(false, PAGE), (true, PAGE6)] {
        let target = SocketAddr::new(vip(six), PORT);
        let mut web = service("rr", six).on("tcp", 80);
        web.servers.truncate(2);
        let mut cluster = lbx_tests::cluster::Cluster::from(service("rr", six));
        cluster.services.push(web);
        let lab = lbx_tests::lab::Lab::with_real_servers(3)?;
        let serve = |host: &Host| Ok((Nginx::start(host)?, UdpServer::start(host, target)?));
        let site = Site::start_in(lab, &cluster, serve)?;
        let mut pages = Vec::new();
        for port in 20_000..20_008 {
            let datagram = text(6_000);
            site.client()
                .enter(|| clients::ask_by_datagram(port, target, &datagram))??;
            pages.push(site.client().curl(page)?);
        }
        expect_turns(&pages, 2)?;
        site.director.expect_no_drops()?;
    }
    Ok(())
}

fn orphans_are_dropped_and_counted() -> Result<()> {
    const ORPHANS: u64 = 5;
    for six in [false, true] {
        let site = Site::start(service("rr", six), Nginx::start)?;
        let dropped = || -> Result<Option<u64>> { Ok(site.director.json()?["drops"]["orphan_fragment"].as_u64()) };
        ensure!(dropped()? == Some(0), "{:?} orphans before any was sent", dropped()?);
        // The neighbour is known then: raw packets that wait for it may be thrown away.
        ensure!(site.client().ping(vip(six))?, "the VIP does not answer");
        for identification in 0..ORPHANS as u8 {
            site.client().enter(|| send_orphan(six, identification))??;
        }
        wait::until_true(Duration::from_secs(2), "the orphans are counted", || {
            Ok(dropped()? == Some(ORPHANS))
        })?;
    }
    Ok(())
}

/// Sends the last fragment of a datagram whose others nobody has.
fn send_orphan(six: bool, identification: u8) -> io::Result<()> {
    const DATA: [u8; 16] = [0x61; 16];
    let domain = if six { Domain::IPV6 } else { Domain::IPV4 };
    // A raw socket of this protocol takes packets with their IP headers (raw(7)).
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
    let packet = if six {
        // Payload of 24 bytes; next header: fragment.
        let mut packet = vec![0x60, 0, 0, 0, 0, 24, 44, 64];
        packet.extend(CLIENT6.octets());
        packet.extend(VIP6.octets());
        // UDP follows, at 1,448 bytes (in units of 8, above three flag bits), no more fragments (RFC 8200 section 4.5).
        packet.extend([17, 0, 0x05, 0xa8, 0, 0, 0, identification]);
        packet
    } else {
        // The kernel fills in the checksum; offset 1,480 bytes in units of 8, no more fragments.
        let mut packet = vec![0x45, 0, 0, 36, 1, identification, 0, 185, 64, 17, 0, 0];
        packet.extend(CLIENT.octets());
        packet.extend(VIP.octets());
        packet
    };
    let packet = [packet.as_slice(), &DATA].concat();
    socket.send_to(&packet, &SocketAddr::new(vip(six), 0).into()).map(drop)
}
