//! One-packet scheduling: every datagram for itself, and nothing is remembered.

use anyhow::{Result, ensure};
use lbx::desired::{HashOptions, Scheduler, Service, VirtualService};
use lbx_common::drops::DropReason::NoBackend;
use lbx_tests::{
    lab::{DIP, VIP},
    mac::Mac,
    packet::Frame,
};

use crate::{
    cluster::{Flow, LO, balanced, flow, udp, udp6},
    director::{Director, To},
    harness::{Fixture, story_of},
    outcome::Counts::{Continues, Opens},
};

/// rr.
const DNS: VirtualService = udp(VIP, 53);
/// wrr, weights 3 and 1.
const NTP: VirtualService = udp(VIP, 123);
/// sh by address and port.
const SYSLOG: VirtualService = udp(VIP, 514);
/// sh by address.
const RADIUS: VirtualService = udp(VIP, 1_812);
/// rr.
const DNS6: VirtualService = udp6(53);

fn cluster() -> Vec<Service> {
    let one_packet = |service| Service {
        one_packet: true,
        ..service
    };
    let by_address = Service {
        hash_options: HashOptions {
            include_port: false,
            fallback: false,
        },
        ..balanced(RADIUS, Scheduler::Sh, &[(1, 1), (2, 1)])
    };
    let services = [
        balanced(DNS, Scheduler::Rr, &[(1, 1), (2, 1)]),
        balanced(NTP, Scheduler::Wrr, &[(1, 3), (2, 1)]),
        balanced(SYSLOG, Scheduler::Sh, &[(1, 1), (2, 1)]),
        by_address,
        balanced(DNS6, Scheduler::Rr, &[(1, 1), (2, 1)]),
    ];
    services.map(one_packet).into()
}

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    let story = |says, plays: fn(&mut Director) -> Result<()>| story_of(says, cluster, plays);
    vec![
        story("datagrams of one flow take the turns of rr", |d| turns(d, DNS)),
        story("datagrams of one flow of IPv6 take the turns of rr", |d| turns(d, DNS6)),
        story(
            "datagrams of one flow take the turns of wrr as the weights say",
            weighted,
        ),
        story("sh sends datagrams of one flow to one real server", hashed),
        story(
            "sh by address sends datagrams of one client to one real server",
            by_address,
        ),
        story("a real server that drains gets no datagram more", draining),
        story(
            "a real server that fails gets no datagram more, and its turns when it is back",
            failed,
        ),
        story("hashed datagrams follow the hash at once when it changes", hash_moves),
        story("without real servers datagrams are dropped", nobody),
        story("fragments follow their first", fragments),
        story("an ICMP error takes no turn", mentioned),
    ]
}

/// Sends datagrams of one flow to these real servers.
fn sends_one_flow(director: &Director, flow: Flow, numbers: &[u8]) -> Result<()> {
    numbers
        .iter()
        .try_for_each(|&number| director.sends(flow, &flow.datagram(), To::Rs(number), Opens))
}

fn turns(director: &mut Director, service: VirtualService) -> Result<()> {
    sends_one_flow(director, flow(service, 40_000), &[1, 2, 1, 2, 1])?;
    sends_one_flow(director, flow(service, 40_001), &[2, 1])?;
    director.has_records(0)?;
    director.has_load(service, 1, 0, 0)
}

fn weighted(director: &mut Director) -> Result<()> {
    sends_one_flow(director, flow(NTP, 40_000), &[1, 1, 2, 1, 1, 1, 2, 1])
}

fn hashed(director: &mut Director) -> Result<()> {
    for port in 40_000..40_020 {
        let flow = flow(SYSLOG, port);
        director.sends(flow, &flow.datagram(), To::Current, Opens)?;
        director.sends(flow, &flow.datagram(), To::Current, Opens)?;
    }
    director.has_records(0)
}

fn by_address(director: &mut Director) -> Result<()> {
    let first = flow(RADIUS, 40_000);
    let number = director.choice(first, &first.datagram())?;
    for port in 40_000..40_020 {
        sends_one_flow(director, flow(RADIUS, port), &[number])?;
    }
    Ok(())
}

fn draining(director: &mut Director) -> Result<()> {
    let flow = flow(DNS, 40_000);
    sends_one_flow(director, flow, &[1, 2, 1])?;
    director.weigh(DNS, 1, 0)?;
    sends_one_flow(director, flow, &[2, 2, 2])
}

fn failed(director: &mut Director) -> Result<()> {
    let flow = flow(DNS, 40_000);
    director.lose(DNS, 2)?;
    sends_one_flow(director, flow, &[1, 1])?;
    director.find(DNS, 2)?;
    sends_one_flow(director, flow, &[1, 2, 1, 2])
}

fn hash_moves(director: &mut Director) -> Result<()> {
    let flow = director.flow_of(SYSLOG, 1, true)?;
    sends_one_flow(director, flow, &[1])?;
    director.weigh(SYSLOG, 1, 0)?;
    ensure!(director.slot(flow).has_records, "its slot moves");
    sends_one_flow(director, flow, &[2, 2])?;
    director.weigh(SYSLOG, 1, 1)?;
    sends_one_flow(director, flow, &[1])?;
    director.has_records(0)
}

fn nobody(director: &mut Director) -> Result<()> {
    for number in [1, 2] {
        director.weigh(DNS, number, 0)?;
    }
    director.drops(&flow(DNS, 40_000).datagram(), NoBackend)
}

fn fragments(director: &mut Director) -> Result<()> {
    let flow = flow(DNS, 40_000);
    for (identification, number) in [(1, 1), (2, 2), (3, 1)] {
        let first = flow
            .datagram()
            .payload(&[0x5a; 56])
            .identified(identification)
            .fragment(0, true);
        director.sends(flow, &first, To::Rs(number), Opens)?;
        let rest = Frame::protocol(flow.client.ip(), VIP, 17).payload(&[0xa5; 64]);
        let rest = rest.identified(identification).fragment(8, false).sent_to(Mac::of(DIP));
        director.sends(flow, &rest, To::Rs(number), Continues)?;
    }
    Ok(())
}

fn mentioned(director: &mut Director) -> Result<()> {
    let flow = flow(DNS, 40_000);
    let sent = Frame::udp(flow.destination(), flow.client)
        .payload(&[0x5a; 100])
        .packet();
    let error = Frame::icmp([203, 0, 113, 1], VIP, 3, 4, [0; 4])
        .payload(&sent[..28])
        .sent_to(Mac::of(DIP));
    sends_one_flow(director, flow, &[1])?;
    // Whoever sent it is not known.
    for _ in 0..3 {
        director.run(LO, &error)?;
    }
    sends_one_flow(director, flow, &[2, 1])
}
