//! What becomes of the connections of a real server that is down: they go elsewhere, stay, or wait.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    clients::Connection,
    cluster::Service,
    host::Host,
    lab::{VIP, rip},
    nginx::Nginx,
    servers::TcpServer,
};

use super::{DETECTED, RECOVERED, healthy, often};
use crate::setup::Site;

crate::harness::tests!(Lbx:
    rehashed_connections_end_by_rr,
    rehashed_connections_end_by_maglev,
    kept_connections_go_on_by_rr,
    kept_connections_go_on_by_maglev,
    dropped_connections_wait_by_rr,
    dropped_connections_wait_by_maglev,
);

/// What is served; what is asked is another port, so that a real server can be down while its connections are not.
const PORT: u16 = 7000;

type Served = (TcpServer, Nginx);

fn start(scheduler: &'static str, on_failure: &str) -> Result<Site<Served>> {
    let service = Service::web(scheduler, 2)
        .on("tcp", PORT)
        .with("health", often("http: { path: /healthz }, port: 80"))
        .with("on_failure", on_failure);
    healthy(service, |host: &Host| {
        Ok((TcpServer::start(host, PORT)?, Nginx::start(host)?))
    })
}

fn open(site: &Site<Served>) -> Result<Connection> {
    let target = std::net::SocketAddrV4::new(VIP, PORT);
    site.client().enter(|| Connection::open(0, target))?
}

/// Connections to rs1 and to rs2.
fn one_each(site: &Site<Served>) -> Result<[Connection; 2]> {
    let mut held = [None, None];
    for _ in 0..64 {
        let connection = open(site)?;
        let place = usize::from(connection.server() == "rs2");
        held[place].get_or_insert(connection);
        if let [Some(_), Some(_)] = held {
            break;
        }
    }
    let [first, second] = held;
    Ok([first.context("rs1 gets nothing")?, second.context("rs2 gets nothing")?])
}

fn fail(site: &Site<Served>) -> Result<()> {
    site.servers[1].1.simulate_failure(true)?;
    site.director.wait_down(PORT, rip(2), "wrong status 503", DETECTED)?;
    for _ in 0..8 {
        let connection = open(site)?;
        ensure!(connection.server() == "rs1", "a new connection goes to rs2");
    }
    Ok(())
}

fn mend(site: &Site<Served>) -> Result<()> {
    site.servers[1].1.simulate_failure(false)?;
    site.director.wait_for(PORT, rip(2), "up", RECOVERED).map(drop)
}

fn rehashed_connections_end_by_rr() -> Result<()> {
    expect_rehash("rr")
}

fn rehashed_connections_end_by_maglev() -> Result<()> {
    expect_rehash("maglev")
}

fn expect_rehash(scheduler: &'static str) -> Result<()> {
    let site = start(scheduler, "rehash")?;
    let [mut first, mut second] = one_each(&site)?;
    fail(&site)?;
    first.echo("still there")?;
    ensure!(
        second.echo("still there").is_err(),
        "a connection outlives its real server"
    );
    mend(&site)?;
    first.echo("still there")?;
    one_each(&site).map(drop)
}

fn kept_connections_go_on_by_rr() -> Result<()> {
    expect_keep("rr")
}

fn kept_connections_go_on_by_maglev() -> Result<()> {
    expect_keep("maglev")
}

fn expect_keep(scheduler: &'static str) -> Result<()> {
    let site = start(scheduler, "keep")?;
    let mut held = one_each(&site)?;
    fail(&site)?;
    for connection in &mut held {
        connection.echo("still there")?;
    }
    mend(&site)?;
    for connection in &mut held {
        connection.echo("still there")?;
    }
    one_each(&site).map(drop)
}

fn dropped_connections_wait_by_rr() -> Result<()> {
    expect_drop("rr")
}

fn dropped_connections_wait_by_maglev() -> Result<()> {
    expect_drop("maglev")
}

fn expect_drop(scheduler: &'static str) -> Result<()> {
    let site = start(scheduler, "drop")?;
    let [mut first, mut second] = one_each(&site)?;
    fail(&site)?;
    first.echo("still there")?;
    let waits = thread::spawn(move || second.echo("back again").map(|()| second));
    thread::sleep(Duration::from_millis(500));
    ensure!(!waits.is_finished(), "a dropped connection goes on, or ends");
    mend(&site)?;
    let second = waits
        .join()
        .expect("echo does not panic")
        .context("after it came back")?;
    ensure!(second.server() == "rs2");
    first.echo("still there")?;
    one_each(&site).map(drop)
}
