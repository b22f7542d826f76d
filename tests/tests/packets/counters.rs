//! What the counters say after a known sequence: plain numbers, not what another frame would have counted.

use anyhow::{Context as _, Result, ensure};
use aya::programs::Xdp;
use lbx::desired::VirtualService;
use lbx_common::{counters::Traffic, maps};
use lbx_tests::{lab::rip, mac::Mac, packet::Frame};

use crate::{
    cluster::{DNS, Flow, LO, MAGLEV, RR, flow},
    director::{Director, To},
    harness::{Fixture, story},
    outcome::{
        Action,
        Counts::{Continues, Opens},
    },
};

/// Bytes of an IP and a TCP header.
const BARE: u64 = 40;
/// Bytes of what [`Flow::data`] carries.
const REQUEST: u64 = 18;

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    vec![
        story(
            "packets, bytes, connections and endings of rr add up by service and real server",
            of_rr,
        ),
        story("maglev counts every SYN as a connection, a repeated one too", of_maglev),
        story("datagrams of rr count one connection a flow", of_udp),
        story("a real server that is lost and found goes on counting", lost_and_found),
        story("a service that is removed and comes back counts from zero", from_zero),
        story("what is dropped or passed counts for nobody", dropped),
        story(
            "the program that traces decides and counts as the one that does not",
            tracing,
        ),
    ]
}

fn traffic(packets: u64, bytes: u64, connections: u64, endings: u64) -> Traffic {
    Traffic {
        packets,
        bytes,
        connections,
        fin_rst_packets: endings,
    }
}

fn run(director: &Director, frames: &[Frame]) -> Result<()> {
    frames.iter().try_for_each(|frame| director.run(LO, frame).map(drop))
}

fn of_service(director: &Director, service: VirtualService) -> Result<Traffic> {
    Ok(director
        .dataplane()
        .service_traffic(director.tables.services[&service].service_number)?)
}

fn of_server(director: &Director, service: VirtualService, number: u8) -> Result<Traffic> {
    let members = &director.tables.services[&service].backends;
    let member = members.values().find(|member| member.address == rip(number));
    Ok(director
        .dataplane()
        .backend_traffic(member.context("no such server")?.counter_index)?)
}

fn check(what: &str, found: Traffic, expected: Traffic) -> Result<()> {
    ensure!(found == expected, "{what}: {found:?} instead of {expected:?}");
    Ok(())
}

/// Connects, asks twice and closes.
fn visit(flow: Flow) -> [Frame; 6] {
    [flow.syn(), flow.ack(), flow.data(), flow.data(), flow.fin(), flow.ack()]
}

fn of_rr(director: &mut Director) -> Result<()> {
    // rs1, rs2, rs1: the third is broken off after its SYN.
    run(director, &visit(flow(RR, 40_000)))?;
    run(director, &visit(flow(RR, 40_001)))?;
    run(director, &[flow(RR, 40_002).syn(), flow(RR, 40_002).rst()])?;
    let visit = 6 * BARE + 2 * REQUEST;
    check("rs1", of_server(director, RR, 1)?, traffic(8, visit + 2 * BARE, 2, 2))?;
    check("rs2", of_server(director, RR, 2)?, traffic(6, visit, 1, 1))?;
    check(
        "service",
        of_service(director, RR)?,
        traffic(14, 2 * visit + 2 * BARE, 3, 3),
    )?;
    check("others", of_service(director, MAGLEV)?, Traffic::default())
}

fn of_maglev(director: &mut Director) -> Result<()> {
    let flow = flow(MAGLEV, 40_000);
    run(director, &[flow.syn(), flow.syn(), flow.data(), flow.fin(), flow.fin()])?;
    let expected = traffic(5, 5 * BARE + REQUEST, 2, 2);
    check("service", of_service(director, MAGLEV)?, expected)
}

fn of_udp(director: &mut Director) -> Result<()> {
    // IP and UDP header.
    const EMPTY: u64 = 28;
    let datagram = |port, length| flow(DNS, port).datagram().payload(&vec![0; length]);
    run(
        director,
        &[
            datagram(40_000, 0).padded(),
            datagram(40_000, 100),
            datagram(40_001, 1_472),
        ],
    )?;
    check("rs1", of_server(director, DNS, 1)?, traffic(2, 2 * EMPTY + 100, 1, 0))?;
    check("rs2", of_server(director, DNS, 2)?, traffic(1, 1_500, 1, 0))?;
    check(
        "service",
        of_service(director, DNS)?,
        traffic(3, 2 * EMPTY + 1_600, 2, 0),
    )
}

fn lost_and_found(director: &mut Director) -> Result<()> {
    let syn = |port| flow(RR, port).syn();
    run(director, &[syn(40_000)])?;
    director.lose(RR, 1)?;
    run(director, &[syn(40_001), syn(40_002)])?;
    director.find(RR, 1)?;
    run(director, &[syn(40_003), syn(40_004)])?;
    check("rs1", of_server(director, RR, 1)?, traffic(2, 2 * BARE, 2, 0))?;
    check("rs2", of_server(director, RR, 2)?, traffic(3, 3 * BARE, 3, 0))?;
    check("service", of_service(director, RR)?, traffic(5, 5 * BARE, 5, 0))
}

fn from_zero(director: &mut Director) -> Result<()> {
    run(director, &visit(flow(RR, 40_000)))?;
    let wanted = director.desired.clone();
    director.remove(RR)?;
    director.desired = wanted;
    director.plan()?;
    check("service", of_service(director, RR)?, Traffic::default())?;
    check("rs1", of_server(director, RR, 1)?, Traffic::default())
}

fn dropped(director: &mut Director) -> Result<()> {
    let flow = flow(RR, 40_000);
    run(
        director,
        &[flow.syn().lying_version(5), flow.syn().lying_data_offset(4)],
    )?;
    run(director, &[flow.syn().sent_to(Mac::BROADCAST)])?;
    check("service", of_service(director, RR)?, Traffic::default())
}

fn tracing(director: &mut Director) -> Result<()> {
    let mut other = director.dataplane().load_xdp_with_tracing()?;
    let program: &mut Xdp = other.program_mut(maps::XDP_PROGRAM).context("no program")?.try_into()?;
    let flow = director.flow_of(RR, 1, false)?;
    let outcome = director.run_program(program, LO, &flow.syn())?;
    ensure!(outcome.action == Action::Tx, "{:?}", outcome.action);
    check("rs1", of_server(director, RR, 1)?, traffic(1, BARE, 1, 0))?;
    // The record and the cursor are the same.
    director.sends(flow, &flow.data(), To::Rs(1), Continues)?;
    let next = director.flow(RR, |other| other != flow)?;
    director.sends(next, &next.syn(), To::Rs(2), Opens)
}
