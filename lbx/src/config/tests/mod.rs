//! What is accepted, what is refused in which words, and what random text does.

mod accepted;
mod random;
mod refused;
mod refused_addresses;
mod refused_values;

use std::path::Path;

use super::{ConfigError, parse};
use crate::desired::Desired;

/// Every field once; the real servers in both forms.
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

fn read(text: &str) -> Result<Desired, ConfigError> {
    parse(text, Path::new("lb.yaml"))
}

/// The sample with one piece of it replaced.
fn sample_with(piece: &str, by: &str) -> String {
    assert_eq!(SAMPLE.matches(piece).count(), 1, "{piece:?} must be in the sample once");
    SAMPLE.replace(piece, by)
}

/// A piece of the sample, what is put in its place, and the whole refusal.
type Refusal = (&'static str, &'static str, &'static str);

/// Holds every message of a table against what is printed, and shows all that differ.
fn assert_refused(refusals: &[Refusal]) {
    let texts = refusals
        .iter()
        .map(|(piece, by, expected)| (sample_with(piece, by), *expected));
    assert_texts_refused(texts);
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
