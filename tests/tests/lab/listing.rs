//! What the operator sees agrees with what clients did.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    clients::{self, Connection},
    cluster::{Cluster, RealServer, Service},
    lab::{VIP, rip},
    listing::Server,
    servers::{TcpServer, UdpServer},
    wait,
};

use crate::setup::{Site, WEB, reload, web};

crate::harness::tests!(Lbx:
    the_table_shows_the_file,
    connections_are_counted_by_server,
    held_connections_are_active_and_closed_ones_are_not,
    udp_flows_are_inactive_as_in_ipvs,
    one_packet_datagrams_are_counted_as_in_ipvs,
    lines_have_the_format_of_ipvsadm,
    json_tells_the_same,
    real_servers_stay_in_the_order_of_the_file,
);

fn the_table_shows_the_file() -> Result<()> {
    let mut cluster = Cluster::from(Service::weighted("wrr", &[3, 1]));
    cluster.services.push(Service::web("maglev", 2).on("udp", 53));
    let site = web(cluster.clone())?;
    let listed = site.director.list()?;
    ensure!(listed.len() == cluster.services.len(), "{listed:?}");
    for expected in &cluster.services {
        let listed = listed.iter().find(|listed| listed.address.port() == expected.port);
        let listed = listed.with_context(|| format!("port {} is not listed", expected.port))?;
        ensure!(listed.protocol.eq_ignore_ascii_case(expected.protocol), "{listed:?}");
        ensure!(
            (listed.address.ip(), listed.address.port()) == (expected.vip, expected.port),
            "{listed:?}"
        );
        ensure!(
            listed
                .rest
                .first()
                .is_some_and(|scheduler| scheduler == expected.scheduler),
            "{listed:?}"
        );
        let servers = listed
            .servers
            .iter()
            .map(|server| Ok(RealServer::new(server.address.ip(), u16::try_from(server.weight()?)?)));
        ensure!(servers.collect::<Result<Vec<_>>>()? == expected.servers, "{listed:?}");
        for server in &listed.servers {
            ensure!(
                server.address.port() == expected.port && server.forward()? == "Route",
                "{listed:?}"
            );
        }
    }
    Ok(())
}

fn connections_are_counted_by_server() -> Result<()> {
    let site = web(Service::weighted("wrr", &[3, 1]))?;
    site.pages(20)?;
    let statistics = site.director.statistics()?;
    let service = &statistics[0];
    ensure!(
        service.rest.first().is_some_and(|connections| connections == "20"),
        "{service:?}"
    );
    for (server, expected) in service.servers.iter().zip([15, 5]) {
        ensure!(server.connections()? == expected, "{service:?}");
    }
    Ok(())
}

fn held_connections_are_active_and_closed_ones_are_not() -> Result<()> {
    const EACH: u64 = 5;
    let site = Site::start(Service::web("rr", 2), |host| TcpServer::start(host, 80))?;
    let wait_for = |what, expected: [u64; 2]| {
        let state = |server: &Server| Ok([server.active()?, server.inactive()?]);
        wait::until_true(Duration::from_secs(2), what, || {
            let listed = site.director.list()?;
            let states = listed[0].servers.iter().map(state).collect::<Result<Vec<_>>>()?;
            Ok(states == [expected; 2])
        })
        .map_err(|error| match site.director.list_text(&[]) {
            Ok(table) => error.context(table),
            Err(_) => error,
        })
    };
    let open = |_| site.client().enter(|| Connection::open(0, WEB))?;
    let held = (0..2 * EACH).map(open).collect::<Result<Vec<_>>>()?;
    wait_for("every open connection is active", [EACH, 0])?;
    drop(held);
    wait_for("every closed connection is inactive", [0, EACH])
}

/// A site with a UDP service on port 80, whose client has sent three datagrams of each of two flows.
fn udp_site(service: Service) -> Result<Site<UdpServer>> {
    let site = Site::start(service.on("udp", 80), |host| UdpServer::start(host, WEB))?;
    for port in [20_000, 20_001, 20_000, 20_001, 20_000, 20_001] {
        site.client().enter(|| clients::ask_by_datagram(port, WEB, "hello"))??;
    }
    Ok(site)
}

/// ActiveConn, InActConn and Conns of each real server.
fn counts(site: &Site<UdpServer>) -> Result<Vec<[u64; 3]>> {
    let (listed, statistics) = (site.director.list()?, site.director.statistics()?);
    let servers = listed[0].servers.iter().zip(&statistics[0].servers);
    servers
        .map(|(listed, counted)| Ok([listed.active()?, listed.inactive()?, counted.connections()?]))
        .collect()
}

fn udp_flows_are_inactive_as_in_ipvs() -> Result<()> {
    let site = udp_site(Service::web("rr", 2))?;
    let counts = counts(&site)?;
    ensure!(counts == [[0, 1, 1]; 2], "{counts:?}");
    let server = &site.director.json()?["services"][0]["servers"][0];
    ensure!(
        server["active_connections"] == 0 && server["inactive_connections"] == 1,
        "{server:#}"
    );
    Ok(())
}

/// Each datagram is a connection of its own that ends with it, by `rr` as by a scheduler that hashes.
fn one_packet_datagrams_are_counted_as_in_ipvs() -> Result<()> {
    for scheduler in ["rr", "maglev"] {
        let site = udp_site(Service::web(scheduler, 2).with("one_packet", true))?;
        let counts = counts(&site)?;
        let all: u64 = counts.iter().map(|[.., connections]| connections).sum();
        ensure!(all == 6, "{scheduler}: {counts:?}");
        ensure!(scheduler != "rr" || counts == [[0, 0, 3]; 2], "{counts:?}");
        ensure!(
            counts.iter().all(|[active, inactive, _]| active + inactive == 0),
            "{counts:?}"
        );
        let table = site.director.list_text(&[])?;
        ensure!(
            table.contains(&format!("\nUDP  {VIP}:80 {scheduler} ops\n")) && !table.contains("estimated"),
            "{table}"
        );
    }
    Ok(())
}

/// Byte by byte but for the version and the size, which are lbx's own; what else there is to say begins with `#`.
fn lines_have_the_format_of_ipvsadm() -> Result<()> {
    let mut cluster = Cluster::from(Service::web("maglev", 1));
    cluster.services.push(Service::web("rr", 1).over_ipv6().on("tcp", 8080));
    let site = web(cluster)?;
    let expected = |first: &str, services: &[&str]| {
        let mut lines = vec![first.to_owned()];
        lines.extend(services.iter().map(|&line| line.to_owned()));
        lines
    };
    let listed = |arguments: &[&str]| -> Result<Vec<String>> {
        let text = site.director.list_text(arguments)?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let mut lines: Vec<_> = lines.map(str::to_owned).collect();
        let size = lines[0].rsplit_once("(size=").context("no size")?.1.to_owned();
        ensure!(size.trim_end_matches(')').parse::<u64>().is_ok(), "{text}");
        lines[0] = lines[0].replace(&size, "N)");
        Ok(lines)
    };
    let first = format!("IP Virtual Server version {} (size=N)", env!("CARGO_PKG_VERSION"));
    let connections = expected(
        &first,
        &[
            "Prot LocalAddress:Port Scheduler Flags",
            "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn",
            "TCP  192.168.1.160:80 maglev",
            "  -> 192.168.1.185:80             Route   1      0          0         ",
            "TCP  [fd00:1::160]:8080 rr",
            "  -> [fd00:1::185]:8080           Route   1      0          0         ",
        ],
    );
    let found = listed(&[])?;
    ensure!(found == connections, "{found:#?}, expected {connections:#?}");
    let statistics = expected(
        &first,
        &[
            "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes",
            "  -> RemoteAddress:Port",
            "TCP  192.168.1.160:80                    0        0        0        0        0",
            "  -> 192.168.1.185:80                    0        0        0        0        0",
            "TCP  [fd00:1::160]:8080                  0        0        0        0        0",
            "  -> [fd00:1::185]:8080                  0        0        0        0        0",
        ],
    );
    let found = listed(&["--stats"])?;
    ensure!(found == statistics, "{found:#?}, expected {statistics:#?}");
    let note = site.director.list_text(&[])?;
    ensure!(
        note.ends_with("80/tcp: connections estimated from SYN, FIN and RST: flows are hashed, not recorded\n"),
        "{note}"
    );
    Ok(())
}

fn json_tells_the_same() -> Result<()> {
    let site = web(Service::web("rr", 2))?;
    site.pages(2)?;
    let json = site.director.json()?;
    let service = &json["services"][0];
    ensure!(service["vip"] == VIP.to_string() && service["port"] == 80, "{json:#}");
    let expected = [rip(1), rip(2)].map(|address| (address.to_string(), 1));
    let servers = service["servers"].as_array().context("no list of servers")?.iter();
    let servers = servers.map(|server| {
        let address = server["address"].as_str().unwrap_or_default().to_owned();
        (address, server["traffic"]["connections"].as_u64().unwrap_or_default())
    });
    ensure!(servers.eq(expected), "{json:#}");
    ensure!(
        json["name"] == site.lab.id() && json["interfaces"][0]["xdp_mode"] == "native",
        "{json:#}"
    );
    site.director.expect_no_drops()
}

/// Added in front, taken out and put back at another place, re-weighted: the order is always that of the file.
fn real_servers_stay_in_the_order_of_the_file() -> Result<()> {
    let order = |numbers: &[u8]| {
        let mut service = Service::web("rr", 4);
        service.servers = numbers
            .iter()
            .map(|&number| RealServer::new(rip(number), u16::from(number)))
            .collect();
        service
    };
    let site = web(order(&[3, 1, 2, 4]))?;
    for numbers in [&[3, 1, 2, 4][..], &[4, 2], &[1, 4, 3, 2], &[2, 3, 1], &[1, 2, 3, 4]] {
        reload(&site.director, order(numbers))?;
        // Those that are out of the file follow while they drain.
        let listed = || -> Result<Vec<_>> {
            let services = site.director.list()?;
            let servers = services.first().context("nothing is listed")?.servers.iter();
            Ok(servers.map(|server| server.address.ip()).take(numbers.len()).collect())
        };
        let expected: Vec<_> = numbers
            .iter()
            .map(|&number| std::net::IpAddr::from(rip(number)))
            .collect();
        let in_order = || Ok(listed()? == expected);
        wait::until_true(Duration::from_secs(5), "listed in the order of the file", in_order)
            .with_context(|| format!("{numbers:?}: {:?}", listed()))?;
    }
    Ok(())
}
