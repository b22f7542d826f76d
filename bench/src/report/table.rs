//! The report as Markdown.

use std::fmt::{self, Write as _};

use super::Report;
use crate::{
    bars::Judged,
    machine::Machine,
    measure::Measured,
    program::Program,
    rows::Row,
    statistics::{Summary, ratios},
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
        "Nanoseconds of CPU time a packet, net of the prologue that makes each packet: medians of {} rounds. The spread is half\n\
         the distance of the quartiles. Flows come at random. *× reference* compares with the reference on the same traffic, round\n\
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
    let judged = report.bars();
    if !judged.is_empty() {
        bars(text, &judged)?;
    }
    machine(text, &report.machine)
}

fn line(text: &mut String, measured: &Measured, rows: &[Measured]) -> fmt::Result {
    let Measured { row, net, summary, .. } = measured;
    let rival = Row::new(Program::Reference, row.traffic);
    let rival = rows.iter().find(|other| other.row == rival && *row != rival);
    let ratio = rival.and_then(|rival| Summary::of(&ratios(net, &rival.net)));
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

fn bars(text: &mut String, judged: &[Judged]) -> fmt::Result {
    writeln!(text, "## Bars\n")?;
    writeln!(text, "| | against | at most | measured | |")?;
    writeln!(text, "|---|---|---:|---:|---|")?;
    for judged in judged {
        let Judged { bar, ratio, .. } = judged;
        let met = if judged.met() { "met" } else { "**missed**" };
        writeln!(
            text,
            "| {} | {} | {} | {:.2} | {met} |",
            bar.of, bar.with, bar.limit, ratio.median
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
