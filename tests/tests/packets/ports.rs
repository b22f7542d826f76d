//! Services of several ports, of ranges, and of all that no other has.

use anyhow::{Result, ensure};
use lbx::desired::{PortSet, Scheduler, Service, VirtualService};
use lbx_tests::{
    lab::{DIP, VIP},
    mac::Mac,
    packet::{ACK, Frame},
};

use crate::{
    cluster::{Flow, SECOND_VIP, balanced, flow, tcp, tcp6, udp, udp6},
    director::{Director, To},
    harness::{Fixture, story_of},
    outcome::Counts::{Continues, Opens},
};

/// 80, 443 and 8000 to 8099.
const WEB: VirtualService = tcp(VIP, 80);
/// The same over IPv6.
const WEB6: VirtualService = tcp6(80);
/// 1 to 1023 and 65000 to 65535.
const EDGES: VirtualService = udp(VIP, 1);
/// Every port of the second VIP.
const ALL: VirtualService = tcp(SECOND_VIP, 0);
/// But this one.
const SPECIFIC: VirtualService = tcp(SECOND_VIP, 443);
/// Every port of the IPv6 VIP.
const ALL6: VirtualService = udp6(0);
/// But this one.
const SPECIFIC6: VirtualService = udp6(53);

fn ports() -> Vec<u16> {
    [80, 443].into_iter().chain(8_000..=8_099).collect()
}

fn cluster() -> Vec<Service> {
    const EVEN: &[(u8, u16)] = &[(1, 1), (2, 1)];
    let of_ports = |id, scheduler, ports| Service {
        ports,
        ..balanced(id, scheduler, EVEN)
    };
    vec![
        of_ports(WEB, Scheduler::Rr, PortSet::from_ports(ports())),
        of_ports(WEB6, Scheduler::Maglev, PortSet::from_ports(ports())),
        of_ports(
            EDGES,
            Scheduler::Maglev,
            PortSet::from_ports((1..=1_023).chain(65_000..=u16::MAX)),
        ),
        balanced(ALL, Scheduler::Rr, &[(1, 1), (2, 1)]),
        balanced(SPECIFIC, Scheduler::Rr, &[(3, 1)]),
        balanced(ALL6, Scheduler::Maglev, EVEN),
        balanced(SPECIFIC6, Scheduler::Rr, &[(3, 1)]),
    ]
}

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    let story = |says, plays: fn(&mut Director) -> Result<()>| story_of(says, cluster, plays);
    vec![
        story(
            "every port of a list and a range leads to the service, the next ones do not",
            list,
        ),
        story("the same over IPv6", list6),
        story("ranges may begin with the first port and end with the last", edges),
        story("the ports of one protocol say nothing of the other", protocols),
        story("the ports of a service share the turns of rr", shared_turns),
        story("flows from one port to two are two", two_flows),
        story("the port is part of what is hashed", hashed),
        story(
            "a port that is taken from a service passes, and flows to the others stay",
            taken_away,
        ),
        story("a port that is given to a service leads there", given),
        story(
            "a service whose first port goes is the same, and its flows stay",
            renamed,
        ),
        story("all ports are every port", all),
        story("all ports of UDP over IPv6 are every port", all6),
        story("a port that a service names is not of the one with all", specific),
        story("a port whose service goes is of the one with all", widened),
        story(
            "a service with all ports has those of its protocol and VIP only",
            bounded,
        ),
        story("port 0 is no port, for a service with all of them either", zero),
        story(
            "an ICMP error about a port of many goes to the flow's real server",
            mentioned,
        ),
    ]
}

fn list(director: &mut Director) -> Result<()> {
    for (number, port) in (0..).zip(ports()) {
        let flow = flow(WEB, 40_000).to_port(port);
        director.opens(flow, To::Rs(number % 2 + 1))?;
    }
    neighbours_pass(director, WEB)
}

fn list6(director: &mut Director) -> Result<()> {
    for port in ports() {
        director.opens(flow(WEB6, 40_000).to_port(port), To::Owner)?;
    }
    neighbours_pass(director, WEB6)
}

fn neighbours_pass(director: &Director, service: VirtualService) -> Result<()> {
    for port in [79, 81, 442, 444, 7_999, 8_100, 8_000u16.swap_bytes(), 65_535] {
        director.passes(&flow(service, 40_000).to_port(port).syn())?;
    }
    Ok(())
}

fn edges(director: &mut Director) -> Result<()> {
    for port in [1, 2, 1_022, 1_023, 65_000, 65_001, 65_534, 65_535] {
        let flow = flow(EDGES, 40_000).to_port(port);
        director.sends(flow, &flow.datagram(), To::Owner, Continues)?;
    }
    for port in [0, 1_024, 64_999] {
        director.passes(&flow(EDGES, 40_000).to_port(port).datagram())?;
    }
    Ok(())
}

fn protocols(director: &mut Director) -> Result<()> {
    director.passes(&flow(WEB, 40_000).to_port(8_000).datagram())?;
    director.passes(&flow(EDGES, 40_000).to_port(1).syn())?;
    let both = flow(EDGES, 40_000).to_port(80);
    director.sends(both, &both.datagram(), To::Owner, Continues)?;
    director.opens(flow(WEB, 40_000).to_port(80), To::Rs(1))
}

fn shared_turns(director: &mut Director) -> Result<()> {
    let to = |port| flow(WEB, 40_000).to_port(port);
    director.opens(to(443), To::Rs(1))?;
    director.opens(to(8_000), To::Rs(2))?;
    director.opens(to(80), To::Rs(1))?;
    director.has_records(3)
}

fn two_flows(director: &mut Director) -> Result<()> {
    let (plain, secure) = (flow(WEB, 40_000), flow(WEB, 40_000).to_port(443));
    director.opens(plain, To::Rs(1))?;
    director.opens(secure, To::Rs(2))?;
    director.sends(plain, &plain.data(), To::Rs(1), Continues)?;
    director.sends(secure, &secure.data(), To::Rs(2), Continues)?;
    director.sends(plain, &plain.rst(), To::Rs(1), crate::outcome::Counts::Ends)?;
    director.has_load(WEB, 2, 1, 0)
}

fn hashed(director: &mut Director) -> Result<()> {
    let slot = |port| director.slot_number(flow(WEB6, 40_000).to_port(port));
    let slots: std::collections::BTreeSet<u32> = ports().into_iter().map(slot).collect();
    ensure!(slots.len() > 80, "102 ports have {} slots", slots.len());
    Ok(())
}

fn taken_away(director: &mut Director) -> Result<()> {
    let (kept, lost) = (flow(WEB, 40_000), flow(WEB, 40_000).to_port(8_000));
    director.opens(kept, To::Rs(1))?;
    director.opens(lost, To::Rs(2))?;
    director.service_mut(WEB)?.ports = PortSet::from_ports([80, 443]);
    director.plan()?;
    director.passes(&lost.data())?;
    director.sends(kept, &kept.data(), To::Rs(1), Continues)?;
    // Whoever gets it back finds its flows.
    director.service_mut(WEB)?.ports = PortSet::from_ports(ports());
    director.plan()?;
    director.sends(lost, &lost.data(), To::Rs(2), Continues)
}

fn given(director: &mut Director) -> Result<()> {
    let flow = flow(WEB, 40_000).to_port(8_100);
    director.passes(&flow.syn())?;
    director.service_mut(WEB)?.ports = PortSet::from_ports(ports().into_iter().chain([8_100]));
    director.plan()?;
    director.opens(flow, To::Rs(1))
}

fn renamed(director: &mut Director) -> Result<()> {
    let old = flow(WEB, 40_000).to_port(443);
    director.opens(old, To::Rs(1))?;
    let service = director.service_mut(WEB)?;
    service.virtual_service.port = 443;
    service.ports = PortSet::from_ports([443, 8_443]);
    let id = service.virtual_service;
    director.plan()?;
    let same = Flow { service: id, ..old };
    director.sends(same, &same.data(), To::Rs(1), Continues)?;
    director.passes(&flow(WEB, 40_001).syn())?;
    director.opens(flow(id, 40_001).to_port(8_443), To::Rs(2))
}

fn all(director: &mut Director) -> Result<()> {
    let ports = [1, 2, 80, 442, 444, 1_024, 32_768, 65_534, 65_535];
    for (number, port) in (0..).zip(ports) {
        director.opens(flow(ALL, 40_000).to_port(port), To::Rs(number % 2 + 1))?;
    }
    director.has_records(ports.len() as u64)
}

fn all6(director: &mut Director) -> Result<()> {
    for port in [1, 52, 54, 443, 65_535] {
        let flow = flow(ALL6, 40_000).to_port(port);
        director.sends(flow, &flow.datagram(), To::Owner, Continues)?;
    }
    Ok(())
}

fn specific(director: &mut Director) -> Result<()> {
    director.opens(flow(SPECIFIC, 40_000), To::Rs(3))?;
    let dns = flow(SPECIFIC6, 40_000);
    director.sends(dns, &dns.datagram(), To::Rs(3), Opens)?;
    director.opens(flow(ALL, 40_000).to_port(444), To::Rs(1))
}

fn widened(director: &mut Director) -> Result<()> {
    director.opens(flow(SPECIFIC, 40_000), To::Rs(3))?;
    director.remove(SPECIFIC)?;
    let now_of_all = flow(ALL, 40_000).to_port(443);
    director.opens(now_of_all, To::Rs(1))?;
    director
        .desired
        .services
        .push(balanced(SPECIFIC, Scheduler::Rr, &[(3, 1)]));
    director.plan()?;
    director.opens(flow(SPECIFIC, 40_001), To::Rs(3))
}

fn bounded(director: &mut Director) -> Result<()> {
    director.passes(&flow(ALL, 40_000).to_port(80).datagram())?;
    director.passes(&flow(ALL6, 40_000).to_port(8_100).syn())?;
    director.passes(&flow(tcp(VIP, 444), 40_000).syn())?;
    director.passes(&flow(tcp(DIP, 444), 40_000).syn())
}

/// Reserved (RFC 6335 section 6); it stands for all where services are looked up.
fn zero(director: &mut Director) -> Result<()> {
    director.passes(&flow(ALL, 40_000).to_port(0).syn())?;
    director.passes(&flow(ALL6, 40_000).to_port(0).datagram())?;
    director.passes(&flow(ALL, 0).to_port(0).syn())?;
    // The client's port may be any.
    director.opens(flow(ALL, 0).to_port(80), To::Rs(1))
}

fn mentioned(director: &mut Director) -> Result<()> {
    let about = |flow: Flow| {
        let sent = Frame::tcp(flow.destination(), flow.client, ACK).packet();
        Frame::icmp([203, 0, 113, 1], SECOND_VIP, 3, 4, [0; 4])
            .payload(&sent)
            .sent_to(Mac::of(DIP))
    };
    let (one, two) = (flow(ALL, 40_000).to_port(80), flow(ALL, 40_000).to_port(81));
    director.opens(one, To::Rs(1))?;
    director.opens(two, To::Rs(2))?;
    director.sends(one, &about(one), To::Rs(1), Continues)?;
    director.sends(two, &about(two), To::Rs(2), Continues)?;
    let specific = flow(SPECIFIC, 40_000);
    director.sends(specific, &about(specific), To::Rs(3), Continues)
}
