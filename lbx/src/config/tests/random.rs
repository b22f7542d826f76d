//! Random text: nothing panics, and what is accepted keeps what [`Desired`] promises.

use std::{collections::HashSet, hash::Hash};

use proptest::prelude::*;

use super::{SAMPLE, read};
use crate::desired::{Desired, RealServer};

/// Pieces that a mutation puts into the sample: YAML's own characters, and values at the edges.
const PIECES: [&str; 24] = [
    "", "\n", "  ", "- ", ": ", "{", "}", "[", "]", ",", "\"", "'", "#", "&a ", "*a", "<<: ", "!x ", "~", "0", "-1",
    "65536", "é", "\u{0}", "---\n",
];

fn assert_promises(desired: &Desired) {
    let services = &desired.services;
    assert!(!services.is_empty() && !desired.interfaces.is_empty());
    assert_unique(desired.interfaces.iter());
    assert_unique(services.iter().map(|service| &service.name));
    assert_unique(services.iter().map(|service| service.virtual_service));
    let vips: HashSet<_> = services.iter().map(|service| service.virtual_service.vip).collect();
    for service in services {
        let addresses = || service.servers.iter().map(|RealServer { address, .. }| address);
        assert!(!service.servers.is_empty() && service.virtual_service.port != 0);
        assert_unique(addresses());
        assert!(addresses().all(|address| !vips.contains(address)));
    }
}

fn assert_unique<T: Eq + Hash>(items: impl ExactSizeIterator<Item = T>) {
    let count = items.len();
    assert_eq!(items.collect::<HashSet<_>>().len(), count);
}

/// A piece of the sample replaced: (where, how much of it, by which piece).
fn mutation() -> impl Strategy<Value = (usize, usize, &'static str)> {
    (0..SAMPLE.len(), 0..12_usize, prop::sample::select(&PIECES[..]))
}

fn mutate(text: &mut String, (at, length, piece): (usize, usize, &str)) {
    let boundary = |at: usize| {
        (0..=at.min(text.len()))
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0)
    };
    let range = boundary(at)..boundary(at + length);
    text.replace_range(range, piece);
}

/// A service from so few values that many clash.
fn service() -> impl Strategy<Value = String> {
    let servers = prop::collection::vec((1..8_u8, 0..3_u16), 1..4);
    (0..4_u8, 80..82_u16, any::<bool>(), 0..3_u8, servers).prop_map(|(vip, port, udp, name, servers)| {
        let servers: String = servers
            .into_iter()
            .map(|(rip, weight)| format!("    - {{address: 10.0.0.{rip}, weight: {weight}}}\n"))
            .collect();
        let name = if name == 0 {
            String::new()
        } else {
            format!("    name: s{name}{port}\n")
        };
        let protocol = if udp { "udp" } else { "tcp" };
        format!(
            "  - vip: 10.0.0.{}\n{name}    port: {port}\n    protocol: {protocol}\n    realservers:\n{servers}",
            vip + 7
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in any::<String>()) {
        let _ = read(&text);
    }

    #[test]
    fn mutated_sample(mutations in prop::collection::vec(mutation(), 1..4)) {
        let mut text = SAMPLE.to_owned();
        for one in mutations {
            mutate(&mut text, one);
        }
        match read(&text) {
            Ok(desired) => assert_promises(&desired),
            Err(error) => assert_eq!(error.to_string().lines().count(), 1),
        }
    }

    #[test]
    fn clashing_services(services in prop::collection::vec(service(), 1..4)) {
        if let Ok(desired) = read(&format!("interface: eth0\nservices:\n{}", services.concat())) {
            assert_promises(&desired);
        }
    }
}
