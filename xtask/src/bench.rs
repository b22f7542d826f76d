//! `cargo xtask bench`: how fast the XDP program is.

use std::ffi::OsString;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use crate::{build, build_ebpf, command, paths, root::RootAccess, steps::Steps};

/// What `bench` is told.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

/// What is measured.
#[derive(Subcommand)]
enum What {
    /// The XDP program by itself: nanoseconds a packet, against a program of the common design
    Program {
        /// Passed on to the bench; `cargo xtask bench program -- --help` says what it takes
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<OsString>,
    },
}

/// Runs the task.
///
/// # Errors
/// When something does not build, root's rights cannot be had, or the bench fails.
pub fn task(arguments: &Arguments) -> Result<()> {
    match &arguments.what {
        What::Program { rest } => program(rest),
    }
}

fn program(rest: &[OsString]) -> Result<()> {
    let root = RootAccess::find().context("the bench loads programs into the kernel")?;
    let mut steps = Steps::new(4);
    steps.run("building the XDP program", build_ebpf::build)?;
    let objects = steps.run("building its rivals", || {
        build_ebpf::build_bench(["prologue", "reference"])
    })?;
    let bench = steps.run("building the bench", || {
        build::build_binary("lbx-bench", "lbx-bench", false)
    })?;
    let mut command = root.command(bench, &[]);
    for (option, object) in ["--packet-generator", "--reference"].iter().zip(&objects) {
        command.arg(option).arg(object);
    }
    command.arg("--results").arg(paths::root().join("results")).args(rest);
    steps.run("measuring", || command::run(&mut command))
}
