//! Packet fixtures: the real program, run by the kernel on one frame after the other (BPF_PROG_TEST_RUN), on tables the
//! real planner has made. A file per subject; every fixture is a sentence, and compares the action, the whole frame and
//! all counters. They need root; `cargo xtask test` runs them.
//!
//! `cargo test -p lbx-tests --test packets -- FILTER` runs those whose sentences contain FILTER. Each has a director of
//! its own, so they run side by side.

mod changes;
mod cluster;
mod counters;
mod director;
mod drops;
mod extensions;
mod failures;
mod forward;
mod fragments;
mod harness;
mod hashing;
mod icmp;
mod ipv6;
mod loads;
mod malformed;
mod nics;
mod one_packet;
mod outcome;
mod pass;
mod persistence;
mod pool;
mod ports;
mod program;
mod quic;
mod records;
mod rejects;
mod routed;
mod run;
mod schedulers;
mod sessions;
mod sources;
mod thresholds;
mod vlan;

use std::process::ExitCode;

use lbx_tests::timing;
use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let subjects = [
        ("pass", pass::fixtures()),
        ("drop", drops::fixtures()),
        ("forward", forward::fixtures()),
        ("record", records::fixtures()),
        ("routed", routed::fixtures()),
        ("change", changes::fixtures()),
        ("failure", failures::fixtures()),
        ("reject", rejects::fixtures()),
        ("nic", nics::fixtures()),
        ("ipv6", ipv6::fixtures()),
        ("extension", extensions::fixtures()),
        ("program", program::fixtures()),
        ("vlan", vlan::fixtures()),
        ("fragment", fragments::fixtures()),
        ("icmp", icmp::fixtures()),
        ("load", loads::fixtures()),
        ("scheduler", schedulers::fixtures()),
        ("threshold", thresholds::fixtures()),
        ("persistence", persistence::fixtures()),
        ("one packet", one_packet::fixtures()),
        ("quic", quic::fixtures()),
        ("hash", hashing::fixtures()),
        ("port", ports::fixtures()),
        ("malformed", malformed::fixtures()),
        ("source", sources::fixtures()),
        ("count", counters::fixtures()),
        ("session", sessions::fixtures()),
    ];
    let trials = subjects
        .into_iter()
        .flat_map(|(subject, fixtures)| fixtures.into_iter().map(|fixture| fixture.trial(subject)))
        .collect();
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    pool::clear();
    timing::print_slowest();
    conclusion.exit_code()
}
