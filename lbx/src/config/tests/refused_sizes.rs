//! Refusals of table sizes, and of services that have no room in them, word for word.

use super::{FULL, SAMPLE, assert_refused_in, assert_texts_refused};

#[test]
fn sizes_of_tables() {
    assert_refused_in(
        FULL,
        &[
            (
                "flows: 65536",
                "flow: 65536",
                "lb.yaml:2:10: tables.flow: unknown field: known here are flows, flows6, slots, ports, fragments",
            ),
            (
                "tables: {flows: 65536, flows6: 131072, slots: 100000, ports: 16384, fragments: 4096}",
                "tables: 65536",
                "lb.yaml:2:9: tables: 65536 is not a mapping: use the fields flows, flows6, slots, ports, fragments",
            ),
            (
                "flows: 65536",
                "flows: 512",
                "lb.yaml:2:17: tables.flows: 512 is not a number of flows: use 1024 to 134217728",
            ),
            (
                "flows: 65536",
                "flows: 268435456",
                "lb.yaml:2:17: tables.flows: 268435456 is not a number of flows: use 1024 to 134217728",
            ),
            (
                "flows: 65536",
                "flows: 64K",
                "lb.yaml:2:17: tables.flows: \"64K\" is not a number of flows: use a plain number from 1024 to 134217728",
            ),
            (
                "flows: 65536",
                "flows: 1000000",
                "lb.yaml:2:17: tables.flows: 1000000 is not a power of two: the nearest are 524288 and 1048576",
            ),
            (
                "flows6: 131072",
                "flows6: 131071",
                "lb.yaml:2:32: tables.flows6: 131071 is not a power of two: the nearest are 65536 and 131072",
            ),
            (
                "slots: 100000",
                "slots: 1000",
                "lb.yaml:2:47: tables.slots: 1000 is not a number of slots: use 1024 to 134217728",
            ),
            (
                "ports: 16384",
                "ports: 8388608",
                "lb.yaml:2:62: tables.ports: 8388608 is not a number of ports: use 1024 to 4194304",
            ),
            (
                "ports: 16384",
                "ports: 10000",
                "lb.yaml:2:62: tables.ports: 10000 is not a power of two: the nearest are 8192 and 16384",
            ),
            (
                "fragments: 4096",
                "fragments: -1",
                "lb.yaml:2:80: tables.fragments: -1 is not a number of fragments: use 1024 to 1048576",
            ),
        ],
    );
}

#[test]
fn services_without_room() {
    assert_refused_in(
        FULL,
        &[
            (
                "  - name: dns\n",
                "  - {vip: 2001:db8::54, port: 53, slots: 65537, realservers: ['2001:db8::2']}\n  - {vip: 2001:db8::54, port: 54, slots: 65537, realservers: ['2001:db8::2']}\n  - name: dns\n",
                "lb.yaml:2:9: tables: the services need 132095 slots and tables.slots is 100000: make it larger",
            ),
            (
                "8000-8099",
                "8000-24382",
                "lb.yaml:2:9: tables: the services need 16385 ports and tables.ports is 16384: make it larger",
            ),
        ],
    );
    let services = SAMPLE.replace("port: 80", "port: 1-65535")
        + "  - {vip: 192.168.1.161, port: 1-65535, realservers: [192.168.1.185]}\n"
        + "  - {vip: 192.168.1.162, port: [80, 443, 8000], realservers: [192.168.1.185]}\n";
    assert_texts_refused([(
        services,
        "lb.yaml:5:3: services: the services need 131073 ports and tables.ports is 131072: make it larger",
    )]);
}
