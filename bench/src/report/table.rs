//! The report as Markdown.

use std::fmt::{self, Write as _};

use super::Report;
use crate::{
    machine::Machine,
    measure::Measurement,
    program::Program,
    scenarios::Scenario,
    statistics::{Summary, ratios},
    targets::EvaluatedTarget,
};

/// The whole text.
pub fn to_markdown(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = all(report, &mut text);
    text
}

fn all(report: &Report, text: &mut String) -> fmt::Result {
    writeln!(text, "# Program bench, {}\n", report.date)?;
    writeln!(
        text,
        "Nanoseconds of CPU time per packet, net of the packet generator that generates each packet: medians of {} rounds. The spread is half\n\
         the distance of the quartiles. The flow of each packet is random. *× reference* compares with the reference on the same traffic, round\n\
         by round.\n",
        report.rounds
    )?;
    for (title, rows) in &report.groups {
        writeln!(text, "## {title}\n")?;
        writeln!(text, "| program | traffic | ns | | spread | × reference | |")?;
        writeln!(text, "|---|---|---:|---:|---:|---:|---|")?;
        for measured in rows {
            line(text, measured, rows)?;
        }
        writeln!(text)?;
    }
    let evaluated = report.targets();
    if !evaluated.is_empty() {
        targets(text, &evaluated)?;
    }
    machine(text, &report.machine)
}

fn line(text: &mut String, measured: &Measurement, rows: &[Measurement]) -> fmt::Result {
    let Measurement {
        scenario: row,
        net_ns_per_packet: net,
        summary,
        ..
    } = measured;
    let reference = Scenario::new(Program::Reference, row.traffic);
    let reference = rows
        .iter()
        .find(|other| other.scenario == reference && *row != reference);
    let ratio = reference.and_then(|reference| Summary::from_samples(&ratios(net, &reference.net_ns_per_packet)));
    let ratio = ratio.map_or_else(String::new, |ratio| format!("{:.2}", ratio.median));
    let missing = match measured.unrecorded_flows {
        Some(0) | None => String::new(),
        Some(flows) => format!("{flows} flows without an entry"),
    };
    writeln!(
        text,
        "| {} | {} | {:.1} | ± {:.1} | {:.1} % | {ratio} | {missing} |",
        row.program,
        row.traffic,
        summary.median,
        summary.quartile_deviation(),
        summary.relative_quartile_deviation() * 100.0
    )
}

fn targets(text: &mut String, evaluated: &[EvaluatedTarget]) -> fmt::Result {
    writeln!(text, "## Targets\n")?;
    writeln!(text, "| | against | at most | measured | |")?;
    writeln!(text, "|---|---|---:|---:|---|")?;
    for evaluated in evaluated {
        let EvaluatedTarget { target, ratio, .. } = evaluated;
        let met = if evaluated.met() { "met" } else { "**missed**" };
        writeln!(
            text,
            "| {} | {} | {} | {:.2} | {met} |",
            target.scenario, target.baseline, target.max_ratio, ratio.median
        )?;
    }
    writeln!(text)
}

fn machine(text: &mut String, machine: &Machine) -> fmt::Result {
    let guest = if machine.is_guest { ", a guest" } else { "" };
    writeln!(text, "## Machine\n")?;
    writeln!(text, "| | |\n|---|---|")?;
    writeln!(
        text,
        "| processor | {} ({}){guest} |",
        machine.processor, machine.cpuid_signature
    )?;
    writeln!(text, "| processors | {} |", machine.processors)?;
    writeln!(text, "| caches | {} |", machine.caches.join(", "))?;
    writeln!(
        text,
        "| frequency | {} MHz, governor {} |",
        machine.frequency_mhz, machine.governor
    )?;
    writeln!(text, "| memory | {} GiB |", machine.memory_gib)?;
    let [before, after] = &machine.load_averages;
    writeln!(text, "| load | {before} before, {after} after |")?;
    writeln!(text, "| kernel | {} |", machine.kernel)?;
    writeln!(text, "| BPF compiler | {} |", machine.jit)?;
    writeln!(text, "| mitigations | {} |", machine.mitigations.join("; "))
}
