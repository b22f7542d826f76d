//! `cargo xtask demo`: lbx at work, in network namespaces that vanish with it.

use std::ffi::OsString;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    build, command,
    root::RootAccess,
    setup::{self, Purpose},
    steps::Steps,
};

/// What `demo` is told.
#[derive(Args)]
pub struct Arguments {
    /// Passed on to the demonstration; `cargo xtask demo -- --help` says what it takes
    #[arg(last = true)]
    rest: Vec<OsString>,
}

/// Runs the task.
///
/// # Errors
/// When something does not build, root's rights cannot be had, or the demonstration fails.
pub fn task(arguments: &Arguments) -> Result<()> {
    let root = RootAccess::find().context("the demonstration makes network namespaces")?;
    setup::ensure_installed(Purpose::Lab)?;
    let mut steps = Steps::new(build::STEPS + 2);
    let built = build::build_all(&mut steps, false)?;
    let demo = steps.run("building the demonstration", || {
        build::build_binary("lbx-tests", "demo", false)
    })?;
    let mut command = root.command(demo, &[]);
    command.arg("--lbx").arg(&built.lbx).args(&arguments.rest);
    steps.run("running it", || command::run(&mut command))
}
