//! Measures the XDP program of lbx by itself: no NIC, no daemon. `cargo xtask bench program` builds all it needs and runs it.
//!
//! The kernel hands a packet to the [`prologue`] again and again (BPF_PROG_TEST_RUN). That makes it the packet of another flow
//! ([`traffic`]) and calls one of the programs under test ([`subject`]): the [`mod@reference`], lbx ([`lbx_program`]) or the floor.
//! What the prologue takes when it calls a program that does nothing is subtracted. [`rows`] says what there is to measure,
//! [`measure`] how, [`bars`] what lbx is to reach, and [`report`] tells it.

mod bars;
mod cpu;
mod lbx_program;
mod machine;
mod measure;
mod prologue;
mod reference;
mod report;
mod rows;
mod statistics;
mod subject;
mod traffic;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, ensure};
use clap::Parser;

use crate::{machine::Machine, measure::Effort, report::Report, subject::Objects};

/// Measures the XDP program of lbx: nanoseconds a packet, against a program of the common design.
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench program --")]
struct Arguments {
    /// BPF object with prologue and floor
    #[arg(long, hide = true)]
    prologue: PathBuf,
    /// BPF object with the reference
    #[arg(long, hide = true)]
    reference: PathBuf,
    /// Folder of results; a whole run adds one
    #[arg(long)]
    results: PathBuf,
    /// Few flows, few rounds: shows that all of it works, and writes no results
    #[arg(long)]
    quick: bool,
    /// Only rows that have one of these in their names, such as "lbx rr" or "1M flows"; writes no results
    #[arg(long)]
    filter: Vec<String>,
    /// Rounds, that is samples of each row
    #[arg(long)]
    rounds: Option<usize>,
    /// CPU to run on; the last one unless told otherwise
    #[arg(long)]
    cpu: Option<usize>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lbx-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let (mut groups, rounds, sample) = if arguments.quick {
        (rows::quick(), 3, 5e6)
    } else {
        (rows::all(), 11, 30e6)
    };
    let effort = Effort {
        rounds: arguments.rounds.unwrap_or(rounds),
        sample,
        sample_of_memory: sample * 10.0,
    };
    for group in &mut groups {
        let named = |row: &rows::Row| {
            arguments.filter.is_empty() || arguments.filter.iter().any(|part| row.to_string().contains(part))
        };
        group.rows.retain(named);
    }
    groups.retain(|group| !group.rows.is_empty());
    ensure!(!groups.is_empty(), "no row has that in its name");
    ensure!(effort.rounds > 0, "nothing comes of no rounds");
    let cpu = cpu::take(arguments.cpu)?;
    let load = machine::load();
    let objects = Objects {
        prologue: &arguments.prologue,
        reference: &arguments.reference,
    };
    let measured = groups
        .iter()
        .map(|group| Ok((group.title, measure::group(group, &objects, effort)?)))
        .collect::<Result<_>>()?;
    let report = Report {
        machine: Machine::find(cpu, load),
        date: machine::today()?,
        rounds: effort.rounds,
        groups: measured,
    };
    println!("{}", report.table());
    if !arguments.quick && arguments.filter.is_empty() {
        report.save(&arguments.results)?;
    }
    Ok(())
}
