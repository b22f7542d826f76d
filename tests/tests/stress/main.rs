//! The program under stress: floods, two CPUs at the same buckets, and frames nobody would send. Root's rights and the stress_xdp
//! (tests/ebpf) are needed; `cargo xtask test` runs a bounded version, `LBX_STRESS=full` as much as it takes to believe it:
//!
//! ```text
//! cargo xtask build-ebpf
//! LBX_STRESS=full cargo test --release --package lbx-tests --test stress -- --nocapture
//! ```

mod action;
mod cpus;
mod director;
mod floods;
mod flow;
mod fuzz;
mod memory;
mod overload;
mod random;
mod records;
mod scale;
mod stress_xdp;

use std::process::ExitCode;

use anyhow::Result;
use lbx::dataplane::DataplaneError;
use lbx_tests::timing;
use libtest_mimic::{Arguments, Completion, Trial};
use nix::unistd::Uid;

/// What it is called, and the test.
type Test = (String, fn() -> Result<()>);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They would fight for the CPUs they are pinned to.
    arguments.test_threads = Some(1);
    let tests = floods::all().into_iter().chain(cpus::all()).chain(fuzz::all());
    let trials = tests.map(|(name, test)| trial(name, test)).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    timing::print_slowest();
    conclusion.exit_code()
}

/// A test that is ignored, with the reason, where it cannot run.
fn trial(name: String, test: fn() -> Result<()>) -> Trial {
    Trial::ignorable_test(name.clone(), move || {
        if !Uid::effective().is_root() {
            return Ok(Completion::ignored_with("needs root"));
        }
        if !stress_xdp::object().exists() {
            return Ok(Completion::ignored_with(
                "needs the stress_xdp: `cargo xtask build-ebpf` builds it",
            ));
        }
        match timing::timed(&name, test) {
            Ok(()) => Ok(Completion::Completed),
            Err(error) => match error.downcast_ref() {
                Some(absent @ DataplaneError::NoProgram) => Ok(Completion::ignored_with(absent.to_string())),
                _ => Err(format!("{error:#}").into()),
            },
        }
    })
}
