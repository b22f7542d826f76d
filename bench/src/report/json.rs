//! The report as JSON: every sample.

use anyhow::Result;
use serde::Serialize;

use super::Report;
use crate::{machine::Machine, statistics::Summary};

#[derive(Serialize)]
struct File<'r> {
    machine: &'r Machine,
    date: &'r str,
    unit: &'static str,
    rows: Vec<Row<'r>>,
    bars: Vec<Bar>,
}

#[derive(Serialize)]
struct Row<'r> {
    row: String,
    #[serde(flatten)]
    summary: Summary,
    samples: &'r [f64],
    missing: Option<u64>,
}

#[derive(Serialize)]
struct Bar {
    of: String,
    with: String,
    limit: f64,
    ratio: Summary,
    met: bool,
}

/// The whole text.
pub fn write(report: &Report) -> Result<String> {
    let rows = report.rows().into_iter().map(|measured| Row {
        row: measured.row.to_string(),
        summary: measured.summary,
        samples: &measured.net,
        missing: measured.missing,
    });
    let bars = report.bars().into_iter().map(|judged| Bar {
        of: judged.bar.of.to_string(),
        with: judged.bar.with.to_string(),
        limit: judged.bar.limit,
        met: judged.met(),
        ratio: judged.ratio,
    });
    let file = File {
        machine: &report.machine,
        date: &report.date,
        unit: "ns per packet, net of the prologue",
        rows: rows.collect(),
        bars: bars.collect(),
    };
    Ok(serde_json::to_string_pretty(&file)? + "\n")
}
