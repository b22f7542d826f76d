//! What a service and its real servers may say besides, and what it means.

use std::net::{IpAddr, Ipv6Addr};

use super::{FULL, SAMPLE, read, sample_with, with};
use crate::desired::{
    FailurePolicy, HashOptions, Persistence, PortSet, Protocol, RealServer, Scheduler, ServerState, Service,
    TableSizes, VirtualService,
};

fn host(last: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).into()
}

fn service(text: &str) -> Service {
    read(text).unwrap().services.swap_remove(0)
}

#[test]
fn every_field_written_out() {
    let server = |last, weight| RealServer {
        address: host(last),
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
        quic_id: None,
        state: ServerState::Up,
    };
    let desired = read(FULL).unwrap();
    assert_eq!(desired.interfaces, ["eth0", "eth0.10"]);
    assert_eq!(
        desired.tables,
        TableSizes {
            flows4: 65_536,
            flows6: 131_072,
            slots: 100_000,
            ports: 16_384,
            fragments: 4096
        }
    );
    assert_eq!(
        desired.services,
        [Service {
            name: "dns".to_owned(),
            virtual_service: VirtualService {
                vip: host(0x53),
                port: 443,
                protocol: Protocol::Udp,
            },
            ports: PortSet::Ranges(vec![443..=444, 8000..=8099]),
            scheduler: Scheduler::Mh,
            hash_options: HashOptions {
                include_port: true,
                fallback: true,
            },
            slots: Some(1021),
            persistence: Some(Persistence {
                timeout_seconds: 600,
                prefix: 64,
                persist_while_draining: false,
            }),
            one_packet: false,
            sorry_server: Some(host(0x99)),
            quic: true,
            health: None,
            failure_policy: FailurePolicy::default(),
            drain_timeout_seconds: Some(600),
            notify: None,
            local_access: true,
            awaits_checks: false,
            failed_removed_servers: std::collections::BTreeSet::new(),
            servers: vec![
                RealServer {
                    upper_threshold: 100,
                    lower_threshold: 80,
                    quic_id: Some(7),
                    state: ServerState::Up,
                    ..server(2, 3)
                },
                RealServer {
                    quic_id: Some(8),
                    state: ServerState::Up,
                    ..server(3, 1)
                },
                server(4, 1),
            ],
        }]
    );
}

#[test]
fn ipv6_in_any_spelling() {
    for written in [
        "2001:db8::53",
        "2001:DB8::53",
        "2001:0db8:0000:0000:0000:0000:0000:0053",
        "2001:db8:0:0::0.0.0.83",
    ] {
        let service = service(&with(
            FULL,
            "name: dns\n    vip: 2001:db8::53",
            &format!("vip: {written}"),
        ));
        assert_eq!(service.virtual_service.vip, host(0x53), "{written}");
        assert_eq!(service.name, "[2001:db8::53]:443/udp", "{written}");
    }
    let all = with(
        FULL,
        "name: dns\n    vip: 2001:db8::53\n    port: [443, 8000-8099, 444]",
        "vip: 2001:db8::53\n    port: all",
    );
    assert_eq!(service(&all).name, "[2001:db8::53]:all/udp");
}

#[test]
fn ports_sorted_and_joined() {
    let ports = |written: &str| {
        let service = service(&sample_with("port: 80", &format!("port: {written}")));
        (service.virtual_service.port, service.ports.to_string())
    };
    for (written, first, all) in [
        ("80", 80, "80"),
        ("1", 1, "1"),
        ("65535", 65_535, "65535"),
        ("1-65535", 1, "1-65535"),
        ("8000-8099", 8000, "8000-8099"),
        ("8000-8000", 8000, "8000"),
        ("[80]", 80, "80"),
        ("[443, 80]", 443, "80,443"),
        ("[443, 80, '8000-8099']", 443, "80,443,8000-8099"),
        ("[82, 80, 81]", 82, "80-82"),
        ("[100-200, 201, 50-99, 203]", 100, "50-201,203"),
        ("0", 0, "all"),
        ("all", 0, "all"),
    ] {
        assert_eq!(ports(written), (first, all.to_owned()), "{written}");
    }
}

#[test]
fn all_ports_beside_others() {
    let more = |vip: &str, port: &str, protocol: &str| {
        format!("  - {{vip: {vip}, port: {port}, protocol: {protocol}, realservers: [192.168.1.185]}}\n")
    };
    let text = SAMPLE.to_owned()
        + &more("192.168.1.160", "all", "tcp")
        + &more("192.168.1.160", "81-90", "tcp")
        + &more("192.168.1.160", "all", "udp")
        + &more("192.168.1.160", "80", "udp")
        + &more("192.168.1.161", "0", "tcp");
    let desired = read(&text).unwrap();
    let names: Vec<_> = desired.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "web",
            "192.168.1.160:all/tcp",
            "192.168.1.160:81/tcp",
            "192.168.1.160:all/udp",
            "192.168.1.160:80/udp",
            "192.168.1.161:all/tcp",
        ]
    );
}

#[test]
fn flags_and_what_they_hash() {
    let hashing = |written: &str| {
        let service = service(&sample_with("scheduler: rr", written));
        (
            service.hash_options.include_port,
            service.hash_options.fallback,
            service.scheduler_flags(),
        )
    };
    for (written, port, fallback, flags) in [
        ("scheduler: sh", false, false, &[][..]),
        ("scheduler: sh\n    flags: [sh-port]", true, false, &["sh-port"]),
        ("scheduler: sh\n    flags: [sh-fallback]", false, true, &["sh-fallback"]),
        (
            "scheduler: mh\n    flags: [mh-port, mh-fallback]",
            true,
            true,
            &["mh-fallback", "mh-port"],
        ),
        ("scheduler: mh", false, false, &[]),
        ("scheduler: maglev", true, true, &[]),
        ("scheduler: dh", false, false, &[]),
        ("scheduler: wlc", true, true, &[]),
    ] {
        assert_eq!(hashing(written), (port, fallback, flags.to_vec()), "{written}");
    }
}

#[test]
fn persistence_in_every_form() {
    let persistence = |written: &str| {
        let by = format!("port: 80\n    persistence: {written}\n");
        let persistence = service(&sample_with("port: 80\n", &by)).persistence.unwrap();
        (
            persistence.timeout_seconds,
            persistence.prefix,
            persistence.persist_while_draining,
        )
    };
    for (written, expected) in [
        ("360", (360, 32, true)),
        ("6m", (360, 32, true)),
        ("16h", (57_600, 32, true)),
        ("{timeout: 10}", (10, 32, true)),
        ("{}", (300, 32, true)),
        ("{mask: 24}", (300, 24, true)),
        ("{mask: 1}", (300, 1, true)),
        ("{mask: 255.255.255.0}", (300, 24, true)),
        ("{mask: 255.255.255.255}", (300, 32, true)),
        ("300\n    drain_persistence: false", (300, 32, false)),
        ("300\n    drain_persistence: true", (300, 32, true)),
    ] {
        assert_eq!(persistence(written), expected, "{written}");
    }
    let ipv6 = |mask: &str| {
        let text = with(FULL, "{timeout: 10m, mask: 64}", mask);
        service(&text).persistence.unwrap().prefix
    };
    assert_eq!((ipv6("60"), ipv6("{mask: 128}"), ipv6("{mask: 1}")), (128, 128, 1));
}

#[test]
fn one_packet_scheduling() {
    for scheduler in Scheduler::ALL
        .into_iter()
        .filter(|scheduler| scheduler.supports_one_packet())
    {
        let by = format!("protocol: udp\n    scheduler: {scheduler}\n    one_packet: true");
        let service = service(&sample_with("protocol: tcp\n    scheduler: rr", &by));
        assert!(service.one_packet && !service.records_all_flows(), "{scheduler}");
    }
    let off = "protocol: tcp\n    one_packet: false\n    quic: false";
    assert!(!service(&sample_with("protocol: tcp", off)).one_packet);
}

#[test]
fn thresholds() {
    let thresholds = |written: &str| {
        let [_, server] = service(&sample_with("weight: 1", written)).servers.try_into().unwrap();
        (server.upper_threshold, server.lower_threshold)
    };
    for (written, expected) in [
        ("upper: 1", (1, 0)),
        ("upper: 100, lower: 99", (100, 99)),
        ("lower: 80, upper: 100", (100, 80)),
        ("upper: 0, lower: 0", (0, 0)),
        ("lower: 0", (0, 0)),
        ("upper: 4294967295", (u32::MAX, 0)),
    ] {
        assert_eq!(thresholds(written), expected, "{written}");
    }
}

#[test]
fn the_ends_of_slots_and_tables() {
    for slots in [251, 509, 65_537] {
        assert_eq!(
            service(&with(FULL, "slots: 1021", &format!("slots: {slots}"))).slots,
            Some(slots)
        );
    }
    for (piece, ends) in [
        ("flows: 65536", [1024, 1 << 27]),
        ("flows6: 131072", [1024, 1 << 27]),
        ("slots: 100000", [1024, 1 << 27]),
        ("ports: 16384", [1024, 1 << 22]),
        ("fragments: 4096", [1024, 1 << 20]),
    ] {
        let (name, _) = piece.split_once(':').unwrap();
        for end in ends {
            read(&with(FULL, piece, &format!("{name}: {end}"))).unwrap();
        }
    }
}
