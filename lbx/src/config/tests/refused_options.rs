//! Refusals of what a service and its real servers may say besides, word for word.

use super::{FULL, SAMPLE, assert_refused, assert_refused_in, assert_texts_refused};

#[test]
fn flags() {
    assert_refused_in(
        FULL,
        &[
            (
                "scheduler: mh",
                "scheduler: sh",
                "lb.yaml:9:13: services[0].flags[0]: \"mh-port\" is not a flag of sh: use sh-port or sh-fallback\n\
                 lb.yaml:9:22: services[0].flags[1]: \"mh-fallback\" is not a flag of sh: use sh-port or sh-fallback",
            ),
            (
                "scheduler: mh",
                "scheduler: maglev",
                "lb.yaml:9:12: services[0].flags: maglev takes no flags: it is mh with mh-port and mh-fallback",
            ),
            (
                "scheduler: mh",
                "scheduler: dh",
                "lb.yaml:9:12: services[0].flags: dh takes no flags: leave them out",
            ),
            (
                "scheduler: mh\n    ",
                "",
                "lb.yaml:8:12: services[0].flags: rr takes no flags: leave them out",
            ),
            (
                "[mh-port, mh-fallback]",
                "[mh-port, sh-fallback]",
                "lb.yaml:9:22: services[0].flags[1]: \"sh-fallback\" is not a flag of mh: use mh-port or mh-fallback",
            ),
            (
                "[mh-port, mh-fallback]",
                "[mh-port, mh-port]",
                "lb.yaml:9:22: services[0].flags[1]: \"mh-port\" is already services[0].flags[0] (line 9)",
            ),
            (
                "[mh-port, mh-fallback]",
                "[mh-port, 1]",
                "lb.yaml:9:22: services[0].flags[1]: 1 is not a flag of mh: use mh-port or mh-fallback",
            ),
            (
                "[mh-port, mh-fallback]",
                "mh-port",
                "lb.yaml:9:12: services[0].flags: \"mh-port\" is not a list: list the flags of the scheduler",
            ),
            (
                "[mh-port, mh-fallback]",
                "[]",
                "lb.yaml:9:12: services[0].flags: the list is empty: leave it out",
            ),
        ],
    );
}

#[test]
fn slots() {
    assert_refused_in(
        FULL,
        &[
            (
                "slots: 1021",
                "slots: 1000",
                "lb.yaml:10:12: services[0].slots: 1000 is not a prime: the nearest are 997 and 1009",
            ),
            (
                "slots: 1021",
                "slots: 65536",
                "lb.yaml:10:12: services[0].slots: 65536 is not a prime: the nearest are 65521 and 65537",
            ),
            (
                "slots: 1021",
                "slots: 241",
                "lb.yaml:10:12: services[0].slots: 241 is not a number of slots: use 251 to 65537",
            ),
            (
                "slots: 1021",
                "slots: 65539",
                "lb.yaml:10:12: services[0].slots: 65539 is not a number of slots: use 251 to 65537",
            ),
            (
                "slots: 1021",
                "slots: many",
                "lb.yaml:10:12: services[0].slots: \"many\" is not a number of slots: use a plain number from 251 to 65537",
            ),
        ],
    );
}

#[test]
fn persistence() {
    const TIMEOUT: &str = "is not a timeout: use 1s to 16h, in whole seconds or with s, m or h";
    assert_refused_in(
        FULL,
        &[
            (
                "{timeout: 10m, mask: 64}",
                "true",
                "lb.yaml:11:18: services[0].persistence: true is not a timeout: use 1s to 16h, in whole seconds or with s, m or h",
            ),
            (
                "{timeout: 10m, mask: 64}",
                "0",
                "lb.yaml:11:18: services[0].persistence: 0 is not a timeout: use 1s to 16h, in whole seconds or with s, m or h",
            ),
            (
                "timeout: 10m",
                "timeout: 17h",
                "lb.yaml:11:28: services[0].persistence.timeout: \"17h\" is not a timeout: use 1s to 16h, in whole seconds or with s, m or h",
            ),
            (
                "timeout: 10m",
                "time: 10m",
                "lb.yaml:11:19: services[0].persistence.time: unknown field: known here are timeout, mask",
            ),
            (
                "mask: 64",
                "mask: 0",
                "lb.yaml:11:39: services[0].persistence.mask: 0 is not an IPv6 mask: use a prefix length from 1 to 128",
            ),
            (
                "mask: 64",
                "mask: 129",
                "lb.yaml:11:39: services[0].persistence.mask: 129 is not an IPv6 mask: use a prefix length from 1 to 128",
            ),
            (
                "mask: 64",
                "mask: 255.255.255.0",
                "lb.yaml:11:39: services[0].persistence.mask: \"255.255.255.0\" is not an IPv6 mask: use a prefix length from 1 to 128",
            ),
            (
                "persistence: {timeout: 10m, mask: 64}\n    ",
                "",
                "lb.yaml:11:24: services[0].drain_persistence: needs persistence: add it, or leave this out",
            ),
            (
                "drain_persistence: false",
                "drain_persistence: no",
                "lb.yaml:12:24: services[0].drain_persistence: \"no\" is not a boolean: use true or false",
            ),
        ],
    );
    let ipv4 = |mask: &str| SAMPLE.replace("port: 80\n", &format!("port: 80\n    persistence: {{mask: {mask}}}\n"));
    assert_texts_refused([
        (
            ipv4("33"),
            "lb.yaml:8:25: services[0].persistence.mask: 33 is not an IPv4 mask: use a prefix length from 1 to 32, or a netmask like 255.255.255.0",
        ),
        (
            ipv4("255.0.255.0"),
            "lb.yaml:8:25: services[0].persistence.mask: \"255.0.255.0\" is not an IPv4 mask: use a prefix length from 1 to 32, or a netmask like 255.255.255.0",
        ),
        (
            ipv4("0.0.0.0"),
            "lb.yaml:8:25: services[0].persistence.mask: \"0.0.0.0\" is not an IPv4 mask: use a prefix length from 1 to 32, or a netmask like 255.255.255.0",
        ),
        (
            ipv4("/24"),
            "lb.yaml:8:25: services[0].persistence.mask: \"/24\" is not an IPv4 mask: use a prefix length from 1 to 32, or a netmask like 255.255.255.0",
        ),
    ]);
    assert!(read_error("persistence: [300]").ends_with(&format!("a list {TIMEOUT}")));
}

/// What is said of the sample with one more field in its service.
fn read_error(field: &str) -> String {
    let text = SAMPLE.replace("port: 80\n", &format!("port: 80\n    {field}\n"));
    super::read(&text).unwrap_err().to_string()
}

#[test]
fn one_packet() {
    const UDP: &str = "\
interface: eth0
services:
  - vip: 192.168.1.160
    port: 53
    protocol: udp
    scheduler: rr
    one_packet: true
    realservers:
      - {address: 192.168.1.185, weight: 1}
";
    super::read(UDP).unwrap();
    assert_refused_in(
        UDP,
        &[
            (
                "protocol: udp",
                "protocol: tcp",
                "lb.yaml:7:17: services[0].one_packet: is for UDP alone, and the service is tcp: leave it out",
            ),
            (
                "one_packet: true",
                "one_packet: 1",
                "lb.yaml:7:17: services[0].one_packet: 1 is not a boolean: use true or false",
            ),
            (
                "one_packet: true",
                "one_packet: true\n    persistence: 300",
                "lb.yaml:7:17: services[0].one_packet: keeps no record of clients, which persistence needs: leave one of them out",
            ),
            (
                "weight: 1",
                "upper: 10",
                "lb.yaml:7:17: services[0].one_packet: counts no connections, which upper needs: leave one of them out",
            ),
        ],
    );
    for scheduler in ["lc", "wlc", "sed", "nq", "ovf", "fo", "p2c"] {
        let text = UDP.replace("scheduler: rr", &format!("scheduler: {scheduler}"));
        assert_eq!(
            super::read(&text).unwrap_err().to_string(),
            format!(
                "lb.yaml:7:17: services[0].one_packet: keeps no records, which scheduler {scheduler} needs: use rr, wrr, maglev, sh, mh or dh"
            )
        );
    }
}

#[test]
fn quic() {
    assert_refused_in(
        FULL,
        &[
            (
                "protocol: udp",
                "protocol: tcp",
                "lb.yaml:14:11: services[0].quic: is for UDP alone, and the service is tcp: leave it out",
            ),
            (
                "quic: true",
                "quic: \"true\"",
                "lb.yaml:14:11: services[0].quic: \"true\" is not a boolean: use true or false",
            ),
            (
                "quic: true",
                "quic: false",
                "lb.yaml:16:75: services[0].realservers[0].quic_id: needs quic: true in its service\n\
                 lb.yaml:17:41: services[0].realservers[1].quic_id: needs quic: true in its service",
            ),
            (
                "quic_id: 8",
                "quic_id: 7",
                "lb.yaml:17:41: services[0].realservers[1].quic_id: 7 is already services[0].realservers[0].quic_id (line 16)",
            ),
            (
                "quic_id: 8",
                "quic_id: 65536",
                "lb.yaml:17:41: services[0].realservers[1].quic_id: 65536 is not a server id: use 0 to 65535",
            ),
            (
                "quic_id: 8",
                "quic_id: '0x08'",
                "lb.yaml:17:41: services[0].realservers[1].quic_id: \"0x08\" is not a server id: use a plain number from 0 to 65535",
            ),
        ],
    );
}

#[test]
fn thresholds() {
    assert_refused_in(
        FULL,
        &[
            (
                "lower: 80",
                "lower: 100",
                "lb.yaml:16:62: services[0].realservers[0].lower: 100 is not below upper: use 0 to 99",
            ),
            (
                "upper: 100",
                "upper: 0",
                "lb.yaml:16:60: services[0].realservers[0].lower: needs upper: give the threshold it belongs to",
            ),
            (
                "upper: 100, ",
                "",
                "lb.yaml:16:50: services[0].realservers[0].lower: needs upper: give the threshold it belongs to",
            ),
            (
                "upper: 100",
                "upper: 4294967296",
                "lb.yaml:16:50: services[0].realservers[0].upper: 4294967296 is not a number of connections: use 0 to 4294967295",
            ),
            (
                "upper: 100",
                "upper: none",
                "lb.yaml:16:50: services[0].realservers[0].upper: \"none\" is not a number of connections: use a plain number from 0 to 4294967295",
            ),
        ],
    );
    assert_refused(&[(
        "weight: 1}",
        "lower: 1}",
        "lb.yaml:12:41: services[0].realservers[1].lower: needs upper: give the threshold it belongs to",
    )]);
}
