//! Clients of whom a connection lives: they persist as long, and a minute longer at most, as in IPVS.

use anyhow::{Result, ensure};
use lbx::{
    desired::{Scheduler, ServerState, VirtualService},
    tables::templates::REARM_TICKS,
};

use super::{CLIENT, IN_NETWORK, OTHER, RADIUS, WEB, WEB6, cluster, from, persistence, story};
use crate::{
    cluster::Flow,
    director::{Director, To},
    harness::{Fixture, story_of},
    outcome::Counts::{Continues, Ends, Opens},
};

/// Ticks between two scans of the daemon.
const SCAN_TICKS: u32 = 2;
/// Seconds: so short that it ends long before an idle connection does.
const SHORT: u16 = 5;

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    let mut all = Vec::new();
    for scheduler in [Scheduler::Rr, Scheduler::Wlc, Scheduler::Mh, Scheduler::Maglev] {
        all.push(story_of(
            "a client stays with its real server while a connection lives",
            cluster,
            move |director| idle_connection(director, scheduler),
        ));
    }
    all.extend([
        story("a connection of a network's client keeps the network", network),
        story("a connection of an IPv6 network's client keeps the network", network6),
        story("a flow of datagrams keeps its client", datagrams),
        story(
            "a single datagram keeps its client as long as it is recorded",
            single_datagram,
        ),
        story("a client without a connection is forgotten a minute later", forgotten),
        story("a connection to another real server keeps nobody", other_server),
        story("a connection keeps its client with a real server that drains", draining),
        story(
            "a connection keeps no client where draining real servers lose theirs",
            left,
        ),
        story(
            "a connection keeps no client with a real server out of the file",
            taken_out,
        ),
        story("a connection keeps no client with a real server that is down", down),
        story(
            "a client that expired while no daemon ran is known to the next one",
            adopted,
        ),
        story(
            "a connection that begins does not shorten the time of a client",
            not_shortened,
        ),
    ]);
    all
}

/// Has a service persist for a short time only.
fn shorten(director: &mut Director, service: VirtualService) -> Result<()> {
    let prefix = director.service_mut(service)?.persistence.map(|before| before.prefix);
    let mut short = persistence(prefix.unwrap_or(32));
    short.timeout_seconds = SHORT;
    director.service_mut(service)?.persistence = Some(short);
    director.plan()
}

/// Lets time pass while the daemon scans.
fn pass_with_scans(director: &mut Director, ticks: u32) -> Result<()> {
    for _ in 0..ticks.div_ceil(SCAN_TICKS) {
        director.pass(SCAN_TICKS)?;
        director.age()?;
    }
    Ok(())
}

/// That a new connection, which would be scheduled elsewhere, goes to the n-th real server.
fn stays(director: &Director, flow: Flow, number: u8) -> Result<()> {
    let other = from([10, 77, 0, 1], flow.service, flow.client.port());
    if flow.service.vip.is_ipv4() {
        // A turn of the scheduler, so that the next would be another's.
        director.run(crate::cluster::LO, &other.syn())?;
    }
    director.opens(flow, To::Rs(number))
}

fn idle_connection(director: &mut Director, scheduler: Scheduler) -> Result<()> {
    shorten(director, WEB)?;
    director.reschedule(WEB, scheduler)?;
    let first = from(CLIENT, WEB, 40_000);
    let number = director.choice(first, &first.syn())?;
    director.sends(first, &first.ack(), To::Rs(number), Continues)?;
    // Where clients hash to a real server anyway: they would hash to another now.
    director.weigh(WEB, number, 0)?;
    pass_with_scans(director, 9)?;
    stays(director, from(CLIENT, WEB, 40_001), number)?;
    pass_with_scans(director, 5 * REARM_TICKS)?;
    stays(director, from(CLIENT, WEB, 40_002), number)?;
    director.sends(first, &first.data(), To::Rs(number), Continues)
}

fn network(director: &mut Director) -> Result<()> {
    shorten(director, OTHER)?;
    let [one, two] = IN_NETWORK;
    director.opens(from(one, OTHER, 40_000), To::Rs(1))?;
    pass_with_scans(director, 20)?;
    stays(director, from(two, OTHER, 40_000), 1)
}

fn network6(director: &mut Director) -> Result<()> {
    shorten(director, WEB6)?;
    let client = |network: u16, host| std::net::Ipv6Addr::new(0x2001, 0xdb8, 5, network, host, 0, 0, 1);
    director.opens(from(client(1, 7), WEB6, 40_000), To::Rs(1))?;
    pass_with_scans(director, 20)?;
    director.opens(from(client(1, 8), WEB6, 40_001), To::Rs(1))?;
    director.opens(from(client(2, 7), WEB6, 40_000), To::Rs(2))
}

fn datagrams(director: &mut Director) -> Result<()> {
    shorten(director, RADIUS)?;
    let flow = from(CLIENT, RADIUS, 40_000);
    director.sends(flow, &flow.datagram(), To::Rs(1), Opens)?;
    director.pass(2)?;
    director.sends(flow, &flow.datagram(), To::Rs(1), Continues)?;
    pass_with_scans(director, 100)?;
    let next = from(CLIENT, RADIUS, 40_001);
    director.sends(next, &next.datagram(), To::Rs(1), Opens)
}

fn single_datagram(director: &mut Director) -> Result<()> {
    shorten(director, RADIUS)?;
    let flow = from(CLIENT, RADIUS, 40_000);
    director.sends(flow, &flow.datagram(), To::Rs(1), Opens)?;
    pass_with_scans(director, 100)?;
    let next = from(CLIENT, RADIUS, 40_001);
    director.sends(next, &next.datagram(), To::Rs(1), Opens)
}

fn forgotten(director: &mut Director) -> Result<()> {
    shorten(director, WEB)?;
    let flow = from(CLIENT, WEB, 40_000);
    director.opens(flow, To::Rs(1))?;
    pass_with_scans(director, 50)?;
    director.sends(flow, &flow.rst(), To::Rs(1), Ends)?;
    let closed = u32::from(director.loaded(WEB).policy.timeouts.closed);
    pass_with_scans(director, closed + REARM_TICKS + 2 * SCAN_TICKS)?;
    director.has_records(0)?;
    director.opens(from(CLIENT, WEB, 40_001), To::Rs(2))
}

fn other_server(director: &mut Director) -> Result<()> {
    shorten(director, WEB)?;
    let old = from(CLIENT, WEB, 40_000);
    director.opens(old, To::Rs(1))?;
    // No daemon: the client is forgotten and goes elsewhere, with a connection that soon ends.
    director.pass(50)?;
    let next = from(CLIENT, WEB, 40_001);
    director.opens(next, To::Rs(2))?;
    director.sends(next, &next.rst(), To::Rs(2), Ends)?;
    pass_with_scans(director, 2 * REARM_TICKS)?;
    director.opens(from(CLIENT, WEB, 40_002), To::Rs(3))?;
    director.sends(old, &old.data(), To::Rs(1), Continues)
}

fn draining(director: &mut Director) -> Result<()> {
    shorten(director, WEB)?;
    director.opens(from(CLIENT, WEB, 40_000), To::Rs(1))?;
    director.weigh(WEB, 1, 0)?;
    pass_with_scans(director, 50)?;
    stays(director, from(CLIENT, WEB, 40_001), 1)
}

fn left(director: &mut Director) -> Result<()> {
    shorten(director, WEB)?;
    if let Some(persistence) = &mut director.service_mut(WEB)?.persistence {
        persistence.persist_while_draining = false;
    }
    let old = from(CLIENT, WEB, 40_000);
    director.opens(old, To::Rs(1))?;
    director.weigh(WEB, 1, 0)?;
    pass_with_scans(director, 50)?;
    let next = from(CLIENT, WEB, 40_001);
    let number = director.choice(next, &next.syn())?;
    ensure!(number != 1, "it drains");
    director.sends(next, &next.ack(), To::Rs(number), Continues)?;
    // There it stays, although its first connection lives and the first real server is back.
    director.weigh(WEB, 1, 1)?;
    pass_with_scans(director, 50)?;
    stays(director, from(CLIENT, WEB, 40_002), number)?;
    director.sends(old, &old.data(), To::Rs(1), Continues)
}

fn taken_out(director: &mut Director) -> Result<()> {
    shorten(director, WEB)?;
    let old = from(CLIENT, WEB, 40_000);
    director.opens(old, To::Rs(1))?;
    director.service_mut(WEB)?.servers.remove(0);
    director.plan()?;
    pass_with_scans(director, 20)?;
    director.has_records(1)?;
    let next = from(CLIENT, WEB, 40_001);
    ensure!(director.choice(next, &next.syn())? != 1, "the file no longer names it");
    director.sends(old, &old.data(), To::Rs(1), Continues)
}

fn down(director: &mut Director) -> Result<()> {
    shorten(director, WEB)?;
    director.opens(from(CLIENT, WEB, 40_000), To::Rs(1))?;
    director.stand(WEB, 1, ServerState::Down(lbx::desired::OnFailure::Rehash))?;
    pass_with_scans(director, 20)?;
    director.has_records(0)
}

fn adopted(director: &mut Director) -> Result<()> {
    shorten(director, WEB)?;
    let old = from(CLIENT, WEB, 40_000);
    director.opens(old, To::Rs(1))?;
    director.pass(200)?;
    director.readopt()?;
    stays(director, from(CLIENT, WEB, 40_001), 1)?;
    pass_with_scans(director, 100)?;
    stays(director, from(CLIENT, WEB, 40_002), 1)
}

fn not_shortened(director: &mut Director) -> Result<()> {
    shorten(director, WEB)?;
    director.opens(from(CLIENT, WEB, 40_000), To::Rs(1))?;
    pass_with_scans(director, 2)?;
    director.opens(from(CLIENT, WEB, 40_001), To::Rs(1))?;
    // The daemon may be dead for as long.
    director.pass(REARM_TICKS - 2)?;
    director.opens(from(CLIENT, WEB, 40_002), To::Rs(1))
}
