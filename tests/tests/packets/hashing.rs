//! What sh, mh, maglev and dh hash, and what becomes of a hash whose real server gets nothing.

use std::{collections::BTreeSet, net::Ipv4Addr};

use anyhow::{Result, ensure};
use lbx::desired::{HashOptions, Scheduler, Service, VirtualService};
use lbx_common::drops::DropReason::NoBackend;
use lbx_tests::lab::VIP;

use crate::{
    cluster::{Flow, SECOND_VIP, balanced, flow, tcp, tcp6, udp},
    director::{Director, To},
    harness::{Fixture, story_of},
    outcome::Counts::{Continues, Opens},
};

const HTTP: VirtualService = tcp(VIP, 80);
const HTTP6: VirtualService = tcp6(80);
const SYSLOG: VirtualService = udp(VIP, 514);

const EVEN: &[(u8, u16)] = &[(1, 1), (2, 1), (3, 1)];

fn hashing(id: VirtualService, scheduler: Scheduler, port: bool, fallback: bool) -> Service {
    Service {
        hash_options: HashOptions {
            include_port: port,
            fallback,
        },
        ..balanced(id, scheduler, EVEN)
    }
}

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    use Scheduler::{Dh, Maglev, Mh, Sh};
    let of = |says, scheduler, port, fallback, plays: fn(&mut Director) -> Result<()>| {
        let services = move || {
            [HTTP, HTTP6, SYSLOG]
                .map(|id| hashing(id, scheduler, port, fallback))
                .into()
        };
        story_of(says, services, plays)
    };
    vec![
        of(
            "sh sends a client to one real server from every port",
            Sh,
            false,
            false,
            by_client,
        ),
        of(
            "mh sends a client to one real server from every port",
            Mh,
            false,
            false,
            by_client,
        ),
        of("sh spreads clients", Sh, false, false, clients_spread),
        of("mh spreads clients", Mh, false, false, clients_spread),
        of(
            "sh by port spreads the ports of a client",
            Sh,
            true,
            false,
            ports_spread,
        ),
        of(
            "mh by port spreads the ports of a client",
            Mh,
            true,
            false,
            ports_spread,
        ),
        of("maglev spreads the ports of a client", Maglev, true, true, ports_spread),
        of("dh sends everybody to one real server", Dh, false, false, everybody),
        story_of("dh sends each VIP to a real server of its own", vips, vips_spread),
        of(
            "sh without fallback drops what is for a real server that is lost",
            Sh,
            false,
            false,
            lost,
        ),
        of(
            "mh without fallback drops what is for a real server that is lost",
            Mh,
            true,
            false,
            lost,
        ),
        of(
            "dh drops everything while its real server is lost",
            Dh,
            false,
            false,
            lost_to_all,
        ),
        of("dh knows no fallback", Dh, false, true, lost_to_all),
        of(
            "sh with fallback sends what is for a lost real server to others",
            Sh,
            true,
            true,
            replaced,
        ),
        of(
            "mh with fallback sends what is for a lost real server to others",
            Mh,
            true,
            true,
            replaced,
        ),
        of(
            "without fallback too who drains leaves its share to the others",
            Sh,
            true,
            false,
            drained,
        ),
        of(
            "a client that is hashed by its address keeps its connections while a server drains",
            Mh,
            false,
            false,
            kept,
        ),
        of(
            "what hashing does with addresses it does with those of IPv6",
            Sh,
            false,
            false,
            by_client6,
        ),
        story_of("weights have their shares of clients", weighted, shares),
    ]
}

/// The clients of some networks.
fn clients() -> impl Iterator<Item = Ipv4Addr> {
    (0..200).map(|n| Ipv4Addr::new(10, n / 50, n % 7, n))
}

fn by_client(director: &mut Director) -> Result<()> {
    for client in clients().take(20) {
        let first = flow(HTTP, 40_000).from(client);
        let number = director.choice(first, &first.syn())?;
        for port in [1, 1_024, 40_001, 65_535] {
            director.opens(flow(HTTP, port).from(client), To::Rs(number))?;
        }
    }
    director.has_records(0)
}

fn by_client6(director: &mut Director) -> Result<()> {
    let first = flow(HTTP6, 40_000);
    let number = director.choice(first, &first.syn())?;
    for port in [1, 1_024, 40_001, 65_535] {
        director.opens(flow(HTTP6, port), To::Rs(number))?;
    }
    let others = (1..50).map(|n| std::net::Ipv6Addr::new(0x2001, 0xdb8, n, n, 0, 0, 0, n));
    let numbers = others.map(|client| {
        let flow = flow(HTTP6, 40_000).from(client);
        director.choice(flow, &flow.syn())
    });
    are_spread(numbers)
}

/// All three real servers are among them.
fn are_spread(numbers: impl Iterator<Item = Result<u8>>) -> Result<()> {
    let numbers: BTreeSet<u8> = numbers.collect::<Result<_>>()?;
    ensure!(numbers == [1, 2, 3].into(), "{numbers:?}");
    Ok(())
}

fn clients_spread(director: &mut Director) -> Result<()> {
    are_spread(clients().map(|client| {
        let flow = flow(HTTP, 40_000).from(client);
        director.choice(flow, &flow.syn())
    }))
}

fn ports_spread(director: &mut Director) -> Result<()> {
    are_spread((40_000..40_050).map(|port| {
        let flow = flow(HTTP, port);
        director.choice(flow, &flow.syn())
    }))
}

fn everybody(director: &mut Director) -> Result<()> {
    let first = flow(HTTP, 40_000);
    let number = director.choice(first, &first.syn())?;
    for client in clients().take(20) {
        for port in [40_000, 40_001] {
            director.opens(flow(HTTP, port).from(client), To::Rs(number))?;
        }
    }
    let datagram = flow(SYSLOG, 40_000);
    director.sends(datagram, &datagram.datagram(), To::Current, Continues)
}

fn vips() -> Vec<Service> {
    let vip = |n| tcp(Ipv4Addr::from_bits(SECOND_VIP.to_bits() + n), 80);
    (0..20).map(|n| hashing(vip(n), Scheduler::Dh, false, false)).collect()
}

fn vips_spread(director: &mut Director) -> Result<()> {
    are_spread(vips().iter().map(|service| {
        let flow = flow(service.virtual_service, 40_000);
        director.choice(flow, &flow.syn())
    }))
}

/// Flows of clients that hash to the n-th real server, and of those that do not with the server of each.
type Clients = (Vec<Flow>, Vec<(Flow, u8)>);

fn of_server(director: &Director, number: u8) -> Result<Clients> {
    let (mut its, mut others) = (Vec::new(), Vec::new());
    for client in clients().take(60) {
        let flow = flow(HTTP, 40_000).from(client);
        match director.choice(flow, &flow.data())? {
            other if other == number => its.push(flow),
            other => others.push((flow, other)),
        }
    }
    ensure!(its.len() > 5 && others.len() > 5);
    Ok((its, others))
}

fn lost(director: &mut Director) -> Result<()> {
    let (its, others) = of_server(director, 2)?;
    director.lose(HTTP, 2)?;
    for flow in &its {
        director.drops(&flow.syn(), NoBackend)?;
        director.drops(&flow.data(), NoBackend)?;
    }
    // Nobody else notices.
    for &(flow, number) in &others {
        director.opens(flow, To::Rs(number))?;
    }
    director.has_records(0)?;
    director.find(HTTP, 2)?;
    for &flow in &its {
        director.opens(flow, To::Rs(2))?;
    }
    Ok(())
}

fn lost_to_all(director: &mut Director) -> Result<()> {
    let flow = flow(HTTP, 40_000);
    let number = director.choice(flow, &flow.syn())?;
    director.lose(HTTP, number)?;
    for client in clients().take(5) {
        director.drops(&flow.from(client).syn(), NoBackend)?;
    }
    director.find(HTTP, number)?;
    director.opens(flow, To::Rs(number))
}

fn replaced(director: &mut Director) -> Result<()> {
    let (its, others) = of_server(director, 2)?;
    director.lose(HTTP, 2)?;
    let numbers = its.iter().map(|flow| director.choice(*flow, &flow.syn()));
    let numbers: BTreeSet<u8> = numbers.collect::<Result<_>>()?;
    ensure!(numbers == [1, 3].into(), "{numbers:?}");
    for &flow in &its {
        director.opens(flow, To::Current)?;
    }
    for &(flow, number) in &others {
        director.sends(flow, &flow.data(), To::Rs(number), Continues)?;
    }
    Ok(())
}

fn drained(director: &mut Director) -> Result<()> {
    let (its, _) = of_server(director, 2)?;
    director.weigh(HTTP, 2, 0)?;
    for flow in its {
        let next = Flow {
            client: (flow.client.ip(), 50_000).into(),
            ..flow
        };
        ensure!(director.choice(next, &next.syn())? != 2, "it drains");
    }
    Ok(())
}

fn kept(director: &mut Director) -> Result<()> {
    let (its, _) = of_server(director, 2)?;
    let old = its[0];
    director.opens(old, To::Rs(2))?;
    director.weigh(HTTP, 2, 0)?;
    director.sends(old, &old.data(), To::Rs(2), Continues)?;
    let next = Flow {
        client: (old.client.ip(), 50_000).into(),
        ..old
    };
    director.sends(next, &next.syn(), To::Current, Opens)?;
    director.sends(old, &old.data(), To::Rs(2), Continues)?;
    director.sends(next, &next.data(), To::Current, Continues)?;
    ensure!(director.slot_number(old) == director.slot_number(next), "of one slot");
    director.has_records(2)
}

fn weighted() -> Vec<Service> {
    let service = balanced(HTTP, Scheduler::Sh, &[(1, 3), (2, 1)]);
    vec![Service {
        hash_options: HashOptions {
            include_port: false,
            fallback: false,
        },
        ..service
    }]
}

/// 150 of 200 expected at rs1, standard deviation 6: five of them either way.
fn shares(director: &mut Director) -> Result<()> {
    let mut first = 0;
    for client in clients() {
        let flow = flow(HTTP, 40_000).from(client);
        first += u32::from(director.choice(flow, &flow.syn())? == 1);
    }
    ensure!((120..=180).contains(&first), "{first}");
    Ok(())
}
