//! The report as Markdown.

use std::fmt::{self, Write as _};

use super::Report;
use crate::{
    bars::Judged,
    machine::Machine,
    measure::{Measured, Outcome},
    rows::Row,
    statistics::{Summary, ratios},
    subject::Program,
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
        writeln!(text, "| program | traffic | ns | spread | × reference | |")?;
        writeln!(text, "|---|---|---:|---:|---:|---|")?;
        for measured in rows {
            line(text, measured, rows)?;
        }
        writeln!(text)?;
    }
    let judged = report.bars();
    if judged.iter().any(|judged| judged.ratio.is_some()) {
        bars(text, &judged)?;
    }
    machine(text, &report.machine)
}

fn line(text: &mut String, measured: &Measured, rows: &[Measured]) -> fmt::Result {
    let Row { program, traffic } = measured.row;
    let (net, missing) = match &measured.outcome {
        Outcome::Samples { net, missing } => (net, missing),
        Outcome::Skipped(why) => return writeln!(text, "| {program} | {traffic} | | | | skipped: {why} |"),
    };
    let Some(summary) = Summary::of(net) else { return Ok(()) };
    let rival = Row::new(Program::Reference, traffic);
    let ratio = rows
        .iter()
        .find(|other| other.row == rival && program != Program::Reference);
    let ratio = ratio.and_then(|rival| match &rival.outcome {
        Outcome::Samples { net: with, .. } => Summary::of(&ratios(net, with)),
        Outcome::Skipped(_) => None,
    });
    let ratio = ratio.map_or_else(String::new, |ratio| format!("{:.2}", ratio.median));
    let missing = match missing {
        Some(0) | None => String::new(),
        Some(flows) => format!("{flows} flows without an entry"),
    };
    writeln!(
        text,
        "| {program} | {traffic} | {:.1} | {:.1} % | {ratio} | {missing} |",
        summary.median,
        summary.spread() * 100.0
    )
}

fn bars(text: &mut String, judged: &[Judged]) -> fmt::Result {
    writeln!(text, "## Bars\n")?;
    writeln!(text, "| | against | at most | measured | |")?;
    writeln!(text, "|---|---|---:|---:|---|")?;
    for judged in judged {
        let ratio = judged
            .ratio
            .map_or_else(String::new, |ratio| format!("{:.2}", ratio.median));
        let met = match judged.met() {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "not measured",
        };
        let bar = &judged.bar;
        writeln!(text, "| {} | {} | {} | {ratio} | {met} |", bar.of, bar.with, bar.limit)?;
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
    writeln!(text, "| kernel | {} |", machine.kernel)?;
    writeln!(text, "| BPF compiler | {} |", machine.jit)?;
    writeln!(text, "| mitigations | {} |", machine.mitigations.join("; "))
}
