//! Refusals of what follows when real servers fail, word for word.

use super::{SAMPLE, assert_field_refused, assert_texts_refused, read, with};

#[test]
fn fields_of_a_service() {
    assert_field_refused(&[
        (
            "on_failure: remap",
            "lb.yaml:8:17: services[0].on_failure: unknown treatment of connections \"remap\": use rehash, keep or drop",
        ),
        (
            "on_failure: 1",
            "lb.yaml:8:17: services[0].on_failure: 1 is not a treatment of connections: use rehash, keep or drop",
        ),
        (
            "on_empty: refuse",
            "lb.yaml:8:15: services[0].on_empty: unknown treatment of packets without a real server \"refuse\": use reject or drop",
        ),
        (
            "on_empty: false",
            "lb.yaml:8:15: services[0].on_empty: false is not a treatment of packets without a real server: use reject or drop",
        ),
        (
            "quorum: 0",
            "lb.yaml:8:13: services[0].quorum: 0 is not a sum of weights: use 1 to 4294967295",
        ),
        (
            "quorum: 3",
            "lb.yaml:8:13: services[0].quorum: 3 is more than all real servers weigh together, 2: the service would never be up",
        ),
        (
            "quorum: two",
            "lb.yaml:8:13: services[0].quorum: \"two\" is not a sum of weights: use a plain number from 1 to 4294967295",
        ),
        (
            "quorum: {hysteresis: 1}",
            "lb.yaml:8:13: services[0].quorum.weight: is missing: give the sum of weights that makes the quorum",
        ),
        (
            "quorum: {weight: 2, hysteresis: 2}",
            "lb.yaml:8:37: services[0].quorum.hysteresis: the service would be up again from 4 on, and all real servers weigh 2 together: make it smaller",
        ),
        (
            "quorum: {weight: 2, hysteresis: 1}",
            "lb.yaml:8:37: services[0].quorum.hysteresis: the service would be up again from 3 on, and all real servers weigh 2 together: make it smaller",
        ),
        (
            "quorum: {weight: 3}",
            "lb.yaml:8:22: services[0].quorum.weight: 3 is more than all real servers weigh together, 2: the service would never be up",
        ),
        (
            "quorum: {weight: 2, up: 1}",
            "lb.yaml:8:25: services[0].quorum.up: unknown field: known here are weight, hysteresis",
        ),
        (
            "drain_timeout: 0",
            "lb.yaml:8:20: services[0].drain_timeout: 0 is not a timeout: use 1s to 16h, in whole seconds or with s, m or h, or none",
        ),
        (
            "drain_timeout: never",
            "lb.yaml:8:20: services[0].drain_timeout: \"never\" is not a timeout: use 1s to 16h, in whole seconds or with s, m or h, or none",
        ),
        (
            "drain_timeout: 17h",
            "lb.yaml:8:20: services[0].drain_timeout: \"17h\" is not a timeout: use 1s to 16h, in whole seconds or with s, m or h, or none",
        ),
        (
            "slow_start: 17h",
            "lb.yaml:8:17: services[0].slow_start: \"17h\" is not a time: use 0s to 16h, in whole seconds or with s, m or h",
        ),
        (
            "slow_start: 500ms",
            "lb.yaml:8:17: services[0].slow_start: \"500ms\" is not a time: use 0s to 16h, in whole seconds or with s, m or h",
        ),
        (
            "slow_start: 30s",
            "lb.yaml:8:17: services[0].slow_start: slow_start is not supported by scheduler rr, which ignores weights: use wrr, maglev, wlc, sed, nq, sh, mh, fo, ovf, dh or p2c",
        ),
        (
            "local: no",
            "lb.yaml:8:12: services[0].local: \"no\" is not a boolean: use true or false",
        ),
        (
            "notify: told",
            "lb.yaml:8:13: services[0].notify: \"told\" is not the path of a program: use 1 to 4095 bytes that begin with /, the whole path of a program",
        ),
        (
            "notify: []",
            "lb.yaml:8:13: services[0].notify: the list is empty: list the program and its arguments",
        ),
        (
            "notify: {}",
            "lb.yaml:8:13: services[0].notify: does not say what is notified: use one of command, socket",
        ),
        (
            "notify: {command: /bin/told, timeout: 0}",
            "lb.yaml:8:43: services[0].notify.timeout: 0 is not a time for a command: use 1s to 10m, in whole seconds or with ms, s, m or h",
        ),
        (
            "notify: {command: /bin/told, after: 0}",
            "lb.yaml:8:34: services[0].notify.after: unknown field: known here are command, timeout, socket",
        ),
        (
            "notify: {socket: run/lbx.sock}",
            "lb.yaml:8:22: services[0].notify.socket: \"run/lbx.sock\" is not the path of a socket: use 1 to 107 bytes that begin with /, the whole path of a Unix datagram socket or a FIFO",
        ),
        (
            "notify: {socket: /run/s, timeout: 1s}",
            "lb.yaml:8:39: services[0].notify.timeout: is that of a command: a socket is never waited for, leave it out",
        ),
        (
            "notify: {socket: /run/s, command: /bin/told}",
            "lb.yaml:8:39: services[0].notify.command: says what is notified, and so does services[0].notify.socket (line 8): leave one of them out",
        ),
        (
            "notify: /bin/told me",
            "lb.yaml:8:13: services[0].notify: \"/bin/told me\" has white space: it is not run by a shell, so give a list of the program and its arguments",
        ),
    ]);
}

#[test]
fn ports_that_must_be_stated() {
    let of = |port: &str, health: &str| with(SAMPLE, "port: 80\n", &format!("port: {port}\n    health: {health}\n"));
    let by_default = format!("defaults: {{health: udp}}\n{}", with(SAMPLE, "port: 80", "port: 80-81"));
    assert_texts_refused([
        (
            of("all", "tcp"),
            "lb.yaml:8:13: services[0].health: needs port: service \"web\" has all ports, and a check probes one",
        ),
        (
            of("[443, 80]", "{exec: {command: /bin/check}}"),
            "lb.yaml:8:13: services[0].health: needs port: service \"web\" has the ports 80,443, and a check probes one",
        ),
        (
            by_default,
            "lb.yaml:1:20: defaults.health: needs port: service \"web\" has the ports 80-81, and a check probes one",
        ),
    ]);
}

#[test]
fn defaults() {
    let defaults = |value: &str| format!("defaults: {value}\n{SAMPLE}");
    assert_texts_refused([
        (
            defaults("{quorum: 2}"),
            "lb.yaml:1:12: defaults.quorum: unknown field: known here are health, on_failure, on_empty, drain_timeout, slow_start, notify, local",
        ),
        (
            defaults("{drain_timeout: 500ms}"),
            "lb.yaml:1:27: defaults.drain_timeout: \"500ms\" is not a timeout: use 1s to 16h, in whole seconds or with s, m or h, or none",
        ),
        (
            defaults("tcp"),
            "lb.yaml:1:11: defaults: \"tcp\" is not a mapping: use the fields health, on_failure, on_empty, drain_timeout, slow_start, notify, local",
        ),
        (
            defaults("{health: {http: {path: healthz}}}"),
            "lb.yaml:1:34: defaults.health.http.path: \"healthz\" is not a path: use 1 to 2048 bytes that begin with /, of printable ASCII without space or #",
        ),
    ]);
    assert!(read(&defaults("{}")).is_ok());
}
