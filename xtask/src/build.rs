//! `cargo xtask build`: lbx with its XDP program inside.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{build_ebpf, command, steps::Steps};

/// What `build` is told.
#[derive(Args)]
pub struct Arguments {
    /// lbx with debug information and without optimisation; the XDP program is always optimised
    #[arg(long)]
    debug: bool,
}

/// Runs the task.
///
/// # Errors
/// When one of the programs does not build.
pub fn task(arguments: &Arguments) -> Result<()> {
    let built = build_all(&mut Steps::new(STEPS), arguments.debug)?;
    println!("{}", built.lbx.display());
    Ok(())
}

/// How many steps [`build_all`] takes.
pub const STEPS: usize = 2;

/// Both programs.
pub struct BuildOutput {
    /// The XDP program.
    pub xdp_object: PathBuf,
    /// The lbx binary.
    pub lbx: PathBuf,
}

/// Builds both programs.
///
/// # Errors
/// When one of them does not build.
pub fn build_all(steps: &mut Steps, debug: bool) -> Result<BuildOutput> {
    let object = steps.run("building the XDP program", build_ebpf::build)?;
    let lbx = steps.run("building lbx", || build_binary("lbx", "lbx", debug))?;
    Ok(BuildOutput {
        xdp_object: object,
        lbx,
    })
}

/// Builds one binary of a package and returns where it is.
///
/// # Errors
/// When it does not build.
pub fn build_binary(package: &str, name: &str, debug: bool) -> Result<PathBuf> {
    let mut cargo = command::cargo();
    cargo.args(["build", "--package", package, "--bin", name]);
    if !debug {
        cargo.arg("--release");
    }
    let executables = command::build_executables(&mut cargo)?;
    let executable = executables.into_iter().next().context("cargo built no executable")?;
    Ok(executable.path)
}
