//! IPv6: the same as IPv4 with other addresses, in a table of records of its own.

use std::net::Ipv6Addr;

use anyhow::{Result, ensure};
use lbx::desired::{
    Protocol::{Tcp, Udp},
    Scheduler, Service, VirtualService,
};
use lbx_common::drops::DropReason::NoBackend;
use lbx_tests::packet::{ACK, Frame, SYN};

use crate::{
    cluster::{CLIENT6, RR, balanced, flow, services, tcp6, udp6},
    director::{Director, To},
    harness::{Fixture, story_of},
    outcome::Counts::{self, Continues, Ends, Opens},
};

const HTTP: VirtualService = tcp6(80);
const TLS: VirtualService = tcp6(443);
const DNS: VirtualService = udp6(53);
const SYSLOG: VirtualService = udp6(514);

/// rr and maglev, TCP and UDP.
fn cluster() -> Vec<Service> {
    const THREE: &[(u8, u16)] = &[(1, 1), (2, 1), (3, 1)];
    vec![
        balanced(HTTP, Scheduler::Rr, &[(1, 1), (2, 1)]),
        balanced(TLS, Scheduler::Maglev, THREE),
        balanced(DNS, Scheduler::Rr, &[(1, 1), (2, 1)]),
        balanced(SYSLOG, Scheduler::Maglev, THREE),
    ]
}

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    [frames(), flows(), changes(), schedulers()]
        .into_iter()
        .flatten()
        .collect()
}

fn story(says: &'static str, plays: fn(&mut Director) -> Result<()>) -> Fixture {
    story_of(says, cluster, plays)
}

/// A frame of a flow of the first port that is sent on.
fn sends(says: &'static str, service: VirtualService, frame: Frame, to: To, counts: Counts) -> Fixture {
    story_of(says, cluster, move |director| {
        director.sends(flow(service, 40_000), &frame, to, counts)
    })
}

fn frames() -> Vec<Fixture> {
    let (http, tls) = (flow(HTTP, 40_000), flow(TLS, 40_000));
    let (dns, syslog) = (flow(DNS, 40_000), flow(SYSLOG, 40_000));
    let owned = |says, frame| sends(says, TLS, frame, To::Owner, Continues);
    vec![
        sends("a SYN takes the first turn of rr", HTTP, http.syn(), To::Rs(1), Opens),
        sends(
            "data rr does not know go to the owner",
            HTTP,
            http.data(),
            To::Owner,
            Continues,
        ),
        sends(
            "a RST rr does not know goes to the owner",
            HTTP,
            http.rst(),
            To::Owner,
            Ends,
        ),
        sends("a SYN goes where maglev hashes it", TLS, tls.syn(), To::Owner, Opens),
        sends("a FIN goes where maglev hashes it", TLS, tls.fin(), To::Owner, Ends),
        sends("a datagram takes a turn of rr", DNS, dns.datagram(), To::Rs(1), Opens),
        sends(
            "a datagram goes where maglev hashes it",
            SYSLOG,
            syslog.datagram(),
            To::Owner,
            Continues,
        ),
        owned("a hop limit of 1 is left alone", tls.data().ttl(1)),
        owned("a hop limit of 0 is left alone", tls.data().ttl(0)),
        owned("the traffic class is left alone", tls.data().tos(0xbb)),
        owned(
            "TCP options stay",
            tls.ack().tcp_options(&[1; 40]).payload(b"behind them"),
        ),
        owned(
            "bytes behind the packet belong to the frame alone",
            tls.data().lying_total_length(22),
        ),
        owned("a wrong TCP checksum stays wrong", tls.data().with_checksum(0xdead)),
        owned("a packet of 1,500 bytes is sent on", tls.ack().payload(&[0x5a; 1_440])),
        owned(
            "a packet of 9,000 bytes, in three buffers, is sent on",
            tls.ack().payload(&[0x5a; 8_940]),
        ),
    ]
}

fn flows() -> Vec<Fixture> {
    vec![
        story("connections take the turns of rr one after the other", turns),
        story("a connection stays in one record from SYN to FIN", one_record),
        story("after a FIN a SYN from the same port is scheduled anew", after_fin),
        story(
            "a flow of UDP is recorded by rr and its datagrams stay together",
            udp_flow,
        ),
        story("SYN+ACK, RST and FIN without a record leave none", no_record),
        story("an ACK that rr does not know is recorded with the owner", adopted),
        story("a record that has expired is not followed", expired),
        story(
            "maglev sends every flow where the planned table says, and records none",
            many_flows,
        ),
        story("clients that differ in any part of their address are two", alike),
        story_of(
            "a service of each family on one port do not share turns or flows",
            both,
            two_families,
        ),
    ]
}

fn changes() -> Vec<Fixture> {
    vec![
        story("a flow without record stays when its server drains", drained_owner),
        story(
            "a UDP flow without record stays when its server drains",
            drained_owner_udp,
        ),
        story("rr gives a draining server its old flows only", drained_rr),
        story("when all drain, what is new is dropped", all_drain),
        story("flows of a server that fails go elsewhere and stay there", failed_rr),
        story(
            "flows without record of a server that fails follow the hash",
            failed_maglev,
        ),
        story("after a timeout flows without record follow the slot", closed_window),
        story("flows stay when rr becomes maglev and maglev rr", rescheduled),
    ]
}

/// Whom connections of which the client sends SYN and ACK are given, one after the other.
fn schedulers() -> Vec<Fixture> {
    const EVEN: &[(u8, u16)] = &[(1, 1), (2, 1), (3, 1)];
    let order = |says, scheduler, weights: &'static [(u8, u16)], numbers: &'static [u8]| {
        let services = move || vec![balanced(HTTP, scheduler, weights)];
        story_of(says, services, move |director| {
            director.opens_in_turn(HTTP, 40_000.., numbers)
        })
    };
    let hashed = |says, scheduler| {
        let services = move || vec![balanced(HTTP, scheduler, EVEN)];
        story_of(says, services, many_hashed)
    };
    vec![
        order(
            "wrr gives turns by weight",
            Scheduler::Wrr,
            &[(1, 3), (2, 1)],
            &[1, 1, 2, 1, 1],
        ),
        order("lc goes by connections", Scheduler::Lc, EVEN, &[1, 2, 3, 1, 2, 3]),
        order(
            "wlc goes by connections and weight",
            Scheduler::Wlc,
            &[(1, 2), (2, 1)],
            &[1, 2, 1, 1, 2],
        ),
        order("sed goes by delay", Scheduler::Sed, &[(1, 1), (2, 3)], &[2, 2, 1, 2]),
        order("nq lets nobody idle", Scheduler::Nq, &[(1, 1), (2, 3)], &[1, 2, 2, 2]),
        order(
            "fo goes to the heaviest",
            Scheduler::Fo,
            &[(1, 1), (2, 3)],
            &[2, 2, 2, 2, 2],
        ),
        order("ovf overflows", Scheduler::Ovf, &[(1, 1), (2, 2)], &[2, 2, 2, 1, 1]),
        story_of(
            "p2c goes to the less loaded of two",
            || vec![balanced(HTTP, Scheduler::P2c, &[(1, 1), (2, 1)])],
            less_loaded,
        ),
        hashed("sh goes by hash", Scheduler::Sh),
        hashed("mh goes by hash", Scheduler::Mh),
        hashed("dh goes by hash", Scheduler::Dh),
    ]
}

fn many_hashed(director: &mut Director) -> Result<()> {
    for port in (1_024..65_000).step_by(4_999) {
        director.opens(flow(HTTP, port), To::Current)?;
    }
    director.has_records(0)
}

/// Of two that are equally loaded either may be taken, then it is the other's turn.
fn less_loaded(director: &mut Director) -> Result<()> {
    for port in (40_000..40_020).step_by(2) {
        let (first, second) = (flow(HTTP, port), flow(HTTP, port + 1));
        let taken = director.choice(first, &first.syn())?;
        director.sends(first, &first.ack(), To::Rs(taken), Continues)?;
        director.opens(second, To::Rs(3 - taken))?;
    }
    Ok(())
}

fn turns(director: &mut Director) -> Result<()> {
    director.opens_in_turn(HTTP, 40_000.., &[1, 2, 1, 2, 1, 2])?;
    director.has_records(6)
}

fn one_record(director: &mut Director) -> Result<()> {
    let flow = director.flow_of(HTTP, 1, false)?;
    director.sends(flow, &flow.syn(), To::Rs(1), Opens)?;
    director.has_load(HTTP, 1, 0, 1)?;
    for frame in [flow.ack(), flow.data(), flow.data()] {
        director.sends(flow, &frame, To::Rs(1), Continues)?;
        director.has_load(HTTP, 1, 1, 0)?;
    }
    director.sends(flow, &flow.fin(), To::Rs(1), Ends)?;
    director.has_load(HTTP, 1, 0, 1)?;
    director.has_records(1)
}

fn after_fin(director: &mut Director) -> Result<()> {
    let flow = director.flow_of(HTTP, 2, false)?;
    director.opens(flow, To::Rs(1))?;
    director.sends(flow, &flow.fin(), To::Rs(1), Ends)?;
    director.opens(flow, To::Rs(2))?;
    director.has_records(1)
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

fn no_record(director: &mut Director) -> Result<()> {
    for service in [HTTP, TLS] {
        let flow = flow(service, 40_000);
        director.sends(flow, &flow.tcp(SYN | ACK), To::Owner, Continues)?;
        director.sends(flow, &flow.rst(), To::Owner, Ends)?;
        director.sends(flow, &flow.fin(), To::Owner, Ends)?;
    }
    director.has_records(0)
}

fn adopted(director: &mut Director) -> Result<()> {
    let flow = flow(HTTP, 40_000);
    director.sends(flow, &flow.ack(), To::Owner, Continues)?;
    director.has_records(1)?;
    director.sends(flow, &flow.syn(), To::Owner, Continues)
}

fn expired(director: &mut Director) -> Result<()> {
    let flow = flow(DNS, 40_000);
    let timeout = director.loaded(DNS).window_ticks(Udp);
    director.sends(flow, &flow.datagram(), To::Rs(1), Opens)?;
    director.pass(timeout)?;
    director.sends(flow, &flow.datagram(), To::Rs(1), Continues)?;
    director.pass(timeout + 1)?;
    director.sends(flow, &flow.datagram(), To::Rs(2), Opens)
}

fn many_flows(director: &mut Director) -> Result<()> {
    for port in (1_024..65_000).step_by(997) {
        let (tls, syslog) = (flow(TLS, port), flow(SYSLOG, port));
        director.opens(tls, To::Current)?;
        director.sends(tls, &tls.fin(), To::Current, Ends)?;
        director.sends(syslog, &syslog.datagram(), To::Current, Continues)?;
    }
    director.has_records(0)
}

/// Every record is found again, however little of the addresses differs.
fn alike(director: &mut Director) -> Result<()> {
    let bits = CLIENT6.to_bits();
    let clients = [0, 1, 31, 32, 63, 64, 65, 100, 120].map(|bit| Ipv6Addr::from_bits(bits ^ 1 << bit));
    let flows = clients.map(|client| flow(HTTP, 40_000).from(client));
    let turns = || (0..).map(|n| To::Rs(n % 2 + 1));
    for (flow, to) in flows.into_iter().zip(turns()) {
        director.opens(flow, to)?;
    }
    for (flow, to) in flows.into_iter().zip(turns()) {
        director.sends(flow, &flow.data(), to, Continues)?;
    }
    director.has_records(flows.len() as u64)
}

fn both() -> Vec<Service> {
    [cluster(), services()].concat()
}

fn two_families(director: &mut Director) -> Result<()> {
    director.opens_in_turn(HTTP, 39_999.., &[1])?;
    let (four, six) = (flow(RR, 40_000), flow(HTTP, 40_000));
    director.opens(four, To::Rs(1))?;
    director.opens(six, To::Rs(2))?;
    director.sends(four, &four.data(), To::Rs(1), Continues)?;
    director.sends(six, &six.data(), To::Rs(2), Continues)?;
    director.has_records(3)
}

fn drained_owner(director: &mut Director) -> Result<()> {
    let old = director.flow_of(TLS, 3, true)?;
    director.sends(old, &old.data(), To::Rs(3), Continues)?;
    director.has_records(0)?;
    director.weigh(TLS, 3, 0)?;
    director.sends(old, &old.data(), To::Rs(3), Continues)?;
    director.has_records(1)?;
    director.sends(old, &old.fin(), To::Rs(3), Ends)
}

fn drained_owner_udp(director: &mut Director) -> Result<()> {
    let old = director.flow_of(SYSLOG, 3, true)?;
    director.weigh(SYSLOG, 3, 0)?;
    director.sends(old, &old.datagram(), To::Rs(3), Continues)?;
    director.has_records(1)?;
    director.sends(old, &old.datagram(), To::Rs(3), Continues)
}

fn drained_rr(director: &mut Director) -> Result<()> {
    let old = flow(HTTP, 39_999);
    director.opens(old, To::Rs(1))?;
    director.weigh(HTTP, 1, 0)?;
    director.opens_in_turn(HTTP, 40_000.., &[2, 2, 2])?;
    director.sends(old, &old.data(), To::Rs(1), Continues)
}

fn all_drain(director: &mut Director) -> Result<()> {
    let (http, tls) = (flow(HTTP, 40_000), director.flow_of(TLS, 3, true)?);
    director.opens(http, To::Rs(1))?;
    director.opens(tls, To::Rs(3))?;
    for service in &mut director.desired.services {
        service.servers.iter_mut().for_each(|server| server.weight = 0);
    }
    director.plan()?;
    director.sends(http, &http.data(), To::Rs(1), Continues)?;
    director.sends(tls, &tls.data(), To::Rs(3), Continues)?;
    director.drops(&flow(HTTP, 40_001).syn(), NoBackend)?;
    director.drops(&flow(TLS, 40_001).syn(), NoBackend)?;
    director.drops(&flow(DNS, 40_001).datagram(), NoBackend)
}

fn failed_rr(director: &mut Director) -> Result<()> {
    let old = flow(HTTP, 40_000);
    director.opens(old, To::Rs(1))?;
    director.lose(HTTP, 1)?;
    director.sends(old, &old.data(), To::Rs(2), Continues)?;
    director.find(HTTP, 1)?;
    director.sends(old, &old.data(), To::Rs(2), Continues)?;
    director.has_records(1)
}

fn failed_maglev(director: &mut Director) -> Result<()> {
    let old = director.flow_of(TLS, 3, true)?;
    director.lose(TLS, 3)?;
    director.sends(old, &old.data(), To::Current, Continues)?;
    director.sends(old, &old.syn(), To::Current, Opens)
}

fn closed_window(director: &mut Director) -> Result<()> {
    let silent = director.flow_of(TLS, 3, true)?;
    director.weigh(TLS, 3, 0)?;
    let timeout = director.loaded(TLS).window_ticks(Tcp);
    for _ in 0..2 {
        director.pass(timeout / 2 + 2)?;
        director.age()?;
    }
    ensure!(director.slot(silent).owner == director.slot(silent).current, "closed");
    director.sends(silent, &silent.data(), To::Current, Continues)
}

fn rescheduled(director: &mut Director) -> Result<()> {
    let (http, tls) = (director.flow_of(HTTP, 1, false)?, director.flow_of(TLS, 3, true)?);
    director.opens(http, To::Rs(1))?;
    director.opens(tls, To::Rs(3))?;
    director.reschedule(HTTP, Scheduler::Maglev)?;
    director.reschedule(TLS, Scheduler::Rr)?;
    director.sends(http, &http.data(), To::Rs(1), Continues)?;
    director.sends(tls, &tls.data(), To::Rs(3), Continues)?;
    director.has_records(2)
}
