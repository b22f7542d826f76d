//! Refusals of ports, word for word.

use super::{SAMPLE, assert_refused, assert_texts_refused};

#[test]
fn single_ports() {
    let refusals = [
        ("65536", "65536"),
        ("-80", "-80"),
        ("80.5", "80.5"),
        ("http", "\"http\""),
        ("\"80\"", "\"80\""),
        ("080", "\"080\""),
        ("true", "true"),
        ("99999999999999999999999999", "1e26"),
        ("{from: 80}", "a mapping"),
        ("80-", "\"80-\""),
        ("80-90-100", "\"80-90-100\""),
        ("80 - 90", "\"80 - 90\""),
        ("0-90", "\"0-90\""),
        ("080-90", "\"080-90\""),
        ("+80-90", "\"+80-90\""),
        ("80-65536", "\"80-65536\""),
        ("80,443", "\"80,443\""),
        ("All", "\"All\""),
    ];
    let mut differences = String::new();
    for (written, shown) in refusals {
        let text = SAMPLE.replace("port: 80", &format!("port: {written}"));
        let expected = format!(
            "lb.yaml:7:11: services[0].port: {shown} is not a port: use 1 to 65535, a range like 8000-8099, a list of them, or all"
        );
        let printed = super::read(&text).map_or_else(|error| error.to_string(), |_| "(accepted)".to_owned());
        if printed != expected {
            differences += &format!("\nexpected: {expected}\n printed: {printed}\n");
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn ranges_and_lists() {
    assert_refused(&[
        (
            "port: 80",
            "port: 90-80",
            "lb.yaml:7:11: services[0].port: \"90-80\" is not a range of ports: write it as 80-90",
        ),
        (
            "port: 80",
            "port: []",
            "lb.yaml:7:11: services[0].port: the list is empty: give at least one port",
        ),
        (
            "port: 80",
            "port: [80, 65536]",
            "lb.yaml:7:16: services[0].port[1]: 65536 is not a port: use 1 to 65535, or a range like 8000-8099",
        ),
        (
            "port: 80",
            "port: [80, [81]]",
            "lb.yaml:7:16: services[0].port[1]: a list is not a port: use 1 to 65535, or a range like 8000-8099",
        ),
        (
            "port: 80",
            "port: [80, ~]",
            "lb.yaml:7:16: services[0].port[1]: is empty: give it a value or leave it out",
        ),
        (
            "port: 80",
            "port: [80, 0]",
            "lb.yaml:7:16: services[0].port[1]: 0 means all ports: give it alone, as port: all",
        ),
        (
            "port: 80",
            "port: [all]",
            "lb.yaml:7:12: services[0].port[0]: \"all\" means all ports: give it alone, as port: all",
        ),
    ]);
}

#[test]
fn given_twice_in_a_service() {
    assert_refused(&[
        (
            "port: 80",
            "port: [80, 443, 80]",
            "lb.yaml:7:21: services[0].port[2]: 192.168.1.160:80/tcp is already services[0].port[0] (line 7)",
        ),
        (
            "port: 80",
            "port: [80-90, 85]",
            "lb.yaml:7:19: services[0].port[1]: 192.168.1.160:85/tcp is already services[0].port[0] (line 7)",
        ),
        (
            "port: 80",
            "port: [85, 80-90]",
            "lb.yaml:7:16: services[0].port[1]: 192.168.1.160:85/tcp is already services[0].port[0] (line 7)",
        ),
        (
            "port: 80",
            "port: [80-90, 70-80]",
            "lb.yaml:7:19: services[0].port[1]: 192.168.1.160:80/tcp is already services[0].port[0] (line 7)",
        ),
        (
            "port: 80",
            "port: [1-65535, 65535]",
            "lb.yaml:7:21: services[0].port[1]: 192.168.1.160:65535/tcp is already services[0].port[0] (line 7)",
        ),
    ]);
}

#[test]
fn in_two_services() {
    let two = |first: &str, second: &str| {
        let first = SAMPLE.replace("port: 80", &format!("port: {first}"));
        format!("{first}  - {{vip: 192.168.1.160, port: {second}, realservers: [192.168.1.185]}}\n")
    };
    assert_texts_refused([
        (
            two("80", "[443, 80]"),
            "lb.yaml:13:38: services[1].port[1]: 192.168.1.160:80/tcp is already services[0].port (line 7)",
        ),
        (
            two("443", "400-500"),
            "lb.yaml:13:32: services[1].port: 192.168.1.160:443/tcp is already services[0].port (line 7)",
        ),
        (
            two("[80, 400-500]", "443"),
            "lb.yaml:13:32: services[1].port: 192.168.1.160:443/tcp is already services[0].port[1] (line 7)",
        ),
        (
            two("all", "0"),
            "lb.yaml:13:32: services[1].port: 192.168.1.160:all/tcp is already services[0].port (line 7)",
        ),
    ]);
}
