//! Files with more than one mistake: each is reported once, in the order of the file, and none that follows from another.

use super::{SAMPLE, assert_refused, assert_texts_refused, read, with};
use crate::config::limits;

/// Every kind of place where several mistakes can be at once.
const WRONG: &str = "\
interface: [eth0, eth0, 7]
mode: fast
timeouts: {half_open: 0, closing: x}
tables: {flows: 1000, fragments: 0}
defaults:
  health: {http: {method: PUT, headers: {Host: a, X: \"\\t\"}}, interval: 1h, rise: 0, damping: {failures: 0}}
  notify: {command: [check, \"\"], timeout: 0}
  local: maybe
services:
  - name: a b
    vip: 10.0.0.1
    port: [0, 99999]
    protocol: sctp
    flags: [x]
    slots: 256
    persistence: {timeout: 0, mask: 99}
    quorum: {weight: 0, hysteresis: -1}
    realservers:
      - {address: 10.0.0.300, weight: -1, upper: x, lower: y}
      - ~
      - 10.0.0.2
      - 10.0.0.2
  - vip: 127.0.0.1
    port: 80
    realservers: [2001:db8::1]
  - vip: 10.0.0.3
    port: 80
    bogus: 1
    realservers: [2001:db8::1]
";

const REFUSED: &str = "\
lb.yaml:1:19: interface[1]: \"eth0\" is already interface[0] (line 1)
lb.yaml:1:25: interface[2]: 7 is not an interface name: to use it as one, put it in quotes
lb.yaml:2:7: mode: unknown mode \"fast\": use auto, native or generic
lb.yaml:3:23: timeouts.half_open: 0 is not a timeout: use 1s to 16h, in whole seconds or with s, m or h
lb.yaml:3:35: timeouts.closing: \"x\" is not a timeout: use 1s to 16h, in whole seconds or with s, m or h
lb.yaml:4:17: tables.flows: 1000 is not a number of flows: use 1024 to 134217728
lb.yaml:4:34: tables.fragments: 0 is not a number of fragments: use 1024 to 1048576
lb.yaml:6:27: defaults.health.http.method: unknown method \"PUT\": use GET, HEAD, OPTIONS or POST
lb.yaml:6:42: defaults.health.http.headers.Host: give it as host, beside headers
lb.yaml:6:54: defaults.health.http.headers.X: \"\\t\" is not the value of a header: use 0 to 4096 bytes of printable ASCII without spaces at the ends
lb.yaml:6:82: defaults.health.rise: 0 is not a number of probes: use 1 to 255
lb.yaml:6:105: defaults.health.damping.failures: 0 is not a number of failures: use 1 to 255
lb.yaml:7:22: defaults.notify.command[0]: \"check\" is not the path of a program: use 1 to 4095 bytes that begin with /, the whole path of a program
lb.yaml:7:43: defaults.notify.timeout: 0 is not a time for a command: use 1s to 10m, in whole seconds or with ms, s, m or h
lb.yaml:8:10: defaults.local: \"maybe\" is not a boolean: use true or false
lb.yaml:10:11: services[0].name: \"a b\" is not a service name: use 1 to 64 bytes without white space
lb.yaml:12:12: services[0].port[0]: 0 means all ports: give it alone, as port: all
lb.yaml:12:15: services[0].port[1]: 99999 is not a port: use 1 to 65535, or a range like 8000-8099
lb.yaml:13:15: services[0].protocol: unknown protocol \"sctp\": use tcp or udp
lb.yaml:14:12: services[0].flags: rr takes no flags: leave them out
lb.yaml:15:12: services[0].slots: 256 is not a prime: the nearest are 251 and 257
lb.yaml:16:28: services[0].persistence.timeout: 0 is not a timeout: use 1s to 16h, in whole seconds or with s, m or h
lb.yaml:16:37: services[0].persistence.mask: 99 is not an IPv4 mask: use a prefix length from 1 to 32, or a netmask like 255.255.255.0
lb.yaml:17:22: services[0].quorum.weight: 0 is not a sum of weights: use 1 to 4294967295
lb.yaml:17:37: services[0].quorum.hysteresis: -1 is not a sum of weights: use 0 to 4294967295
lb.yaml:19:19: services[0].realservers[0].address: \"10.0.0.300\" is not an IP address: write it like 192.0.2.1 or 2001:db8::1, without port or prefix length
lb.yaml:19:39: services[0].realservers[0].weight: -1 is not a weight: use 0 to 65535
lb.yaml:19:50: services[0].realservers[0].upper: \"x\" is not a number of connections: use a plain number from 0 to 4294967295
lb.yaml:19:60: services[0].realservers[0].lower: \"y\" is not a number of connections: use a plain number from 0 to 4294967295
lb.yaml:20:9: services[0].realservers[1]: is empty: give it a value or leave it out
lb.yaml:22:9: services[0].realservers[3]: 10.0.0.2 is already services[0].realservers[2] (line 21)
lb.yaml:23:10: services[1].vip: 127.0.0.1 cannot be a VIP: it is a loopback address
lb.yaml:28:5: services[2].bogus: unknown field: known here are name, vip, port, protocol, scheduler, flags, slots, persistence, drain_persistence, one_packet, sorry_server, quic, health, on_failure, on_empty, drain_timeout, quorum, slow_start, notify, local, realservers
lb.yaml:29:19: services[2].realservers[0]: 2001:db8::1 is an IPv6 address, and the VIP 10.0.0.3 an IPv4 one: give an IPv4 address";

#[test]
fn every_mistake_is_reported() {
    assert_texts_refused([(WRONG.to_owned(), REFUSED)]);
}

#[test]
fn a_misspelled_field_is_not_missing_too() {
    assert_refused(&[
        (
            "address: 192.168.1.190",
            "adress: 192.168.1.190",
            "lb.yaml:12:10: services[0].realservers[1].adress: unknown field: known here are address, weight, upper, lower, quic_id",
        ),
        (
            "port: 80\n",
            "port: 80\n    health: {htttp: {}}\n",
            "lb.yaml:8:14: services[0].health.htttp: unknown field: known here are tcp, http, https, dns, udp, exec, ping, target, port, interval, timeout, rise, fall, initial, jitter, damping",
        ),
        (
            "realservers:",
            "real_servers:",
            "lb.yaml:10:5: services[0].real_servers: unknown field: known here are name, vip, port, protocol, scheduler, flags, slots, persistence, drain_persistence, one_packet, sorry_server, quic, health, on_failure, on_empty, drain_timeout, quorum, slow_start, notify, local, realservers",
        ),
    ]);
}

#[test]
fn nothing_is_compared_with_what_could_not_be_read() {
    assert_refused(&[
        (
            "vip: 192.168.1.160",
            "vip: 2001:db8::g\n    persistence: {mask: 24}",
            "lb.yaml:6:10: services[0].vip: \"2001:db8::g\" is not an IP address: write it like 192.0.2.1 or 2001:db8::1, without port or prefix length",
        ),
        (
            "protocol: tcp",
            "protocol: upd\n    one_packet: true\n    quic: true",
            "lb.yaml:8:15: services[0].protocol: unknown protocol \"upd\": use tcp or udp",
        ),
        (
            "realservers:\n      - 192.168.1.185\n",
            "quorum: 1000\n    realservers:\n      - {address: 192.168.1.185, weight: much}\n",
            "lb.yaml:12:42: services[0].realservers[0].weight: \"much\" is not a weight: use a plain number from 0 to 65535",
        ),
        (
            "services:",
            "defaults: {health: {exec: {command: check, weight: true}}}\nservices:",
            "lb.yaml:4:37: defaults.health.exec.command: \"check\" is not the path of a program: use 1 to 4095 bytes that begin with /, the whole path of a program",
        ),
    ]);
}

#[test]
fn services_that_can_be_read_are_compared() {
    let text = with(
        SAMPLE,
        "services:\n",
        "services:\n  - {vip: 192.168.1.160, port: 80, realservers: [192.168.1.160]}\n  - {vip: x}\n",
    );
    assert_texts_refused([(
        text,
        "lb.yaml:5:50: services[0].realservers[0]: 192.168.1.160 is the VIP of its own service: give the server's own address\n\
         lb.yaml:6:5: services[1].port: is missing: give the port that clients connect to\n\
         lb.yaml:6:5: services[1].realservers: is missing: list the real servers\n\
         lb.yaml:6:11: services[1].vip: \"x\" is not an IP address: write it like 192.0.2.1 or 2001:db8::1, without port or prefix length\n\
         lb.yaml:9:11: services[2].port: 192.168.1.160:80/tcp is already services[0].port (line 5)",
    )]);
}

#[test]
fn of_many_mistakes_the_first_are_reported_and_the_others_counted() {
    let servers: String = (0..limits::FAULTS + 7)
        .map(|i| format!("      - {{address: 192.168.2.{i}, weight: x}}\n"))
        .collect();
    let printed = read(&format!("{SAMPLE}{servers}")).unwrap_err().to_string();
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), limits::FAULTS + 1, "{printed}");
    assert!(lines[0].starts_with("lb.yaml:13:"), "{printed}");
    assert!(lines[limits::FAULTS - 1].starts_with("lb.yaml:62:"), "{printed}");
    assert_eq!(lines[limits::FAULTS], "lb.yaml: and 7 more");
}
