//! Random text: nothing panics, and what is accepted keeps what [`Desired`] promises.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

use proptest::prelude::*;

use super::{FULL, SAMPLE, read};
use crate::{
    desired::{
        Check, CheckedAddress, DesiredState, FailurePolicy, HashOptions, NotifyTarget, PortSet, Protocol, RealServer,
        Scheduler, Service,
    },
    tables::service::slot_count,
};

/// All that may be said of health, for mutations of it.
const CHECKS: &str = "\
interface: eth0
defaults:
  health: {tcp: {}, target: rip, port: 80, interval: 5s, timeout: 500ms, rise: 1, fall: 2, initial: up, jitter: 5, damping: {failures: 2, within: 10s, hold: 20s}}
  slow_start: 10s
  notify: [/bin/told, all]
services:
  - vip: 10.0.0.1
    port: 80
    scheduler: wrr
    health:
      https: {method: POST, path: /a, host: a.example, headers: {X-A: b}, status: [200, 300-399], body: {matches: a+}, server_name: b.example, verify: false, weight: true}
    quorum: {weight: 2, hysteresis: 1}
    on_failure: drop
    drain_timeout: 5m
    local: false
    realservers: [10.0.0.2]
  - {vip: 10.0.0.1, port: 53, protocol: udp, health: {dns: {name: a.example, type: A, rcode: NOERROR, answer: 10.0.0.1}}, realservers: [10.0.0.2]}
  - {vip: 10.0.0.1, port: 54, protocol: udp, health: {udp: {payload: {hex: '00ff'}, reply: ok}}, realservers: [10.0.0.2]}
  - vip: 10.0.0.1
    port: all
    health: {exec: {command: [/bin/check, -a], environment: {A: b}, weight: true}, port: 81}
    notify: {socket: /run/told}
    realservers: [10.0.0.2]
";

/// Pieces that a mutation puts into a sample: YAML's own characters, and values at the edges.
const PIECES: [&str; 28] = [
    "", "\n", "  ", "- ", ": ", "{", "}", "[", "]", ",", "\"", "'", "#", "&a ", "*a", "<<: ", "!x ", "~", "0", "-1",
    "65536", "é", "\u{0}", "---\n", "all", "-", "::", "true",
];

fn assert_promises(desired: &DesiredState) {
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
        assert_health(service);
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
    let PortSet::Ranges(ranges) = &service.ports else {
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
    assert_eq!(service.ports.table_entry_count() as usize, service.ports.iter().count());
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
    let sound = |&RealServer {
                     upper_threshold: upper,
                     lower_threshold: lower,
                     ..
                 }: &RealServer| lower == 0 || lower < upper;
    assert!(servers.iter().all(sound));
}

fn assert_options(service: &Service) {
    let id = service.virtual_service;
    assert!(id.protocol == Protocol::Udp || !(service.quic || service.one_packet));
    if service.one_packet {
        assert!(service.scheduler.supports_one_packet() && service.persistence.is_none());
        assert!(service.servers.iter().all(|server| server.upper_threshold == 0));
    }
    let both = HashOptions {
        include_port: true,
        fallback: true,
    };
    match service.scheduler {
        Scheduler::Sh | Scheduler::Mh => {}
        Scheduler::Dh => assert!(!service.hash_options.include_port && !service.hash_options.fallback),
        _ => assert_eq!(service.hash_options, both),
    }
    if let Some(persistence) = service.persistence {
        let most = if id.vip.is_ipv4() { 32 } else { 128 };
        assert!((1..=most).contains(&persistence.prefix) && (1..=57_600).contains(&persistence.timeout_seconds));
    }
    if let Some(slots) = service.slots {
        assert!((251..=65_537).contains(&slots) && (2..slots).all(|n| slots % n != 0));
    }
}

fn assert_health(service: &Service) {
    let FailurePolicy {
        quorum,
        hysteresis,
        slow_start_seconds: slow_start,
        ..
    } = service.failure_policy;
    let sum: u32 = service.servers.iter().map(|server| u32::from(server.weight)).sum();
    assert!(hysteresis == 0 || quorum > 0);
    assert!(slow_start == 0 || service.scheduler.uses_weights());
    let notify = service.notify.iter().filter_map(NotifyTarget::command);
    let notify = notify.map(|notify| &notify.command);
    let Some(health) = &service.health else {
        assert!(u64::from(quorum) + u64::from(hysteresis) <= u64::from(sum) || quorum == 0);
        return assert!(notify.flatten().next().is_none_or(|program| program.starts_with('/')));
    };
    assert!(health.check.reports_weight() || quorum == 0 || quorum + hysteresis <= sum);
    assert!(health.timeout <= health.interval && !health.timeout.is_zero() && health.rise > 0 && health.fall > 0);
    assert!(health.jitter_percent <= 50);
    let ping = health.check == Check::Ping;
    assert!(ping || health.port.is_some() || service.ports == PortSet::one(service.virtual_service.port));
    match &health.check {
        Check::Http(http) => {
            assert!(http.path.starts_with('/') && http.path.is_ascii() && !http.expected_status.is_empty());
            assert!(
                http.expected_status
                    .iter()
                    .all(|(first, last)| 100 <= *first && first <= last && *last <= 599)
            );
            assert!(http.method != "HEAD" || (http.expected_body.is_none() && !http.weight_in_body));
        }
        Check::Dns(dns) => assert!(dns.name.ends_with('.') && !dns.record_type.is_empty() && !dns.rcode.is_empty()),
        Check::Udp(udp) => {
            assert!(udp.payload.len() <= 1400 && udp.reply_prefix.as_ref().is_none_or(|reply| !reply.is_empty()))
        }
        Check::Exec(exec) => assert!(exec.command[0].starts_with('/')),
        Check::Ping => assert!(health.target == CheckedAddress::Rip && health.port.is_none()),
        Check::Tcp => {}
    }
}

fn assert_tables(desired: &DesiredState) {
    let tables = desired.tables;
    assert!(
        [tables.flows4, tables.flows6, tables.ports]
            .into_iter()
            .all(u32::is_power_of_two)
    );
    let sum = |of: fn(&Service) -> u32| -> u32 { desired.services.iter().map(of).sum() };
    assert!(sum(slot_count) <= tables.slots && sum(|service| service.ports.table_entry_count()) <= tables.ports);
}

fn assert_unique<T: Eq + Hash>(items: impl ExactSizeIterator<Item = T>) {
    let count = items.len();
    assert_eq!(items.collect::<HashSet<_>>().len(), count);
}

/// A piece of a sample replaced: (where, how much of it, by which piece).
fn mutation() -> impl Strategy<Value = (usize, usize, &'static str)> {
    let longest = SAMPLE.len().max(FULL.len()).max(CHECKS.len());
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
    let health = (
        line(
            "health",
            &[
                "tcp",
                "ping",
                "none",
                "{dns: {}, port: 53}",
                "{exec: {command: /bin/check, weight: true}}",
            ],
        ),
        line("quorum", &["1", "2", "{weight: 2, hysteresis: 1}"]),
        line("slow_start", &["0", "10s"]),
    )
        .prop_map(|(health, quorum, slow_start)| health + &quorum + &slow_start);
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
        health,
    )
        .prop_map(|(ports, protocol, scheduler, d, e, f, g, h, i)| {
            [ports.as_str(), protocol, &scheduler, &d, &e, &f, &g, &h, &i].concat()
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

#[test]
fn the_samples_are_valid() {
    for sample in [SAMPLE, FULL, CHECKS] {
        assert_promises(&read(sample).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in any::<String>()) {
        let _ = read(&text);
    }

    #[test]
    fn mutated_sample(sample in prop::sample::select(&[SAMPLE, FULL, CHECKS][..]), mutations in prop::collection::vec(mutation(), 1..4)) {
        let mut text = sample.to_owned();
        for one in mutations {
            mutate(&mut text, one);
        }
        match read(&text) {
            Ok(desired) => assert_promises(&desired),
            Err(error) => {
                assert_eq!(error.to_string().lines().count(), error.faults.len());
                assert!(error.faults.is_sorted_by_key(|fault| fault.position));
            }
        }
    }

    #[test]
    fn clashing_services(services in prop::collection::vec(service(), 1..4)) {
        match read(&format!("interface: eth0\nservices:\n{}", services.concat())) {
            Ok(desired) => assert_promises(&desired),
            Err(error) => {
                assert!(!error.faults.is_empty());
                assert!(error.faults.iter().all(|fault| fault.position.is_some()), "{error}");
            }
        }
    }
}
