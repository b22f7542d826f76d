use std::{collections::BTreeSet, net::IpAddr};

use serde_json::{Value, json};

use super::{NetfilterRule, iptables_rules, nftables_rules};

const VIP: &str = "192.168.1.160";

fn names(rules: &[NetfilterRule], address: &str) -> Vec<String> {
    let address: IpAddr = address.parse().unwrap();
    let rules = rules.iter().filter(|rule| rule.names(address));
    rules.map(|rule| rule.name.clone()).collect()
}

fn ruleset(objects: Vec<Value>) -> Vec<NetfilterRule> {
    let json = json!({ "nftables": objects }).to_string();
    nftables_rules(json.as_bytes(), &BTreeSet::from(["eth0".to_owned()])).unwrap()
}

fn rule(family: &str, expression: &Value) -> Value {
    json!({ "rule": { "family": family, "table": "filter", "chain": "input", "handle": 7, "expr": [expression] } })
}

/// Whether a rule that compares the destination with `right` names an address.
fn is_named(right: &Value, address: &str) -> bool {
    let daddr = json!({ "payload": { "protocol": "ip", "field": "daddr" } });
    let rules = ruleset(vec![rule(
        "inet",
        &json!({ "match": { "op": "==", "left": daddr, "right": right } }),
    )]);
    !names(&rules, address).is_empty()
}

#[test]
fn addresses_prefixes_ranges_and_sets_are_compared() {
    for right in [
        json!(VIP),
        json!({ "prefix": { "addr": "192.168.1.0", "len": 24 } }),
        json!({ "prefix": { "addr": "0.0.0.0", "len": 0 } }),
        json!({ "range": ["192.168.1.150", VIP] }),
        json!({ "set": ["10.0.0.1", { "prefix": { "addr": "192.168.0.0", "len": 16 } }] }),
    ] {
        assert!(is_named(&right, VIP), "{right}");
    }
    for right in [
        json!("192.168.1.161"),
        json!({ "prefix": { "addr": "192.168.1.0", "len": 25 } }),
        json!({ "prefix": { "addr": "fd00::", "len": 8 } }),
        json!({ "range": ["192.168.1.161", "192.168.1.170"] }),
        json!({ "set": [] }),
        json!("@none"),
        json!("$undefined"),
        json!({ "prefix": { "addr": "192.168.1.0", "len": 99 } }),
    ] {
        assert!(!is_named(&right, VIP), "{right}");
    }
    assert!(is_named(
        &json!({ "prefix": { "addr": "2001:db8::", "len": 32 } }),
        "2001:db8::160"
    ));
    assert!(is_named(
        &json!({ "prefix": { "addr": "::", "len": 0 } }),
        "2001:db8::160"
    ));
}

#[test]
fn named_sets_maps_and_concatenations_are_looked_into() {
    let daddr = json!({ "payload": { "protocol": "ip6", "field": "daddr" } });
    let port = json!({ "payload": { "protocol": "tcp", "field": "dport" } });
    let rules = ruleset(vec![
        json!({ "set": { "family": "inet", "table": "filter", "name": "allowed", "elem": [
            { "elem": { "val": { "prefix": { "addr": "2001:db8::", "len": 32 } }, "timeout": 3600 } } ] } }),
        json!({ "set": { "family": "inet", "table": "other", "name": "allowed", "elem": ["2001:db9::1"] } }),
        json!({ "map": { "family": "inet", "table": "filter", "name": "verdicts", "elem": [
            [{ "concat": [80, "2001:dba::1"] }, { "drop": null }] ] } }),
        rule(
            "inet",
            &json!({ "match": { "op": "!=", "left": daddr, "right": "@allowed" } }),
        ),
        rule(
            "inet",
            &json!({ "vmap": { "key": { "concat": [port, daddr] }, "data": "@verdicts" } }),
        ),
        rule(
            "inet",
            &json!({ "vmap": { "key": daddr, "data": { "set": [["2001:dbb::1", { "accept": null }]] } } }),
        ),
        rule(
            "inet",
            &json!({ "match": { "left": { "ct": { "key": "ip6 daddr", "dir": "original" } }, "right": "2001:dbc::1" } }),
        ),
    ]);
    for address in ["2001:db8::1", "2001:dba::1", "2001:dbb::1", "2001:dbc::1"] {
        assert_eq!(names(&rules, address), ["inet filter input handle 7"], "{address}");
    }
    assert!(names(&rules, "2001:db9::1").is_empty(), "a set of another table");
}

#[test]
fn sources_and_rules_for_other_packets_do_not_count() {
    let of = |protocol: &str, field: &str| json!({ "match": { "op": "==", "left": { "payload": { "protocol": protocol, "field": field } }, "right": VIP } });
    let rules = ruleset(vec![
        rule("inet", &of("ip", "saddr")),
        rule("inet", &of("arp", "daddr ip")),
        rule("bridge", &of("ip", "daddr")),
        rule("arp", &of("ip", "daddr")),
        rule("inet", &json!({ "xt": { "type": "match", "name": "iprange" } })),
        rule("inet", &json!({ "accept": null })),
    ]);
    assert!(rules.is_empty(), "{rules:?}");
    let chain = |device: Value| json!({ "chain": { "family": "netdev", "table": "filter", "name": "input", "hook": "ingress", "dev": device } });
    let on = |device| names(&ruleset(vec![chain(device), rule("netdev", &of("ip", "daddr"))]), VIP).len();
    assert_eq!(
        [on(json!("eth0")), on(json!("eth1")), on(json!(["eth1", "eth0"]))],
        [1, 0, 1]
    );
}

#[test]
fn what_is_no_ruleset_is_refused_or_empty() {
    assert!(nftables_rules(b"Error", &BTreeSet::new()).is_err());
    assert!(nftables_rules(b"{}", &BTreeSet::new()).unwrap().is_empty());
    assert!(nftables_rules(b"[1]", &BTreeSet::new()).unwrap().is_empty());
}

/// As iptables-save 1.8.9 prints them.
#[test]
fn rules_of_iptables_are_read() {
    let saved = "\
# Generated by iptables-save v1.8.9 on Mon Nov 30 09:00:58 2026
*filter
:INPUT ACCEPT [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -d 192.168.1.160/32 -p tcp -m tcp --dport 80 -j DROP
-A INPUT ! -d 10.0.0.0/8 -j ACCEPT
-A FORWARD -m iprange --dst-range 192.168.1.1-192.168.1.200 -j ACCEPT
-A FORWARD -s 192.168.1.160/32 -j ACCEPT
COMMIT
*mangle
-A INPUT -d fd00::/8 -j MARK --set-xmark 0x3/0xffffffff
COMMIT
";
    let rules = iptables_rules(saved);
    assert_eq!(names(&rules, VIP), ["filter INPUT 2", "filter FORWARD 1"]);
    assert_eq!(names(&rules, "10.1.2.3"), ["filter INPUT 3"]);
    assert_eq!(names(&rules, "fd00::1"), ["mangle INPUT 1"]);
    assert!(names(&rules, "172.16.0.1").is_empty());
}
