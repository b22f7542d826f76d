//! Health: what clients would notice is noticed first, and told. A file per idea.
//!
//! Checks here are made every half second, so that a test takes seconds; how soon something must be noticed follows from
//! that.

mod checks;
mod cost;
mod daemon;
mod flows;
mod https;
mod interference;
mod load;
mod local;
mod neighbours;
mod quorum;
mod sockets;
mod udp;
mod vip;
mod vip_ways;
mod weights;

use std::{net::IpAddr, time::Duration};

use anyhow::{Result, ensure};
use lbx_tests::{
    cluster::{Cluster, Service},
    host::Host,
    lbx::Director,
    nginx::Nginx,
};
use libtest_mimic::Trial;

use crate::setup::Site;

/// The tests of all files.
pub fn tests() -> Vec<Trial> {
    let files = [
        // It takes longest: others go on beside it.
        load::tests(),
        vip::tests(),
        vip_ways::tests(),
        checks::tests(),
        https::tests(),
        udp::tests(),
        local::tests(),
        daemon::tests(),
        flows::tests(),
        quorum::tests(),
        sockets::tests(),
        weights::tests(),
        neighbours::tests(),
        interference::tests(),
        cost::tests(),
    ];
    files.into_iter().flatten().collect()
}

/// Between two probes.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a probe waits.
const TIMEOUT: Duration = Duration::from_millis(300);
/// Probes that make a real server come.
const RISE: u32 = 2;
/// Probes that make it go.
const FALL: u32 = 3;
/// Until it is seen, on a machine that has other things to do.
const SLACK: Duration = Duration::from_millis(1500);

/// How soon a real server that has failed must be out.
pub const DETECTED: Duration = deadline(FALL);
/// How soon one that is well must be in.
const RECOVERED: Duration = deadline(RISE);
/// How soon anything else must have happened.
const SOON: Duration = Duration::from_secs(5);

/// What the log says of a real server that comes.
const CHECKS_PASS: &str = "up: health checks pass";

const fn deadline(probes: u32) -> Duration {
    let probed = INTERVAL.as_millis() as u64 * probes as u64;
    Duration::from_millis(probed + (TIMEOUT.as_millis() + SLACK.as_millis()) as u64)
}

/// A check as the file has it, made often; `check` is what is asked, and whatever else it has.
pub fn often(check: &str) -> String {
    let (interval, timeout) = (INTERVAL.as_millis(), TIMEOUT.as_millis());
    format!("{{ {check}, interval: {interval}ms, timeout: {timeout}ms, rise: {RISE}, fall: {FALL}, jitter: 0 }}")
}

/// The page that can be ill, by the way clients take.
fn page_check() -> String {
    often("http: { path: /healthz }")
}

/// Waits until these real servers of a service are up.
fn wait_up(director: &Director, port: u16, servers: impl IntoIterator<Item = impl Into<IpAddr>>) -> Result<()> {
    for server in servers {
        director.wait_for(port, server, "up", SOON)?;
    }
    Ok(())
}

/// A site whose real servers are all up.
pub fn healthy<Server>(cluster: impl Into<Cluster>, serve: impl Fn(&Host) -> Result<Server>) -> Result<Site<Server>> {
    let cluster = cluster.into();
    let site = Site::start(cluster.clone(), serve)?;
    for service in &cluster.services {
        let servers = service.servers.iter().map(|server| server.address);
        wait_up(&site.director, service.port, servers)?;
    }
    Ok(site)
}

/// A web service whose real servers are all up by the page that can be ill.
fn healthy_web(service: Service) -> Result<Site<Nginx>> {
    healthy(service.with("health", page_check()), Nginx::start)
}

/// That a real server goes for a reason when something happens to it, and comes when that is over; soon enough.
fn expect_out_and_in(
    director: &Director,
    port: u16,
    server: impl Into<IpAddr>,
    reason: &str,
    fail: impl FnOnce() -> Result<()>,
    mend: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let server = server.into();
    fail()?;
    director.wait_down(port, server, reason, DETECTED)?;
    expect_said(director, &format!("real server {server} down: "), reason)?;
    mend()?;
    let state = director.wait_for(port, server, "up", RECOVERED)?;
    ensure!(state.reason.is_none(), "{state:?}");
    Ok(())
}

/// That the log has a line with both of these.
fn expect_said(director: &Director, one: &str, other: &str) -> Result<()> {
    let log = director.log();
    let said = log.lines().any(|line| line.contains(one) && line.contains(other));
    ensure!(said, "no line with {one:?} and {other:?} in\n{log}");
    Ok(())
}

/// Whether a log says that any real server has come or gone.
fn tells_of_flaps(log: &str) -> bool {
    [" down: ", CHECKS_PASS, "quorum"]
        .iter()
        .any(|words| log.contains(words))
}
