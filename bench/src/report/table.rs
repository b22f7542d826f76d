//! The report as Markdown.

use std::fmt::{self, Write as _};

use super::Report;
use crate::{
    machine::Machine,
    measure::Measured,
    program::Program,
    rows::Row,
    statistics::{Summary, ratios},
    targets::Evaluated,
};

/// The whole text.
pub fn write(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = all(report, &mut text);
    text
}

fn all(report: &Report, text: &mut String) -> fmt::Result {
    writeln!(text, "# Program bench, {}\n", report.date)?;
    writeln!(
        text,
        "Nanoseconds of CPU time per packet, net of the prologue that generates each packet: medians of {} rounds. The spread is half\n\
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

fn line(text: &mut String, measured: &Measured, rows: &[Measured]) -> fmt::Result {
    let Measured { row, net, summary, .. } = measured;
    let reference = Row::new(Program::Reference, row.traffic);
    let reference = rows.iter().find(|other| other.row == reference && *row != reference);
    let ratio = reference.and_then(|reference| Summary::of(&ratios(net, &reference.net)));
    let ratio = ratio.map_or_else(String::new, |ratio| format!("{:.2}", ratio.median));
    let missing = match measured.missing {
        Some(0) | None => String::new(),
        Some(flows) => format!("{flows} flows without an entry"),
    };
    writeln!(
        text,
        "| {} | {} | {:.1} | ± {:.1} | {:.1} % | {ratio} | {missing} |",
        row.program,
        row.traffic,
        summary.median,
        summary.half_width(),
        summary.spread() * 100.0
    )
}

fn targets(text: &mut String, evaluated: &[Evaluated]) -> fmt::Result {
    writeln!(text, "## Targets\n")?;
    writeln!(text, "| | against | at most | measured | |")?;
    writeln!(text, "|---|---|---:|---:|---|")?;
    for evaluated in evaluated {
        let Evaluated { target, ratio, .. } = evaluated;
        let met = if evaluated.met() { "met" } else { "**missed**" };
        writeln!(
            text,
            "| {} | {} | {} | {:.2} | {met} |",
            target.of, target.with, target.limit, ratio.median
        )?;
    }
    writeln!(text)
}

fn machine(text: &mut String, machine: &Machine) -> fmt::Result {
    let guest = if machine.hypervisor { ", a guest" } else { "" };
    writeln!(text, "## Machine\n")?;
    writeln!(text, "| | |\n|---|---|")?;
    writeln!(
        text,
        "| processor | {} ({}){guest} |",
        machine.processor, machine.signature
    )?;
    writeln!(text, "| processors | {} |", machine.processors)?;
    writeln!(text, "| caches | {} |", machine.caches.join(", "))?;
    writeln!(
        text,
        "| frequency | {} MHz, governor {} |",
        machine.frequency, machine.governor
    )?;
    writeln!(text, "| memory | {} GiB |", machine.memory)?;
    let [before, after] = &machine.load;
    writeln!(text, "| load | {before} before, {after} after |")?;
    writeln!(text, "| kernel | {} |", machine.kernel)?;
    writeln!(text, "| BPF compiler | {} |", machine.jit)?;
    writeln!(text, "| mitigations | {} |", machine.mitigations.join("; "))
}
