//! The director's use of its own VIP: its connections are scheduled like any others.

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    cgroup::Cgroup,
    clients,
    cluster::{Cluster, Service},
    lab::{VIP, VIP6, rip},
    nginx::Nginx,
    patience, process,
    servers::UdpServer,
};

use super::{DETECTED, healthy_web};
use crate::setup::{PAGE, PAGE6, Site, expect_all, expect_turns, reload, web};

crate::harness::tests!(Lbx:
    curl_on_the_director_takes_turns,
    curl_on_the_director_takes_turns_over_ipv6,
    curl_in_a_control_group_takes_turns,
    curl_on_the_director_avoids_who_is_down,
    datagrams_of_the_director,
    datagrams_of_the_director_over_ipv6,
    a_service_that_is_not_for_the_director,
    others_than_the_vip_are_reached_as_before,
);

const LINE: [&str; 7] = [
    "curl",
    "--globoff",
    "--silent",
    "--show-error",
    "--max-time",
    "5",
    "--write-out",
];

/// Who answers curl on the director that often; it must see the VIP at the other end.
fn answers(site: &Site<Nginx>, page: &str, vip: &str, cgroup: Option<&Cgroup>, count: usize) -> Result<Vec<String>> {
    let curl = |_| {
        let mut command = site.lab.director().command(LINE[0]);
        command.args(&LINE[1..]).args([" %{remote_ip}", page]);
        if let Some(cgroup) = cgroup {
            cgroup.enclose(&mut command)?;
        }
        let answer = process::run(&mut command, Duration::from_secs(10))?.success()?;
        let (answer, peer) = answer.split_once('\n').context("half a page")?;
        ensure!(peer.trim() == vip, "the peer is {peer:?}, not {vip}");
        Ok(answer.replace(" nginx", ""))
    };
    (0..count).map(curl).collect()
}

fn curl_on_the_director_takes_turns() -> Result<()> {
    let site = web(Service::web("rr", 2))?;
    expect_turns(&answers(&site, PAGE, &VIP.to_string(), None, 8)?, 2)?;
    let statistics = site.director.statistics()?;
    for server in &statistics[0].servers {
        ensure!(server.connections()? == 4, "not counted like any other: {statistics:?}");
    }
    expect_turns(&site.pages(4)?, 2)
}

fn curl_on_the_director_takes_turns_over_ipv6() -> Result<()> {
    let site = web(Service::web("rr", 2).over_ipv6())?;
    expect_turns(&answers(&site, PAGE6, &VIP6.to_string(), None, 6)?, 2)
}

fn curl_in_a_control_group_takes_turns() -> Result<()> {
    let site = web(Service::web("rr", 2))?;
    let cgroup = Cgroup::create(site.lab.id())?;
    expect_turns(&answers(&site, PAGE, &VIP.to_string(), Some(&cgroup), 6)?, 2)
}

fn curl_on_the_director_avoids_who_is_down() -> Result<()> {
    let site = healthy_web(Service::web("rr", 2))?;
    site.servers[1].simulate_failure(true)?;
    site.director.wait_down(80, rip(2), "wrong status 503", DETECTED)?;
    expect_all(&answers(&site, PAGE, &VIP.to_string(), None, 4)?, "rs1")
}

fn datagrams_of_the_director() -> Result<()> {
    expect_datagrams(Service::web("rr", 2).on("udp", 7))
}

fn datagrams_of_the_director_over_ipv6() -> Result<()> {
    expect_datagrams(Service::web("rr", 2).over_ipv6().on("udp", 7))
}

/// By sockets that are connected, and by one that is not.
fn expect_datagrams(service: Service) -> Result<()> {
    let target = SocketAddr::new(service.vip, 7);
    let site = Site::start(service, |host| UdpServer::start(host, target))?;
    let connected = site.lab.director().enter(|| {
        let ask = |_| clients::ask_by_datagram(0, target, "hello");
        (0..6).map(ask).collect::<Result<Vec<_>>>()
    })??;
    expect_turns(&connected, 2)?;
    let (answer, from) = site.lab.director().enter(|| -> Result<_> {
        let any: SocketAddr = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse()?;
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(patience::scaled(Duration::from_secs(5))))?;
        socket.send_to(b"hello", target)?;
        let mut buffer = [0; 64];
        let (length, from) = socket
            .recv_from(&mut buffer)
            .context("no answer without a connection")?;
        Ok((String::from_utf8_lossy(&buffer[..length]).into_owned(), from))
    })??;
    ensure!(answer.ends_with(" hello") && from == target, "{answer:?} from {from}");
    Ok(())
}

fn a_service_that_is_not_for_the_director() -> Result<()> {
    let service = Service::web("rr", 2);
    let site = web(service.clone().with("local", false))?;
    let refused = || answers(&site, PAGE, &VIP.to_string(), None, 1).is_err();
    ensure!(refused(), "the director reaches a real server");
    expect_turns(&site.pages(4)?, 2)?;
    reload(&site.director, service.clone())?;
    expect_turns(&answers(&site, PAGE, &VIP.to_string(), None, 4)?, 2)?;
    let mut cluster = Cluster::from(service);
    cluster.defaults = vec![("local", "false".to_owned())];
    reload(&site.director, cluster)?;
    ensure!(refused(), "the director still reaches a real server");
    Ok(())
}

fn others_than_the_vip_are_reached_as_before() -> Result<()> {
    let site = web(Service::web("rr", 2))?;
    for number in [1, 2, 1] {
        let own = rip(number).to_string();
        let page = format!("http://{own}/");
        expect_all(&answers(&site, &page, &own, None, 2)?, &format!("rs{number}"))?;
    }
    Ok(())
}
