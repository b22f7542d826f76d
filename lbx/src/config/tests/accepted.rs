//! What is accepted, and what it means.

use std::{net::IpAddr, path::Path};

use super::{SAMPLE, read, sample_with};
use crate::{
    config::{command, failure_policy, file, health, load, real_server, service},
    desired::{
        AttachMode, DesiredState, FailurePolicy, HashOptions, PortSet, Protocol, RealServer, Scheduler, ServerState,
        Service, TableSizes, Timeouts, VirtualService,
    },
};

fn real_server(last: u8, weight: u16) -> RealServer {
    let address = IpAddr::from([192, 168, 1, last]);
    RealServer {
        address,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
        quic_id: None,
        state: ServerState::Up,
    }
}

fn sample() -> DesiredState {
    DesiredState {
        interfaces: vec!["eth0".to_owned()],
        mode: AttachMode::Auto,
        network_grace_seconds: 30,
        timeouts: Timeouts::default(),
        tables: TableSizes::default(),
        services: vec![Service {
            name: "web".to_owned(),
            virtual_service: VirtualService {
                vip: IpAddr::from([192, 168, 1, 160]),
                port: 80,
                protocol: Protocol::Tcp,
            },
            ports: PortSet::one(80),
            scheduler: Scheduler::Rr,
            hash_options: HashOptions {
                include_port: true,
                fallback: true,
            },
            slots: None,
            persistence: None,
            one_packet: false,
            sorry_server: None,
            quic: false,
            health: None,
            failure_policy: FailurePolicy::default(),
            drain_timeout_seconds: None,
            notify: None,
            local_access: true,
            awaits_checks: false,
            failed_removed_servers: std::collections::BTreeSet::new(),
            servers: vec![real_server(185, 1), real_server(190, 1)],
        }],
    }
}

#[test]
fn every_field_written_out() {
    assert_eq!(read(SAMPLE), Ok(sample()));
}

#[test]
fn only_what_must_be_there() {
    let text = "
interface: eth0
services:
  - vip: 192.168.1.160
    port: 80
    realservers: [192.168.1.185, 192.168.1.190]
";
    let mut expected = sample();
    expected.services[0].name = "192.168.1.160:80/tcp".to_owned();
    assert_eq!(read(text), Ok(expected));
}

#[test]
fn a_list_of_interfaces() {
    let desired = read(&sample_with("interface: eth0", "interface: [eth0, bond0.100]")).unwrap();
    assert_eq!(desired.interfaces, ["eth0", "bond0.100"]);
}

#[test]
fn every_mode_protocol_and_scheduler() {
    let with = |piece: &str, by: &str| read(&sample_with(piece, by)).unwrap();
    assert_eq!(with("mode: auto", "mode: native").mode, AttachMode::Native);
    assert_eq!(with("mode: auto", "mode: generic").mode, AttachMode::Generic);
    for scheduler in Scheduler::ALL {
        let by = format!("scheduler: {scheduler}");
        assert_eq!(with("scheduler: rr", &by).services[0].scheduler, scheduler);
    }
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let by = format!("protocol: {protocol}");
        assert_eq!(
            with("protocol: tcp", &by).services[0].virtual_service.protocol,
            protocol
        );
    }
}

#[test]
fn times_in_every_unit() {
    for (written, seconds) in [("1", 1), ("90s", 90), ("2m", 120), ("16h", 57_600), ("57600", 57_600)] {
        let desired = read(&sample_with("{established: 15m}", &format!("{{udp: {written}}}"))).unwrap();
        let udp_seconds = seconds;
        assert_eq!(
            desired.timeouts,
            Timeouts {
                udp_seconds,
                ..Timeouts::default()
            },
            "{written}"
        );
    }
}

#[test]
fn the_ends_of_ports_and_weights() {
    for port in [1, 65_535] {
        let desired = read(&sample_with("port: 80", &format!("port: {port}"))).unwrap();
        assert_eq!(desired.services[0].virtual_service.port, port);
    }
    for weight in [0, 65_535] {
        let desired = read(&sample_with("weight: 1", &format!("weight: {weight}"))).unwrap();
        assert_eq!(desired.services[0].servers[1].weight, weight);
    }
}

#[test]
fn all_may_drain() {
    let desired = read(&sample_with(
        "- 192.168.1.185\n      - {address: 192.168.1.190, weight: 1}",
        "- {address: 192.168.1.185, weight: 0}",
    ));
    assert_eq!(desired.unwrap().services[0].servers, [real_server(185, 0)]);
}

#[test]
fn one_vip_with_several_ports_and_protocols() {
    let more = "
  - {vip: 192.168.1.160, port: 443, realservers: [192.168.1.185]}
  - {vip: 192.168.1.160, port: 443, protocol: udp, realservers: [192.168.1.185]}
";
    assert_eq!(read(&(SAMPLE.to_owned() + more)).unwrap().services.len(), 3);
}

#[test]
fn anchors_aliases_and_merge_keys() {
    let text = "
interface: eth0
services:
  - &web {name: web, vip: 192.168.1.160, port: 80, realservers: &pool [192.168.1.185, {address: 192.168.1.190}]}
  - {<<: *web, name: tls, port: 443}
  - {vip: 192.168.1.161, port: 80, realservers: *pool}
";
    let desired = read(text).unwrap();
    let names: Vec<_> = desired.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["web", "tls", "192.168.1.161:80/tcp"]);
    assert!(
        desired
            .services
            .iter()
            .all(|service| service.servers == sample().services[0].servers)
    );
}

#[test]
fn a_byte_order_mark_and_windows_line_ends() {
    assert_eq!(read(&format!("\u{feff}{SAMPLE}")), Ok(sample()));
    assert_eq!(read(&SAMPLE.replace('\n', "\r\n")), Ok(sample()));
}

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/lb.yaml");

#[test]
fn the_example_loads() {
    let desired = load(Path::new(EXAMPLE)).unwrap();
    let mut expected = sample();
    expected.services[0].scheduler = Scheduler::Wrr;
    expected.services[0].health.clone_from(&desired.services[0].health);
    assert_eq!(desired.services[0], expected.services[0]);
    let checks: Vec<_> = desired
        .services
        .iter()
        .map(|service| service.health.as_ref().unwrap().check.name())
        .collect();
    assert_eq!(checks, ["http", "dns", "https", "exec", "udp"]);
    let names: Vec<_> = desired.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["web", "192.168.1.160:53/udp", "shop", "rest", "quic"]);
    // What it calls the defaults are the defaults.
    assert_eq!(
        (desired.mode, desired.timeouts),
        (AttachMode::default(), Timeouts::default())
    );
    assert_eq!(desired.tables, TableSizes::default());
}

#[test]
fn the_example_shows_every_field_and_scheduler() {
    let text = std::fs::read_to_string(EXAMPLE).unwrap();
    let lists: [&[&str]; 18] = [
        &file::ROOT,
        &file::TIMEOUTS,
        &file::TABLES,
        &service::SERVICE,
        &service::PERSISTENCE,
        &real_server::REAL_SERVER,
        &failure_policy::DEFAULTS,
        &failure_policy::QUORUM,
        &command::EXEC,
        &command::NOTIFY,
        &health::CHECKS,
        &health::COMMON,
        &health::DAMPING,
        &health::http::HTTP,
        &health::http::BODY,
        &health::tls::TLS,
        &health::datagram::DNS,
        &[&health::datagram::UDP[..], &health::datagram::BYTES].concat(),
    ];
    for field in lists.concat() {
        let is_key =
            |at: usize| text[..at].ends_with([' ', '\n', '-', '{']) && text[at + field.len()..].starts_with(':');
        assert!(text.match_indices(field).any(|(at, _)| is_key(at)), "{field}");
    }
    let comments: Vec<_> = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix('#'))
        .collect();
    for scheduler in Scheduler::ALL {
        let name = scheduler.name();
        let explained = |line: &&str| line.split([' ', ',']).take(6).any(|word| word == name);
        assert!(comments.iter().any(explained), "{name}");
    }
}
