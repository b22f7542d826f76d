//! `cargo xtask bench`: how fast the XDP program is.

mod instructions;
mod program;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::{build, build_ebpf, steps::Steps};

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
    /// The XDP program by itself, in a guest: instructions a packet, which repeat whatever else the machine does. Compares them
    /// with results/instructions.tsv and fails where more than 2 % were added
    Instructions(instructions::Arguments),
}

/// Runs the task.
///
/// # Errors
/// When something does not build, root's rights cannot be had, or the bench fails.
pub fn task(arguments: &Arguments) -> Result<()> {
    match &arguments.what {
        What::Program { rest } => program::measure(rest),
        What::Instructions(arguments) => instructions::measure(arguments),
    }
}

/// The bench and what it loads, built.
struct Built {
    bench: PathBuf,
    /// Its options for the BPF objects of its own.
    objects: [(&'static str, PathBuf); 2],
}

/// The steps of [`Built::new`].
const BUILD_STEPS: usize = 3;

impl Built {
    fn new(steps: &mut Steps) -> Result<Self> {
        steps.run("building the XDP program", build_ebpf::build)?;
        let [packet_generator, reference] = steps.run("building its rivals", || {
            let objects = build_ebpf::build_bench(["prologue", "reference"])?;
            <[PathBuf; 2]>::try_from(objects).map_err(|_| anyhow::anyhow!("not two objects"))
        })?;
        let bench = steps.run("building the bench", || {
            build::build_binary("lbx-bench", "lbx-bench", false)
        })?;
        Ok(Self {
            bench,
            objects: [("--packet-generator", packet_generator), ("--reference", reference)],
        })
    }

    fn objects(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        self.objects.iter().map(|(option, object)| (*option, object.as_path()))
    }
}
