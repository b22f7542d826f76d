//! Refusals of single values, word for word.

use super::assert_refused;

#[test]
fn names_and_choices() {
    assert_refused(&[
        (
            "scheduler: rr",
            "scheduler: lblc",
            "lb.yaml:9:16: services[0].scheduler: unknown scheduler \"lblc\": use rr, wrr, maglev, lc, wlc, sed, nq, sh, mh, fo, ovf, dh or p2c",
        ),
        (
            "scheduler: rr",
            "scheduler: RR",
            "lb.yaml:9:16: services[0].scheduler: unknown scheduler \"RR\": use rr, wrr, maglev, lc, wlc, sed, nq, sh, mh, fo, ovf, dh or p2c",
        ),
        (
            "scheduler: rr",
            "scheduler: [rr, wrr]",
            "lb.yaml:9:16: services[0].scheduler: a list is not a scheduler: use rr, wrr, maglev, lc, wlc, sed, nq, sh, mh, fo, ovf, dh or p2c",
        ),
        (
            "protocol: tcp",
            "protocol: sctp",
            "lb.yaml:8:15: services[0].protocol: unknown protocol \"sctp\": use tcp or udp",
        ),
        (
            "protocol: tcp",
            "protocol: 6",
            "lb.yaml:8:15: services[0].protocol: 6 is not a protocol: use tcp or udp",
        ),
        (
            "mode: auto",
            "mode: offload",
            "lb.yaml:2:7: mode: unknown mode \"offload\": use auto, native or generic",
        ),
        (
            "name: web",
            "name: \"\"",
            "lb.yaml:5:11: services[0].name: \"\" is not a service name: use 1 to 64 bytes without white space",
        ),
        (
            "name: web",
            "name: web server",
            "lb.yaml:5:11: services[0].name: \"web server\" is not a service name: use 1 to 64 bytes without white space",
        ),
        (
            "name: web",
            "name: 80",
            "lb.yaml:5:11: services[0].name: 80 is not a service name: to use it as one, put it in quotes",
        ),
        (
            "name: web",
            "name: [web]",
            "lb.yaml:5:11: services[0].name: a list is not a service name: use 1 to 64 bytes without white space",
        ),
        (
            "interface: eth0",
            "interface: \"\"",
            "lb.yaml:1:12: interface: \"\" is not an interface name: use 1 to 15 bytes without '/', ':' or white space",
        ),
        (
            "interface: eth0",
            "interface: sixteen-bytes-ab",
            "lb.yaml:1:12: interface: \"sixteen-bytes-ab\" is not an interface name: use 1 to 15 bytes without '/', ':' or white space",
        ),
        (
            "interface: eth0",
            "interface: eth0/1",
            "lb.yaml:1:12: interface: \"eth0/1\" is not an interface name: use 1 to 15 bytes without '/', ':' or white space",
        ),
        (
            "interface: eth0",
            "interface: eth 0",
            "lb.yaml:1:12: interface: \"eth 0\" is not an interface name: use 1 to 15 bytes without '/', ':' or white space",
        ),
        (
            "interface: eth0",
            "interface: ..",
            "lb.yaml:1:12: interface: \"..\" is not an interface name: use 1 to 15 bytes without '/', ':' or white space",
        ),
        (
            "interface: eth0",
            "interface: 5",
            "lb.yaml:1:12: interface: 5 is not an interface name: to use it as one, put it in quotes",
        ),
        (
            "interface: eth0",
            "interface: []",
            "lb.yaml:1:12: interface: the list is empty: name at least one NIC",
        ),
        (
            "interface: eth0",
            "interface: [eth0, eth1, eth0]",
            "lb.yaml:1:25: interface[2]: \"eth0\" is already interface[0] (line 1)",
        ),
        (
            "interface: eth0",
            "interface: [eth0, ~]",
            "lb.yaml:1:19: interface[1]: is empty: give it a value or leave it out",
        ),
    ]);
}

#[test]
fn numbers() {
    assert_refused(&[
        (
            "weight: 1",
            "weight: 65536",
            "lb.yaml:12:42: services[0].realservers[1].weight: 65536 is not a weight: use 0 to 65535",
        ),
        (
            "weight: 1",
            "weight: -1",
            "lb.yaml:12:42: services[0].realservers[1].weight: -1 is not a weight: use 0 to 65535",
        ),
        (
            "weight: 1",
            "weight: 0.5",
            "lb.yaml:12:42: services[0].realservers[1].weight: 0.5 is not a weight: use a plain number from 0 to 65535",
        ),
        (
            "established: 15m",
            "established: 0",
            "lb.yaml:3:25: timeouts.established: 0 is not a timeout: use 1s to 16h, in whole seconds or with s, m or h",
        ),
        (
            "established: 15m",
            "established: 17h",
            "lb.yaml:3:25: timeouts.established: \"17h\" is not a timeout: use 1s to 16h, in whole seconds or with s, m or h",
        ),
        (
            "established: 15m",
            "established: 57601",
            "lb.yaml:3:25: timeouts.established: 57601 is not a timeout: use 1s to 16h, in whole seconds or with s, m or h",
        ),
        (
            "established: 15m",
            "established: 15 minutes",
            "lb.yaml:3:25: timeouts.established: \"15 minutes\" is not a timeout: use 1s to 16h, in whole seconds or with s, m or h",
        ),
        (
            "established: 15m",
            "established: -1",
            "lb.yaml:3:25: timeouts.established: -1 is not a timeout: use 1s to 16h, in whole seconds or with s, m or h",
        ),
        (
            "established: 15m",
            "established: 1.5",
            "lb.yaml:3:25: timeouts.established: 1.5 is not a timeout: use 1s to 16h, in whole seconds or with s, m or h",
        ),
        (
            "established: 15m",
            "established: m",
            "lb.yaml:3:25: timeouts.established: \"m\" is not a timeout: use 1s to 16h, in whole seconds or with s, m or h",
        ),
        (
            "established: 15m",
            "established: 99999999999999999999h",
            "lb.yaml:3:25: timeouts.established: \"99999999999999999999h\" is not a timeout: use 1s to 16h, in whole seconds or with s, m or h",
        ),
    ]);
}
