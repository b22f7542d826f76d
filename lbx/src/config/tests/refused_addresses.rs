//! Refusals of addresses, word for word.

use super::{FULL, SAMPLE, assert_refused, assert_refused_in, assert_texts_refused};

#[test]
fn vips() {
    assert_refused(&[
        (
            "192.168.1.160",
            "192.168.1.300",
            "lb.yaml:6:10: services[0].vip: \"192.168.1.300\" is not an IP address: write it like 192.0.2.1 or 2001:db8::1, without port or prefix length",
        ),
        (
            "192.168.1.160",
            "192.168.1",
            "lb.yaml:6:10: services[0].vip: \"192.168.1\" is not an IP address: write it like 192.0.2.1 or 2001:db8::1, without port or prefix length",
        ),
        (
            "192.168.1.160",
            "192.168.1.160/32",
            "lb.yaml:6:10: services[0].vip: \"192.168.1.160/32\" is not an IP address: write it like 192.0.2.1 or 2001:db8::1, without port or prefix length",
        ),
        (
            "192.168.1.160",
            "192.168.1.160:80",
            "lb.yaml:6:10: services[0].vip: \"192.168.1.160:80\" is not an IP address: write it like 192.0.2.1 or 2001:db8::1, without port or prefix length",
        ),
        (
            "192.168.1.160",
            "www.example.com",
            "lb.yaml:6:10: services[0].vip: \"www.example.com\" is not an IP address: write it like 192.0.2.1 or 2001:db8::1, without port or prefix length",
        ),
        (
            "192.168.1.160",
            "10.1",
            "lb.yaml:6:10: services[0].vip: 10.1 is not an IP address: write it like 192.0.2.1 or 2001:db8::1, without port or prefix length",
        ),
        (
            "192.168.1.160",
            "[192.168.1.160]",
            "lb.yaml:6:10: services[0].vip: a list is not an IP address: write it like 192.0.2.1 or 2001:db8::1, without port or prefix length",
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
            "lb.yaml:11:9: services[0].realservers[0]: \"192.168.1.185:8080\" is not an IP address: write it like 192.0.2.1 or 2001:db8::1, without port or prefix length",
        ),
        (
            "192.168.1.185",
            "rs1",
            "lb.yaml:11:9: services[0].realservers[0]: \"rs1\" is not an IP address: write it like 192.0.2.1 or 2001:db8::1, without port or prefix length",
        ),
        (
            "192.168.1.185",
            "185",
            "lb.yaml:11:9: services[0].realservers[0]: 185 is not an IP address: write it like 192.0.2.1 or 2001:db8::1, without port or prefix length",
        ),
        (
            "192.168.1.190",
            "192.168.1.",
            "lb.yaml:12:19: services[0].realservers[1].address: \"192.168.1.\" is not an IP address: write it like 192.0.2.1 or 2001:db8::1, without port or prefix length",
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
fn ipv6() {
    assert_refused_in(
        FULL,
        &[
            (
                "2001:db8::53",
                "\"2001:db8::53::\"",
                "lb.yaml:5:10: services[0].vip: \"2001:db8::53::\" is not an IP address: write it like 192.0.2.1 or 2001:db8::1, without port or prefix length",
            ),
            (
                "2001:db8::53",
                "2001:db8::53/128",
                "lb.yaml:5:10: services[0].vip: \"2001:db8::53/128\" is not an IP address: write it like 192.0.2.1 or 2001:db8::1, without port or prefix length",
            ),
            (
                "2001:db8::53",
                "\"[2001:db8::53]\"",
                "lb.yaml:5:10: services[0].vip: \"[2001:db8::53]\" is not an IP address: write it like 192.0.2.1 or 2001:db8::1, without port or prefix length",
            ),
            (
                "2001:db8::53",
                "fe80::53%eth0",
                "lb.yaml:5:10: services[0].vip: \"fe80::53%eth0\" is not an IP address: write it like 192.0.2.1 or 2001:db8::1, without port or prefix length",
            ),
            (
                "2001:db8::53",
                "fe80::53",
                "lb.yaml:5:10: services[0].vip: fe80::53 cannot be a VIP: it is a link-local address, which means another host on every link",
            ),
            (
                "2001:db8::53",
                "\"::\"",
                "lb.yaml:5:10: services[0].vip: :: cannot be a VIP: it is the unspecified address",
            ),
            (
                "2001:db8::53",
                "0:0:0:0:0:0:0:1",
                "lb.yaml:5:10: services[0].vip: ::1 cannot be a VIP: it is the loopback address",
            ),
            (
                "2001:db8::53",
                "ff02::1",
                "lb.yaml:5:10: services[0].vip: ff02::1 cannot be a VIP: it is a multicast address",
            ),
            (
                "2001:db8::53",
                "::ffff:192.0.2.1",
                "lb.yaml:5:10: services[0].vip: ::ffff:192.0.2.1 cannot be a VIP: it is an IPv4 address in the form of IPv6: write it as IPv4",
            ),
            (
                "2001:db8::2",
                "FE80::2",
                "lb.yaml:16:19: services[0].realservers[0].address: fe80::2 cannot be a real server: it is a link-local address, which means another host on every link",
            ),
            (
                "2001:db8::4",
                "ff05::4",
                "lb.yaml:18:9: services[0].realservers[2]: ff05::4 cannot be a real server: it is a multicast address",
            ),
            (
                "2001:db8::99",
                "::ffff:10.0.0.99",
                "lb.yaml:13:19: services[0].sorry_server: ::ffff:10.0.0.99 cannot be a sorry server: it is an IPv4 address in the form of IPv6: write it as IPv4",
            ),
        ],
    );
}

#[test]
fn of_two_families() {
    assert_refused_in(
        FULL,
        &[
            (
                "2001:db8::4",
                "10.0.0.4",
                "lb.yaml:18:9: services[0].realservers[2]: 10.0.0.4 is an IPv4 address, and the VIP 2001:db8::53 an IPv6 one: give an IPv6 address",
            ),
            (
                "2001:db8::99",
                "10.0.0.99",
                "lb.yaml:13:19: services[0].sorry_server: 10.0.0.99 is an IPv4 address, and the VIP 2001:db8::53 an IPv6 one: give an IPv6 address",
            ),
        ],
    );
    assert_refused(&[(
        "192.168.1.190",
        "2001:db8::190",
        "lb.yaml:12:19: services[0].realservers[1].address: 2001:db8::190 is an IPv6 address, and the VIP 192.168.1.160 an IPv4 one: give an IPv4 address",
    )]);
}

#[test]
fn sorry_servers_that_are_something_else() {
    let more = "  - {vip: 2001:db8::99, port: 53, realservers: ['2001:db8::2']}\n";
    assert_refused_in(
        FULL,
        &[
            (
                "2001:db8::99",
                "2001:db8::53",
                "lb.yaml:13:19: services[0].sorry_server: 2001:db8::53 is the VIP of its own service: give the server's own address",
            ),
            (
                "2001:db8::99",
                "2001:DB8:0::3",
                "lb.yaml:13:19: services[0].sorry_server: 2001:db8::3 is already services[0].realservers[1].address (line 17)",
            ),
            (
                "2001:db8::99",
                "[2001:db8::99]",
                "lb.yaml:13:19: services[0].sorry_server: a list is not an IP address: write it like 192.0.2.1 or 2001:db8::1, without port or prefix length",
            ),
        ],
    );
    assert_texts_refused([(
        FULL.to_owned() + more,
        "lb.yaml:13:19: services[0].sorry_server: 2001:db8::99 is a VIP, services[1].vip (line 19): give the server's own address",
    )]);
}

#[test]
fn vips_as_real_servers() {
    let more = |vip: &str, rip: &str| format!("{SAMPLE}  - {{vip: {vip}, port: 443, realservers: [{rip}]}}\n");
    assert_refused(&[
        (
            "192.168.1.185",
            "192.168.1.160",
            "lb.yaml:11:9: services[0].realservers[0]: 192.168.1.160 is the VIP of its own service: give the server's own address",
        ),
        (
            "192.168.1.190",
            "192.168.1.160",
            "lb.yaml:12:19: services[0].realservers[1].address: 192.168.1.160 is the VIP of its own service: give the server's own address",
        ),
    ]);
    assert_texts_refused([
        (
            more("192.168.1.161", "192.168.1.160"),
            "lb.yaml:13:51: services[1].realservers[0]: 192.168.1.160 is a VIP, services[0].vip (line 6): give the server's own address",
        ),
        (
            more("192.168.1.190", "192.168.1.191"),
            "lb.yaml:12:19: services[0].realservers[1].address: 192.168.1.190 is a VIP, services[1].vip (line 13): give the server's own address",
        ),
    ]);
}
