//! Tests against real programs in the lab: a file per subject. They need root; `cargo xtask test` runs them.
//!
//! `cargo test -p lbx-tests --test lab -- FILTER` runs those whose names contain FILTER. Each has a lab of its own, so
//! they run side by side.

mod address_conflicts;
mod agreement;
mod bonds;
mod changes;
mod clsact;
mod devices;
mod director6;
mod docs;
mod drain;
mod empty;
mod fragments;
mod harness;
mod health;
mod host_packets;
mod itself;
mod lifecycle;
mod listing;
mod local;
mod lost_frames;
mod many_servers;
mod modes;
mod netfilter;
mod nics;
mod persistence;
mod pmtu;
mod ports;
mod prober;
mod probes;
mod probing;
mod real_server;
mod real_server6;
mod refusals;
mod remapping;
mod removed;
mod routed_replies;
mod scene;
mod schedulers;
mod schedulers_by_load;
mod self_test;
mod setup;
mod slots;
mod sorry;
mod teams;
mod thresholds;
mod trace;
mod traffic;
mod two_nics;
mod v6;
mod vlan;

use std::process::ExitCode;

use lbx_tests::{patience, timing};
use libtest_mimic::Arguments;

/// Labs at a time: the tests wait more than they compute, but two cores are soon full.
const THREADS: usize = 4;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let tests = [
        itself::tests(),
        scene::tests(),
        schedulers::tests(),
        trace::tests(),
        traffic::tests(),
        changes::tests(),
        address_conflicts::tests(),
        many_servers::tests(),
        agreement::tests(),
        clsact::tests(),
        lifecycle::tests(),
        docs::tests(),
        listing::tests(),
        refusals::tests(),
        modes::tests(),
        netfilter::tests(),
        nics::tests(),
        devices::tests(),
        director6::tests(),
        real_server::tests(),
        real_server6::tests(),
        v6::tests(),
        two_nics::tests(),
        fragments::tests(),
        pmtu::tests(),
        persistence::tests(),
        drain::tests(),
        sorry::tests(),
        empty::tests(),
        thresholds::tests(),
        schedulers_by_load::tests(),
        ports::tests(),
        remapping::tests(),
        removed::tests(),
        routed_replies::tests(),
        self_test::tests(),
        vlan::tests(),
        bonds::tests(),
        teams::tests(),
        health::tests(),
        probes::tests(),
        local::tests(),
        lost_frames::tests(),
        host_packets::tests(),
    ];
    // Measured before the tests load the machine themselves.
    println!("limits are those of an idle machine × {:.1}", patience::slowness());
    let tests = harness::selected(tests.into_iter().flatten().collect());
    let conclusion = libtest_mimic::run(&arguments, tests);
    timing::print_slowest();
    conclusion.exit_code()
}
