//! Random text: nothing panics, and what is accepted keeps what [`Desired`] promises.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

use proptest::prelude::*;

use super::{FULL, SAMPLE, read};
use crate::{
    desired::{Desired, Hashing, Ports, Protocol, RealServer, Scheduler, Service},
    tables::service::slot_count,
};

/// Pieces that a mutation puts into a sample: YAML's own characters, and values at the edges.
const PIECES: [&str; 28] = [
    "", "\n", "  ", "- ", ": ", "{", "}", "[", "]", ",", "\"", "'", "#", "&a ", "*a", "<<: ", "!x ", "~", "0", "-1",
    "65536", "é", "\u{0}", "---\n", "all", "-", "::", "true",
];

fn assert_promises(desired: &Desired) {
    let services = &desired.services;
    assert!(!services.is_empty() && !desired.interfaces.is_empty());
    assert_unique(desired.interfaces.iter());
    assert_unique(services.iter().map(|service| &service.name));
    assert_unique(services.iter().map(|service| service.virtual_service));
    let vips: HashSet<_> = services.iter().map(|service| service.virtual_service.vip).collect();
    let mut ports: HashMap<_, Vec<_>> = HashMap::new();
    for service in services {
        assert_ports(service);
        assert_servers(service);
        assert_options(service);
        let addresses = service.servers.iter().map(|server| server.address);
        assert!(
            addresses
                .chain(service.sorry_server)
                .all(|address| !vips.contains(&address))
        );
        let id = service.virtual_service;
        ports
            .entry((id.vip, id.protocol))
            .or_default()
            .extend(service.ports.iter());
    }
    for ports in ports.into_values() {
        assert_unique(ports.into_iter());
    }
    assert_tables(desired);
}

fn assert_ports(service: &Service) {
    let Ports::Some(ranges) = &service.ports else {
        return assert_eq!(service.virtual_service.port, 0);
    };
    assert!(service.ports.iter().any(|port| port == service.virtual_service.port));
    assert!(
        ranges
            .iter()
            .all(|range| 0 < *range.start() && range.start() <= range.end())
    );
    let apart = |pair: &[std::ops::RangeInclusive<u16>]| u32::from(*pair[0].end()) + 1 < u32::from(*pair[1].start());
    assert!(ranges.windows(2).all(apart), "{ranges:?}");
    assert_eq!(service.ports.count() as usize, service.ports.iter().count());
}

fn assert_servers(service: &Service) {
    let servers = &service.servers;
    assert!(!servers.is_empty());
    let mut addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    addresses.extend(service.sorry_server);
    let vip = service.virtual_service.vip;
    assert!(addresses.iter().all(|address| address.is_ipv4() == vip.is_ipv4()));
    assert_unique(addresses.into_iter());
    let ids: Vec<_> = servers.iter().filter_map(|server| server.quic_id).collect();
    assert!(service.quic || ids.is_empty());
    assert_unique(ids.into_iter());
    let sound = |&RealServer { upper, lower, .. }: &RealServer| lower == 0 || lower < upper;
    assert!(servers.iter().all(sound));
}

fn assert_options(service: &Service) {
    let id = service.virtual_service;
    assert!(id.protocol == Protocol::Udp || !(service.quic || service.one_packet));
    if service.one_packet {
        assert!(service.scheduler.takes_one_packet() && service.persistence.is_none());
        assert!(service.servers.iter().all(|server| server.upper == 0));
    }
    let both = Hashing {
        port: true,
        fallback: true,
    };
    match service.scheduler {
        Scheduler::Sh | Scheduler::Mh => {}
        Scheduler::Dh => assert!(!service.hashing.port && !service.hashing.fallback),
        _ => assert_eq!(service.hashing, both),
    }
    if let Some(persistence) = service.persistence {
        let most = if id.vip.is_ipv4() { 32 } else { 128 };
        assert!((1..=most).contains(&persistence.prefix) && (1..=57_600).contains(&persistence.timeout));
    }
    if let Some(slots) = service.slots {
        assert!((251..=65_537).contains(&slots) && (2..slots).all(|n| slots % n != 0));
    }
}

fn assert_tables(desired: &Desired) {
    let tables = desired.tables;
    assert!(
        [tables.flows, tables.flows6, tables.ports]
            .into_iter()
            .all(u32::is_power_of_two)
    );
    let sum = |of: fn(&Service) -> u32| -> u32 { desired.services.iter().map(of).sum() };
    assert!(sum(slot_count) <= tables.slots && sum(|service| service.ports.count()) <= tables.ports);
}

fn assert_unique<T: Eq + Hash>(items: impl ExactSizeIterator<Item = T>) {
    let count = items.len();
    assert_eq!(items.collect::<HashSet<_>>().len(), count);
}

/// A piece of a sample replaced: (where, how much of it, by which piece).
fn mutation() -> impl Strategy<Value = (usize, usize, &'static str)> {
    let longest = SAMPLE.len().max(FULL.len());
    (0..longest, 0..12_usize, prop::sample::select(&PIECES[..]))
}

fn mutate(text: &mut String, (at, length, piece): (usize, usize, &str)) {
    let boundary = |at: usize| {
        (0..=at.min(text.len()))
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0)
    };
    let range = boundary(at)..boundary(at + length);
    text.replace_range(range, piece);
}

/// A value now and then, as a line of a service; no line otherwise.
fn line(name: &'static str, values: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::option::weighted(0.2, prop::sample::select(values))
        .prop_map(move |value| value.map_or_else(String::new, |value| format!("    {name}: {value}\n")))
}

/// What a service may say besides, some of it wrong or at odds with the rest.
fn options() -> impl Strategy<Value = String> {
    let schedulers = Scheduler::ALL.map(|scheduler| format!("    scheduler: {scheduler}\n"));
    let flags = ["[sh-port]", "[mh-port, mh-fallback]"].map(|flags| format!("    flags: {flags}\n"));
    let scheduler = (
        prop::sample::select(schedulers.to_vec()),
        prop::option::weighted(0.1, prop::sample::select(flags.to_vec())),
    )
        .prop_map(|(scheduler, flags)| scheduler + &flags.unwrap_or_default());
    let ports = ["80", "81", "80-82", "[82, 80, 81]", "[80, 81-90]", "all", "0"];
    (
        prop::sample::select(ports.to_vec()).prop_map(|ports| format!("    port: {ports}\n")),
        prop::sample::select(vec!["    protocol: udp\n", "    protocol: udp\n", ""]),
        scheduler,
        line("slots", &["251", "1021", "65537"]),
        line(
            "persistence",
            &[
                "300",
                "1m\n    drain_persistence: false",
                "{mask: 24}",
                "{mask: 255.255.0.0}",
            ],
        ),
        line("one_packet", &["true", "false"]),
        line("sorry_server", &["10.0.0.19", "2001:db8::19"]),
        line("quic", &["true", "false"]),
    )
        .prop_map(|(ports, protocol, scheduler, d, e, f, g, h)| {
            [ports.as_str(), protocol, &scheduler, &d, &e, &f, &g, &h].concat()
        })
}

/// A real server of so few values that many clash.
fn server(network: &'static str) -> impl Strategy<Value = String> {
    let more = prop_oneof![
        20 => Just(""),
        3 => prop::sample::select(vec![", upper: 2", ", upper: 2, lower: 1"]),
        1 => prop::sample::select(vec![", lower: 2", ", quic_id: 1"]),
    ];
    (1..20_u8, 0..3_u16, more)
        .prop_map(move |(rip, weight, more)| format!("    - {{address: {network}{rip}, weight: {weight}{more}}}\n"))
}

/// A service from so few values that many clash.
fn service() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["10.0.0.", "2001:db8::"]).prop_flat_map(|network| {
        let servers = prop::collection::vec(server(network), 1..4).prop_map(|servers| servers.concat());
        (18..24_u8, 0..6_u8, options(), servers).prop_map(move |(vip, name, options, servers)| {
            let name = match name {
                0 => String::new(),
                name => format!("    name: s{name}\n"),
            };
            format!("  - vip: {network}{vip}\n{name}{options}    realservers:\n{servers}")
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in any::<String>()) {
        let _ = read(&text);
    }

    #[test]
    fn mutated_sample(full in any::<bool>(), mutations in prop::collection::vec(mutation(), 1..4)) {
        let mut text = if full { FULL } else { SAMPLE }.to_owned();
        for one in mutations {
            mutate(&mut text, one);
        }
        match read(&text) {
            Ok(desired) => assert_promises(&desired),
            Err(error) => assert_eq!(error.to_string().lines().count(), 1),
        }
    }

    #[test]
    fn clashing_services(services in prop::collection::vec(service(), 1..4)) {
        match read(&format!("interface: eth0\nservices:\n{}", services.concat())) {
            Ok(desired) => assert_promises(&desired),
            Err(error) => assert!(error.fault.place.is_some(), "{error}"),
        }
    }
}
