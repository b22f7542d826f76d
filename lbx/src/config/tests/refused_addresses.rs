//! Refusals of addresses, word for word.

use super::{SAMPLE, assert_refused, assert_texts_refused};

#[test]
fn vips() {
    assert_refused(&[
        (
            "192.168.1.160",
            "192.168.1.300",
            "lb.yaml:6:10: services[0].vip: \"192.168.1.300\" is not an IPv4 address: write it like 192.0.2.1, without port or prefix length",
        ),
        (
            "192.168.1.160",
            "192.168.1",
            "lb.yaml:6:10: services[0].vip: \"192.168.1\" is not an IPv4 address: write it like 192.0.2.1, without port or prefix length",
        ),
        (
            "192.168.1.160",
            "192.168.1.160/32",
            "lb.yaml:6:10: services[0].vip: \"192.168.1.160/32\" is not an IPv4 address: write it like 192.0.2.1, without port or prefix length",
        ),
        (
            "192.168.1.160",
            "192.168.1.160:80",
            "lb.yaml:6:10: services[0].vip: \"192.168.1.160:80\" is not an IPv4 address: write it like 192.0.2.1, without port or prefix length",
        ),
        (
            "192.168.1.160",
            "www.example.com",
            "lb.yaml:6:10: services[0].vip: \"www.example.com\" is not an IPv4 address: write it like 192.0.2.1, without port or prefix length",
        ),
        (
            "192.168.1.160",
            "10.1",
            "lb.yaml:6:10: services[0].vip: 10.1 is not an IPv4 address: write it like 192.0.2.1, without port or prefix length",
        ),
        (
            "192.168.1.160",
            "[192.168.1.160]",
            "lb.yaml:6:10: services[0].vip: a list is not an IPv4 address: write it like 192.0.2.1, without port or prefix length",
        ),
        (
            "192.168.1.160",
            "2001:db8::160",
            "lb.yaml:6:10: services[0].vip: 2001:db8::160 is an IPv6 address: IPv6 is not supported yet",
        ),
        (
            "192.168.1.160",
            "0.0.0.0",
            "lb.yaml:6:10: services[0].vip: 0.0.0.0 cannot be a VIP: it is in 0.0.0.0/8, which means this network",
        ),
        (
            "192.168.1.160",
            "0.1.2.3",
            "lb.yaml:6:10: services[0].vip: 0.1.2.3 cannot be a VIP: it is in 0.0.0.0/8, which means this network",
        ),
        (
            "192.168.1.160",
            "127.0.0.1",
            "lb.yaml:6:10: services[0].vip: 127.0.0.1 cannot be a VIP: it is a loopback address",
        ),
        (
            "192.168.1.160",
            "224.0.0.18",
            "lb.yaml:6:10: services[0].vip: 224.0.0.18 cannot be a VIP: it is a multicast address",
        ),
        (
            "192.168.1.160",
            "239.255.255.255",
            "lb.yaml:6:10: services[0].vip: 239.255.255.255 cannot be a VIP: it is a multicast address",
        ),
        (
            "192.168.1.160",
            "240.0.0.1",
            "lb.yaml:6:10: services[0].vip: 240.0.0.1 cannot be a VIP: it is in 240.0.0.0/4, which is reserved (class E)",
        ),
        (
            "192.168.1.160",
            "255.255.255.254",
            "lb.yaml:6:10: services[0].vip: 255.255.255.254 cannot be a VIP: it is in 240.0.0.0/4, which is reserved (class E)",
        ),
        (
            "192.168.1.160",
            "255.255.255.255",
            "lb.yaml:6:10: services[0].vip: 255.255.255.255 cannot be a VIP: it is the broadcast address",
        ),
    ]);
}

#[test]
fn real_servers() {
    assert_refused(&[
        (
            "192.168.1.185",
            "192.168.1.185:8080",
            "lb.yaml:11:9: services[0].realservers[0]: \"192.168.1.185:8080\" is not an IPv4 address: write it like 192.0.2.1, without port or prefix length",
        ),
        (
            "192.168.1.185",
            "rs1",
            "lb.yaml:11:9: services[0].realservers[0]: \"rs1\" is not an IPv4 address: write it like 192.0.2.1, without port or prefix length",
        ),
        (
            "192.168.1.185",
            "185",
            "lb.yaml:11:9: services[0].realservers[0]: 185 is not an IPv4 address: write it like 192.0.2.1, without port or prefix length",
        ),
        (
            "192.168.1.190",
            "192.168.1.",
            "lb.yaml:12:19: services[0].realservers[1].address: \"192.168.1.\" is not an IPv4 address: write it like 192.0.2.1, without port or prefix length",
        ),
        (
            "192.168.1.185",
            "2001:db8::185",
            "lb.yaml:11:9: services[0].realservers[0]: 2001:db8::185 is an IPv6 address: IPv6 is not supported yet",
        ),
        (
            "192.168.1.185",
            "0.0.0.0",
            "lb.yaml:11:9: services[0].realservers[0]: 0.0.0.0 cannot be a real server: it is in 0.0.0.0/8, which means this network",
        ),
        (
            "192.168.1.185",
            "127.0.0.1",
            "lb.yaml:11:9: services[0].realservers[0]: 127.0.0.1 cannot be a real server: it is a loopback address",
        ),
        (
            "192.168.1.185",
            "224.0.0.1",
            "lb.yaml:11:9: services[0].realservers[0]: 224.0.0.1 cannot be a real server: it is a multicast address",
        ),
        (
            "192.168.1.190",
            "240.0.0.1",
            "lb.yaml:12:19: services[0].realservers[1].address: 240.0.0.1 cannot be a real server: it is in 240.0.0.0/4, which is reserved (class E)",
        ),
        (
            "192.168.1.190",
            "255.255.255.255",
            "lb.yaml:12:19: services[0].realservers[1].address: 255.255.255.255 cannot be a real server: it is the broadcast address",
        ),
    ]);
}

#[test]
fn vips_as_real_servers() {
    let more = |vip: &str, rip: &str| format!("{SAMPLE}  - {{vip: {vip}, port: 443, realservers: [{rip}]}}\n");
    assert_refused(&[
        (
            "192.168.1.185",
            "192.168.1.160",
            "lb.yaml:11:9: services[0].realservers[0]: 192.168.1.160 is the VIP of its own service: give the real server's own address",
        ),
        (
            "192.168.1.190",
            "192.168.1.160",
            "lb.yaml:12:19: services[0].realservers[1].address: 192.168.1.160 is the VIP of its own service: give the real server's own address",
        ),
    ]);
    assert_texts_refused([
        (
            more("192.168.1.161", "192.168.1.160"),
            "lb.yaml:13:51: services[1].realservers[0]: 192.168.1.160 is a VIP, services[0].vip (line 6): give the real server's own address",
        ),
        (
            more("192.168.1.190", "192.168.1.191"),
            "lb.yaml:12:19: services[0].realservers[1].address: 192.168.1.190 is a VIP, services[1].vip (line 13): give the real server's own address",
        ),
    ]);
}
