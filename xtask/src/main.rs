//! Builds, demonstrates and tests lbx: `cargo xtask <task>`.
//!
//! A file per task; what they share is in [`command`], [`paths`], [`root`] and [`steps`].

mod bench;
mod build;
mod build_ebpf;
mod command;
mod demo;
mod elf;
mod lint;
mod paths;
mod report;
mod root;
mod runners;
mod setup;
mod steps;
mod tally;
mod test;
mod toolchain;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, demonstrates and tests lbx.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Installs what is missing to build, lint and run the lab; says what it cannot install
    Setup(setup::Arguments),
    /// Builds the XDP program: target/bpf/lbx.bpf.o
    BuildEbpf,
    /// Builds lbx with its XDP program inside
    Build(build::Arguments),
    /// Builds lbx and shows it at work in network namespaces of its own
    Demo(demo::Arguments),
    /// Runs all tests; those of the lab as root
    Test(test::Arguments),
    /// Runs tests of the lab in a guest with a kernel of Debian: those for devices that this machine's kernel lacks, or others
    Vm(vm::Arguments),
    /// Measures
    Bench(bench::Arguments),
    /// Formatting, clippy on host and BPF, documentation, licences and sources of dependencies
    Lint,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Setup(arguments) => setup::task(&arguments),
        Task::BuildEbpf => build_ebpf::task(),
        Task::Build(arguments) => build::task(&arguments),
        Task::Demo(arguments) => demo::task(&arguments),
        Task::Test(arguments) => return test::task(&arguments),
        Task::Vm(arguments) => return vm::task(&arguments),
        Task::Bench(arguments) => bench::task(&arguments),
        Task::Lint => lint::task(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
