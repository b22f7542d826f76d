//! Thresholds: a real server that has enough connections gets no more until it has few again.

use std::time::Duration;

use anyhow::{Result, ensure};
use lbx_tests::{
    clients::Connection,
    cluster::{Cluster, Service},
    servers::TcpServer,
    wait,
};

use crate::setup::{Site, WEB, WEB6};

crate::harness::tests!(Lbx:
    a_full_server_gets_no_more_until_it_has_few_by_rr,
    a_full_server_gets_no_more_until_it_has_few_by_maglev,
    a_full_server_gets_no_more_until_it_has_few_by_wlc,
    a_full_server_gets_no_more_over_ipv6,
);

/// How soon a closed connection does not count any more: timeout, a sweep, and ticks.
const SOON: Duration = Duration::from_secs(10);

fn a_full_server_gets_no_more_until_it_has_few_by_rr() -> Result<()> {
    expect_limited(WEB, Service::web("rr", 2))
}

fn a_full_server_gets_no_more_until_it_has_few_by_maglev() -> Result<()> {
    expect_limited(WEB, Service::web("maglev", 2))
}

fn a_full_server_gets_no_more_until_it_has_few_by_wlc() -> Result<()> {
    expect_limited(WEB, Service::web("wlc", 2))
}

fn a_full_server_gets_no_more_over_ipv6() -> Result<()> {
    expect_limited(WEB6, Service::web("rr", 2).over_ipv6())
}

/// rs1 takes three connections; after that it gets new ones below two.
fn expect_limited(target: impl Into<std::net::SocketAddr>, service: Service) -> Result<()> {
    let target = target.into();
    let cluster = Cluster {
        timeouts: vec![("half_open", 1), ("closing", 1), ("closed", 1)],
        ..service.limit(1, 3, 2).into()
    };
    let site = Site::start(cluster, |host| TcpServer::start(host, 80))?;
    let open = || site.client().enter(|| Connection::open(0, target))?;
    let of_rs1 = |held: &[Connection]| held.iter().filter(|connection| connection.server() == "rs1").count();
    let mut held = Vec::new();
    while of_rs1(&held) < 3 {
        ensure!(held.len() < 60, "rs1 has {} of {}", of_rs1(&held), held.len());
        held.push(open()?);
    }
    let expect_elsewhere = |held: &mut Vec<Connection>| -> Result<()> {
        for _ in 0..8 {
            let connection = open()?;
            ensure!(
                connection.server() == "rs2",
                "one more for rs1:\n{}",
                site.director.list_text(&[])?
            );
            held.push(connection);
        }
        Ok(())
    };
    expect_elsewhere(&mut held)?;
    for left in [2, 1] {
        let at = held.iter().position(|connection| connection.server() == "rs1");
        held.swap_remove(at.unwrap_or_default()).reset()?;
        wait::until_true(SOON, "the closed connection is forgotten", || {
            let listed = site.director.list()?;
            let server = &listed[0].servers[0];
            Ok(server.active()? + server.inactive()? == left)
        })
        .map_err(|error| error.context(site.director.list_text(&[]).unwrap_or_default()))?;
        if left == 2 {
            expect_elsewhere(&mut held)?;
        }
    }
    wait::until_true(SOON, "rs1 gets new connections again", || Ok(open()?.server() == "rs1"))?;
    for connection in &mut held {
        connection.echo("still there")?;
    }
    site.director.expect_no_drops()
}
