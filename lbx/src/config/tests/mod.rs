//! What is accepted, what is refused in which words, and what random text does.

mod accepted;
mod accepted_failover;
mod accepted_health;
mod accepted_options;
mod random;
mod refused;
mod refused_addresses;
mod refused_failover;
mod refused_health;
mod refused_http;
mod refused_options;
mod refused_ports;
mod refused_sizes;
mod refused_together;
mod refused_values;

use std::path::Path;

use super::{ConfigError, parse};
use crate::desired::DesiredState;

/// What a simple file says; the real servers in both forms.
const SAMPLE: &str = "\
interface: eth0
mode: auto
timeouts: {established: 15m}
services:
  - name: web
    vip: 192.168.1.160
    port: 80
    protocol: tcp
    scheduler: rr
    realservers:
      - 192.168.1.185
      - {address: 192.168.1.190, weight: 1}
";

/// All that a service may say besides; one_packet goes with little of it.
const FULL: &str = "\
interface: [eth0, eth0.10]
tables: {flows: 65536, flows6: 131072, slots: 100000, ports: 16384, fragments: 4096}
services:
  - name: dns
    vip: 2001:db8::53
    port: [443, 8000-8099, 444]
    protocol: udp
    scheduler: mh
    flags: [mh-port, mh-fallback]
    slots: 1021
    persistence: {timeout: 10m, mask: 64}
    drain_persistence: false
    sorry_server: 2001:db8::99
    quic: true
    realservers:
      - {address: 2001:db8::2, weight: 3, upper: 100, lower: 80, quic_id: 7}
      - {address: 2001:db8::3, quic_id: 8}
      - 2001:db8::4
";

fn read(text: &str) -> Result<DesiredState, ConfigError> {
    parse(text, Path::new("lb.yaml"))
}

/// The sample with one piece of it replaced.
fn sample_with(piece: &str, by: &str) -> String {
    with(SAMPLE, piece, by)
}

/// A text with one piece of it replaced.
fn with(text: &str, piece: &str, by: &str) -> String {
    assert_eq!(text.matches(piece).count(), 1, "{piece:?} must be in the sample once");
    text.replace(piece, by)
}

/// A piece of the sample, what is put in its place, and the whole refusal.
type Refusal = (&'static str, &'static str, &'static str);

/// Holds every message of a table against what is printed, and shows all that differ.
fn assert_refused(refusals: &[Refusal]) {
    assert_refused_in(SAMPLE, refusals);
}

/// The same for pieces of another text.
fn assert_refused_in(text: &str, refusals: &[Refusal]) {
    let texts = refusals
        .iter()
        .map(|(piece, by, expected)| (with(text, piece, by), *expected));
    assert_texts_refused(texts);
}

/// Holds what is said of each value of `health` against what is printed; the place is the same for all that are not inside.
fn assert_health_refused(refusals: &[(&str, &'static str)]) {
    let in_sample = |value: &str| sample_with("port: 80\n", &format!("port: 80\n    health: {value}\n"));
    assert_texts_refused(refusals.iter().map(|(value, expected)| (in_sample(value), *expected)));
}

/// The same of whole fields of a service.
fn assert_field_refused(refusals: &[(&str, &'static str)]) {
    let in_sample = |field: &str| sample_with("port: 80\n", &format!("port: 80\n    {field}\n"));
    assert_texts_refused(refusals.iter().map(|(field, expected)| (in_sample(field), *expected)));
}

fn assert_texts_refused(refusals: impl IntoIterator<Item = (String, &'static str)>) {
    let mut differences = String::new();
    for (text, expected) in refusals {
        let printed = match read(&text) {
            Ok(_) => "(accepted)".to_owned(),
            Err(error) => error.to_string(),
        };
        if printed != expected {
            let text: String = text.chars().take(400).collect();
            differences += &format!("\n---\n{text}\nexpected: {expected}\n printed: {printed}\n");
        }
    }
    assert!(differences.is_empty(), "{differences}");
}
