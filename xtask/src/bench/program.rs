//! `cargo xtask bench program`: nanoseconds on this machine.

use std::ffi::OsString;

use anyhow::{Context as _, Result};

use super::{BUILD_STEPS, Built};
use crate::{command, paths, root::RootAccess, steps::Steps};

/// Measures.
///
/// # Errors
/// Something does not build, root's rights cannot be had, or the bench fails.
pub fn measure(rest: &[OsString]) -> Result<()> {
    let root = RootAccess::find().context("the bench loads programs into the kernel")?;
    let mut steps = Steps::new(BUILD_STEPS + 1);
    let built = Built::new(&mut steps)?;
    let mut command = root.command(&built.bench, &[]);
    for (option, object) in built.objects() {
        command.arg(option).arg(object);
    }
    command.arg("--results").arg(paths::root().join("results")).args(rest);
    steps.run("measuring", || command::run(&mut command))
}
