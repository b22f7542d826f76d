//! Flows with a record: who gets one, and what it is good for.

use std::time::Duration;

use anyhow::{Result, ensure};
use lbx_tests::packet::{ACK, SYN};

use crate::{
    cluster::{self, DNS, MAGLEV, RR, SECOND, SYSLOG, WRR, flow},
    director::{Director, To},
    harness::{Fixture, free_story, story},
    outcome::Counts::{Continues, Ends, Opens},
};

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    vec![
        story("new connections take the turns of rr one after the other", turns_of_rr),
        story("new connections take the turns of wrr as the weights say", turns_of_wrr),
        story(
            "a repeated SYN goes to the same real server and takes no turn",
            repeated_syn,
        ),
        story("data follow their SYN, not the owner of their slot", data_follow),
        story("a connection of rr stays in one record from SYN to FIN", one_record),
        story("after a FIN a SYN from the same port is scheduled anew", syn_after_fin),
        story("after a RST a SYN from the same port is scheduled anew", syn_after_rst),
        story(
            "a SYN within an established connection is sent to its real server",
            syn_within,
        ),
        story("packets after a forged RST still follow the record", forged_rst),
        story("an ACK that rr does not know is recorded with the owner", adopted),
        story("SYN+ACK, RST and FIN without a record leave none", no_record),
        story(
            "a flow of UDP is recorded by rr and its datagrams stay together",
            udp_flow,
        ),
        story("a record that has expired is not followed", expired),
        free_story("a record expires by the kernel's clock", expired_by_the_kernel),
        story(
            "maglev sends every flow where the planned table says, and records none",
            maglev_agrees,
        ),
        free_story(
            "maglev sends flows to the same real servers before its slots have come to rest",
            maglev_at_start,
        ),
        story("maglev over UDP records no flow", maglev_udp),
        story("two services on one VIP do not share turns or flows", two_services),
        story("two VIPs with the same port do not share turns or flows", two_vips),
        story("flows of two clients from the same port are two", two_clients),
    ]
}

fn turns_of_rr(director: &mut Director) -> Result<()> {
    for n in 0..20u16 {
        let flow = flow(RR, 40_000 + n);
        director.sends(flow, &flow.syn(), To::Rs((n % 2) as u8 + 1), Opens)?;
    }
    director.has_records(20)
}

fn turns_of_wrr(director: &mut Director) -> Result<()> {
    let turns = [1, 1, 2, 1].into_iter().cycle();
    for (n, server) in (0..20).zip(turns) {
        let flow = flow(WRR, 40_000 + n);
        director.sends(flow, &flow.syn(), To::Rs(server), Opens)?;
    }
    director.has_records(20)
}

fn repeated_syn(director: &mut Director) -> Result<()> {
    let (first, second) = (flow(RR, 40_000), flow(RR, 40_001));
    director.sends(first, &first.syn(), To::Rs(1), Opens)?;
    director.sends(first, &first.syn(), To::Rs(1), Continues)?;
    director.sends(first, &first.syn(), To::Rs(1), Continues)?;
    director.sends(second, &second.syn(), To::Rs(2), Opens)
}

fn data_follow(director: &mut Director) -> Result<()> {
    let flow = director.flow_of(RR, 1, false)?;
    director.sends(flow, &flow.syn(), To::Rs(1), Opens)?;
    director.sends(flow, &flow.ack(), To::Rs(1), Continues)?;
    director.sends(flow, &flow.data(), To::Rs(1), Continues)?;
    director.sends(flow, &flow.data().payload(&[0x5a; 1_460]), To::Rs(1), Continues)
}

fn one_record(director: &mut Director) -> Result<()> {
    let flow = director.flow_of(RR, 1, false)?;
    let number = director.tables.services[&RR].service_number;
    let of_first = |director: &Director| director.scan().flows.get(&(number, 0)).copied().unwrap_or_default();
    director.sends(flow, &flow.syn(), To::Rs(1), Opens)?;
    ensure!(
        (of_first(director).active, of_first(director).inactive) == (0, 1),
        "half-open"
    );
    for frame in [flow.ack(), flow.data(), flow.data()] {
        director.sends(flow, &frame, To::Rs(1), Continues)?;
        ensure!(
            (of_first(director).active, of_first(director).inactive) == (1, 0),
            "established"
        );
    }
    director.sends(flow, &flow.fin(), To::Rs(1), Ends)?;
    ensure!(
        (of_first(director).active, of_first(director).inactive) == (0, 1),
        "closing"
    );
    director.has_records(1)
}

fn syn_after_fin(director: &mut Director) -> Result<()> {
    let flow = director.flow_of(RR, 2, false)?;
    director.sends(flow, &flow.syn(), To::Rs(1), Opens)?;
    director.sends(flow, &flow.data(), To::Rs(1), Continues)?;
    director.sends(flow, &flow.fin(), To::Rs(1), Ends)?;
    director.sends(flow, &flow.syn(), To::Rs(2), Opens)?;
    director.sends(flow, &flow.data(), To::Rs(2), Continues)?;
    director.has_records(1)
}

fn syn_after_rst(director: &mut Director) -> Result<()> {
    let flow = director.flow_of(RR, 2, false)?;
    director.sends(flow, &flow.syn(), To::Rs(1), Opens)?;
    director.sends(flow, &flow.rst(), To::Rs(1), Ends)?;
    director.sends(flow, &flow.syn(), To::Rs(2), Opens)?;
    director.sends(flow, &flow.data(), To::Rs(2), Continues)?;
    director.has_records(1)
}

fn syn_within(director: &mut Director) -> Result<()> {
    let flow = director.flow_of(RR, 1, false)?;
    director.sends(flow, &flow.syn(), To::Rs(1), Opens)?;
    director.sends(flow, &flow.data(), To::Rs(1), Continues)?;
    director.sends(flow, &flow.syn(), To::Rs(1), Continues)?;
    director.sends(flow, &flow.data(), To::Rs(1), Continues)
}

fn forged_rst(director: &mut Director) -> Result<()> {
    let flow = director.flow_of(RR, 1, false)?;
    director.sends(flow, &flow.syn(), To::Rs(1), Opens)?;
    director.sends(flow, &flow.data(), To::Rs(1), Continues)?;
    director.sends(flow, &flow.rst(), To::Rs(1), Ends)?;
    director.sends(flow, &flow.data(), To::Rs(1), Continues)?;
    // Alive again: the SYN takes no turn.
    director.sends(flow, &flow.syn(), To::Rs(1), Continues)
}

fn adopted(director: &mut Director) -> Result<()> {
    let flow = flow(RR, 40_000);
    director.sends(flow, &flow.ack(), To::Owner, Continues)?;
    director.has_records(1)?;
    // A connection that is known does not open with its next SYN.
    director.sends(flow, &flow.syn(), To::Owner, Continues)
}

fn no_record(director: &mut Director) -> Result<()> {
    for service in [RR, MAGLEV] {
        let flow = flow(service, 40_000);
        director.sends(flow, &flow.tcp(SYN | ACK), To::Owner, Continues)?;
        director.sends(flow, &flow.rst(), To::Owner, Ends)?;
        director.sends(flow, &flow.fin(), To::Owner, Ends)?;
    }
    director.has_records(0)
}

fn udp_flow(director: &mut Director) -> Result<()> {
    let first = director.flow_of(DNS, 1, false)?;
    let second = flow(DNS, 40_000);
    director.sends(first, &first.datagram(), To::Rs(1), Opens)?;
    director.sends(first, &first.datagram(), To::Rs(1), Continues)?;
    director.sends(second, &second.datagram(), To::Rs(2), Opens)?;
    director.sends(first, &first.datagram(), To::Rs(1), Continues)?;
    director.has_records(2)
}

fn expired(director: &mut Director) -> Result<()> {
    let flow = flow(DNS, 40_000);
    let timeout = director.loaded(DNS).policy.timeouts.udp.into();
    director.sends(flow, &flow.datagram(), To::Rs(1), Opens)?;
    director.pass(timeout)?;
    director.sends(flow, &flow.datagram(), To::Rs(1), Continues)?;
    director.pass(timeout + 1)?;
    director.sends(flow, &flow.datagram(), To::Rs(2), Opens)
}

fn expired_by_the_kernel() -> Result<()> {
    let mut director = Director::real(cluster::services())?;
    director.desired.timeouts.udp_seconds = 1;
    director.plan()?;
    let flow = flow(DNS, 40_000);
    director.sends(flow, &flow.datagram(), To::Rs(1), Opens)?;
    // One tick (1.07 s) of idle time is allowed; in this time the clock ticks twice at least.
    std::thread::sleep(Duration::from_millis(2_200));
    director.sends(flow, &flow.datagram(), To::Rs(2), Opens)
}

fn maglev_agrees(director: &mut Director) -> Result<()> {
    let slots = director.tables.services[&MAGLEV].slots.as_slice();
    ensure!(
        slots.iter().all(|slot| !slot.has_records && slot.current == slot.owner),
        "at rest"
    );
    many_flows(director)
}

fn maglev_at_start() -> Result<()> {
    let mut director = Director::real(cluster::services())?;
    director.weigh(MAGLEV, 3, 0)?;
    director.weigh(MAGLEV, 3, 1)?;
    let slots = director.tables.services[&MAGLEV].slots.as_slice();
    ensure!(slots.iter().any(|slot| slot.has_records), "on the way to rest");
    many_flows(&director)
}

/// Flows all over the table go where the planned table says, and leave no record.
fn many_flows(director: &Director) -> Result<()> {
    for port in (1_024..65_000).step_by(997) {
        let flow = flow(MAGLEV, port);
        let connection = [
            (flow.syn(), Opens),
            (flow.ack(), Continues),
            (flow.data(), Continues),
            (flow.fin(), Ends),
        ];
        for (frame, counts) in connection {
            director.sends(flow, &frame, To::Current, counts)?;
        }
    }
    director.has_records(0)
}

fn maglev_udp(director: &mut Director) -> Result<()> {
    for port in (1_024..65_000).step_by(997) {
        let flow = flow(SYSLOG, port);
        director.sends(flow, &flow.datagram(), To::Current, Continues)?;
        director.sends(flow, &flow.datagram(), To::Current, Continues)?;
    }
    director.has_records(0)
}

fn two_services(director: &mut Director) -> Result<()> {
    let (http, other, dns) = (flow(RR, 40_000), flow(WRR, 40_000), flow(DNS, 40_000));
    director.sends(http, &http.syn(), To::Rs(1), Opens)?;
    director.sends(other, &other.syn(), To::Rs(1), Opens)?;
    director.sends(dns, &dns.datagram(), To::Rs(1), Opens)?;
    director.has_records(3)
}

fn two_vips(director: &mut Director) -> Result<()> {
    let before = flow(SECOND, 39_999);
    director.sends(before, &before.syn(), To::Rs(1), Opens)?;
    let (one, two) = (flow(RR, 40_000), flow(SECOND, 40_000));
    director.sends(one, &one.syn(), To::Rs(1), Opens)?;
    director.sends(two, &two.syn(), To::Rs(2), Opens)?;
    director.sends(one, &one.data(), To::Rs(1), Continues)?;
    director.sends(two, &two.data(), To::Rs(2), Continues)?;
    director.has_records(3)
}

fn two_clients(director: &mut Director) -> Result<()> {
    let one = flow(RR, 40_000);
    let two = one.from([192, 168, 1, 11]);
    director.sends(one, &one.syn(), To::Rs(1), Opens)?;
    director.sends(two, &two.syn(), To::Rs(2), Opens)?;
    director.sends(one, &one.data(), To::Rs(1), Continues)?;
    director.sends(two, &two.data(), To::Rs(2), Continues)?;
    director.has_records(2)
}
