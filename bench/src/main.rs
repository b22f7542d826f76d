//! Measures the XDP program of lbx alone: no NIC, no daemon. `cargo xtask bench program` builds all it needs and runs it.
//!
//! The kernel runs the [`packet_generator`] on a packet repeatedly (BPF_PROG_TEST_RUN). It turns the packet into one of another flow
//! ([`traffic`]) and calls the [`program`] under test: the [`mod@reference`], lbx ([`lbx_program`]) or the floor. The time of
//! the packet generator with a program that does nothing is subtracted. [`scenarios`] defines what is measured, [`measure`] how, [`targets`]
//! the targets of lbx, and [`report`] writes the results.

mod cpu;
mod lbx_program;
mod loaded_program;
mod machine;
mod measure;
mod packet_generator;
mod program;
mod reference;
mod report;
mod scenarios;
mod statistics;
mod tables;
mod targets;
mod traffic;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, ensure};
use clap::Parser;

use crate::{loaded_program::BpfObjectPaths, machine::Machine, measure::Sampling, report::Report};

/// Measures the XDP program of lbx: nanoseconds a packet, against a program of the common design.
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench program --")]
struct Arguments {
    /// BPF object with packet_generator and floor
    #[arg(long, hide = true)]
    packet_generator: PathBuf,
    /// BPF object with the reference
    #[arg(long, hide = true)]
    reference: PathBuf,
    /// Folder of results; a whole run adds one
    #[arg(long, required_unless_present = "instructions")]
    results: Option<PathBuf>,
    /// Where nanoseconds are instructions: count those of each row, and write them to this file
    #[arg(long, hide = true, conflicts_with_all = ["results", "quick", "rounds"])]
    instructions: Option<PathBuf>,
    /// Run few flows and few rounds, as a check that everything works; writes no results
    #[arg(long)]
    quick: bool,
    /// Only rows with one of these strings in their names, such as "lbx rr" or "1M flows"; writes no results
    #[arg(long)]
    filter: Vec<String>,
    /// Rounds, that is samples per row
    #[arg(long)]
    rounds: Option<usize>,
    /// CPU to run on [default: the last one]
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
    let (mut groups, mut effort) = if arguments.instructions.is_some() {
        (scenarios::instruction_scenario_groups(), Sampling::OF_COUNTS)
    } else if arguments.quick {
        (scenarios::quick_scenario_groups(), Sampling::of_times(3, 5e6))
    } else {
        (scenarios::all_scenario_groups(), Sampling::of_times(11, 30e6))
    };
    effort.rounds = arguments.rounds.unwrap_or(effort.rounds);
    for group in &mut groups {
        let named = |row: &scenarios::Scenario| {
            arguments.filter.is_empty() || arguments.filter.iter().any(|part| row.to_string().contains(part))
        };
        group.scenarios.retain(named);
    }
    groups.retain(|group| !group.scenarios.is_empty());
    ensure!(!groups.is_empty(), "no row matches --filter");
    ensure!(effort.rounds > 0, "--rounds must be at least 1");
    let cpu = cpu::pin(arguments.cpu)?;
    let load = machine::load_average();
    let objects = BpfObjectPaths {
        packet_generator: &arguments.packet_generator,
        reference: &arguments.reference,
    };
    let measured = groups
        .iter()
        .map(|group| Ok((group.title, measure::measure_group(group, &objects, effort)?)))
        .collect::<Result<Vec<_>>>()?;
    if let Some(file) = &arguments.instructions {
        return report::save_counts(file, &measured);
    }
    let report = Report {
        machine: Machine::detect(cpu, load),
        date: machine::today()?,
        rounds: effort.rounds,
        groups: measured,
    };
    println!("{}", report.table());
    if let Some(results) = &arguments.results
        && !arguments.quick
        && arguments.filter.is_empty()
    {
        report.save(results)?;
    }
    Ok(())
}
