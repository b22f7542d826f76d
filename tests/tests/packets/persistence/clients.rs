//! Who is a client, and for how long it is remembered.

use std::net::Ipv6Addr;

use anyhow::{Result, ensure};
use lbx::desired::{Persistence, VirtualService};

use super::{CLIENT, IN_NETWORK, OTHER, RADIUS, WEB, WEB6, from, persistence, story};
use crate::{
    cluster::Flow,
    director::{Director, To},
    harness::Fixture,
    outcome::Counts::{Continues, Ends, Opens},
};

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    [clients(), time()].into_iter().flatten().collect()
}

/// The ticks for which a client that has proved to be real is remembered.
fn timeout(director: &Director, service: VirtualService) -> u32 {
    director.loaded(service).policy.timeouts.persistent.into()
}

fn clients() -> Vec<Fixture> {
    vec![
        story("connections of a client go to one real server", one_client),
        story("connections of another client go to another", two_clients),
        story(
            "connections to all ports of a service go to one real server",
            port_group,
        ),
        story("two services know a client each for itself", two_services),
        story("clients of one network go to one real server", network),
        story("clients of a network of IPv6 go to one real server", network6),
        story("a mask changes nothing of who a flow is of", masked_flows),
        story(
            "datagrams of a client from many ports go to one real server",
            many_ports,
        ),
        story("a client is no connection", not_counted),
        story("a port that is used again goes to the same real server", used_again),
        story(
            "what a client did not begin goes to the owner and says nothing of it",
            unknown_data,
        ),
    ]
}

fn one_client(director: &mut Director) -> Result<()> {
    for port in 40_000..40_010 {
        director.opens(from(CLIENT, WEB, port), To::Rs(1))?;
    }
    for port in 40_000..40_010 {
        let flow = from(CLIENT, WEB, port);
        director.sends(flow, &flow.data(), To::Rs(1), Continues)?;
    }
    // As many connections, and the client.
    director.has_records(11)
}

fn two_clients(director: &mut Director) -> Result<()> {
    for (last, number) in (1..=6).zip([1, 2, 3].into_iter().cycle()) {
        let client = [10, 0, 0, last];
        director.opens(from(client, WEB, 40_000), To::Rs(number))?;
        director.opens(from(client, WEB, 40_001), To::Rs(number))?;
    }
    director.opens(from([10, 0, 0, 2], WEB, 40_002), To::Rs(2))
}

fn port_group(director: &mut Director) -> Result<()> {
    director.opens(from(IN_NETWORK[0], WEB, 40_000), To::Rs(1))?;
    let secure = from(CLIENT, WEB, 40_000).to_port(443);
    director.opens(secure, To::Rs(2))?;
    director.opens(from(CLIENT, WEB, 40_000), To::Rs(2))?;
    director.opens(from(CLIENT, WEB, 40_001).to_port(443), To::Rs(2))
}

fn two_services(director: &mut Director) -> Result<()> {
    director.opens(from(IN_NETWORK[0], WEB, 40_000), To::Rs(1))?;
    director.opens(from(CLIENT, WEB, 40_000), To::Rs(2))?;
    director.opens(from(CLIENT, OTHER, 40_000), To::Rs(1))?;
    director.opens(from(CLIENT, WEB, 40_001), To::Rs(2))?;
    director.opens(from(CLIENT, OTHER, 40_001), To::Rs(1))
}

fn network(director: &mut Director) -> Result<()> {
    let [one, two] = IN_NETWORK;
    director.opens(from(one, OTHER, 40_000), To::Rs(1))?;
    director.opens(from(two, OTHER, 40_000), To::Rs(1))?;
    // One bit outside.
    director.opens(from([10, 9, 8, 1], OTHER, 40_000), To::Rs(2))?;
    director.opens(from([10, 9, 9, 255], OTHER, 40_000), To::Rs(1))?;
    // With all bits they are two.
    director.opens(from(one, WEB, 40_000), To::Rs(1))?;
    director.opens(from(two, WEB, 40_000), To::Rs(2))
}

fn network6(director: &mut Director) -> Result<()> {
    let client = |network: u16, host| Ipv6Addr::new(0x2001, 0xdb8, 5, network, host, 0, 0, 1);
    director.opens(from(client(1, 0), WEB6, 40_000), To::Rs(1))?;
    director.opens(from(client(2, 0), WEB6, 40_000), To::Rs(2))?;
    director.opens(from(client(1, 0x8000), WEB6, 40_001), To::Rs(1))?;
    director.opens(from(client(3, 0), WEB6, 40_000), To::Rs(3))?;
    director.opens(from(client(2, 0xffff), WEB6, 40_000), To::Rs(2))
}

/// Clients of one network from one port are two flows, which end each for itself.
fn masked_flows(director: &mut Director) -> Result<()> {
    let [one, two] = IN_NETWORK.map(|client| from(client, OTHER, 40_000));
    director.opens(one, To::Rs(1))?;
    director.opens(two, To::Rs(1))?;
    director.sends(one, &one.fin(), To::Rs(1), Ends)?;
    director.has_load(OTHER, 1, 1, 1)?;
    director.has_records(3)
}

fn many_ports(director: &mut Director) -> Result<()> {
    for port in 40_000..40_005 {
        let flow = from(CLIENT, RADIUS, port);
        director.sends(flow, &flow.datagram(), To::Rs(1), Opens)?;
        director.sends(flow, &flow.datagram(), To::Rs(1), Continues)?;
    }
    let other = from(IN_NETWORK[0], RADIUS, 40_000);
    director.sends(other, &other.datagram(), To::Rs(2), Opens)
}

fn not_counted(director: &mut Director) -> Result<()> {
    let flow = from(CLIENT, WEB, 40_000);
    director.opens(flow, To::Rs(1))?;
    director.has_load(WEB, 1, 1, 0)?;
    let scan = director.scan();
    ensure!(
        scan.live_records == 2 && scan.flows.values().all(|flows| flows.active == 1),
        "{scan:?}"
    );
    director.sends(flow, &flow.rst(), To::Rs(1), Ends)?;
    director.pass(u32::from(director.loaded(WEB).policy.timeouts.closed) + 1)?;
    director.age()?;
    director.has_load(WEB, 1, 0, 0)?;
    director.has_records(1)
}

fn used_again(director: &mut Director) -> Result<()> {
    let flow = from(CLIENT, WEB, 40_000);
    for _ in 0..3 {
        director.opens(flow, To::Rs(1))?;
        director.sends(flow, &flow.fin(), To::Rs(1), Ends)?;
    }
    director.has_records(2)
}

fn unknown_data(director: &mut Director) -> Result<()> {
    let flow = director.flow_of(WEB, 2, true)?;
    director.sends(flow, &flow.data(), To::Rs(2), Continues)?;
    director.has_records(1)?;
    let next = Flow {
        client: (flow.client.ip(), 999).into(),
        ..flow
    };
    director.opens(next, To::Rs(1))
}

fn time() -> Vec<Fixture> {
    vec![
        story("a client that comes back in time is known", in_time),
        story("a client that comes back too late is new", too_late),
        story("every connection begins the time anew", renewed),
        story(
            "a client of whom no connection was real is forgotten as soon as that",
            unproved,
        ),
        story("a client is known as soon as one connection was real", proved_later),
        story(
            "a client that sends one datagram a port is known as long",
            single_datagrams,
        ),
        story("another timeout counts at once", shortened),
    ]
}

fn in_time(director: &mut Director) -> Result<()> {
    director.opens(from(CLIENT, WEB, 40_000), To::Rs(1))?;
    director.pass(timeout(director, WEB))?;
    director.age()?;
    director.opens(from(CLIENT, WEB, 40_001), To::Rs(1))
}

fn too_late(director: &mut Director) -> Result<()> {
    director.opens(from(CLIENT, WEB, 40_000), To::Rs(1))?;
    director.pass(timeout(director, WEB) + 1)?;
    director.opens(from(CLIENT, WEB, 40_001), To::Rs(2))?;
    director.opens(from(CLIENT, WEB, 40_002), To::Rs(2))
}

fn renewed(director: &mut Director) -> Result<()> {
    for port in 40_000..40_005 {
        director.opens(from(CLIENT, WEB, port), To::Rs(1))?;
        director.pass(timeout(director, WEB))?;
    }
    director.pass(1)?;
    director.opens(from(CLIENT, WEB, 41_000), To::Rs(2))
}

fn unproved(director: &mut Director) -> Result<()> {
    let half_open = director.loaded(WEB).policy.timeouts.half_open;
    let syn = |port| from(CLIENT, WEB, port);
    director.sends(syn(40_000), &syn(40_000).syn(), To::Rs(1), Opens)?;
    director.pass(half_open.into())?;
    director.sends(syn(40_001), &syn(40_001).syn(), To::Rs(1), Opens)?;
    director.pass(u32::from(half_open) + 1)?;
    director.sends(syn(40_002), &syn(40_002).syn(), To::Rs(2), Opens)
}

fn proved_later(director: &mut Director) -> Result<()> {
    let first = from(CLIENT, WEB, 40_000);
    director.sends(first, &first.syn(), To::Rs(1), Opens)?;
    director.pass(5)?;
    director.sends(first, &first.ack(), To::Rs(1), Continues)?;
    director.pass(timeout(director, WEB))?;
    director.opens(from(CLIENT, WEB, 40_001), To::Rs(1))
}

/// As clients of RADIUS and DNS do: no flow is ever more than one datagram.
fn single_datagrams(director: &mut Director) -> Result<()> {
    for port in 40_000..40_005 {
        let flow = from(CLIENT, RADIUS, port);
        director.sends(flow, &flow.datagram(), To::Rs(1), Opens)?;
        director.pass(timeout(director, RADIUS))?;
        director.age()?;
    }
    // The last of them are remembered themselves until now, and keep the client.
    director.pass(timeout(director, RADIUS) + 1)?;
    let late = from(CLIENT, RADIUS, 41_000);
    director.sends(late, &late.datagram(), To::Rs(2), Opens)
}

fn shortened(director: &mut Director) -> Result<()> {
    director.opens(from(CLIENT, WEB, 40_000), To::Rs(1))?;
    director.pass(30)?;
    director.service_mut(WEB)?.persistence = Some(Persistence {
        timeout_seconds: 10,
        ..persistence(32)
    });
    director.plan()?;
    director.opens(from(CLIENT, WEB, 40_001), To::Rs(2))
}
