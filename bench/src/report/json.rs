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
    #[serde(rename = "bars")]
    targets: Vec<Target>,
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
struct Target {
    of: String,
    with: String,
    limit: f64,
    ratio: Summary,
    met: bool,
}

/// The whole text.
pub fn to_json(report: &Report) -> Result<String> {
    let rows = report.rows().into_iter().map(|measured| Row {
        row: measured.scenario.to_string(),
        summary: measured.summary,
        samples: &measured.net_ns_per_packet,
        missing: measured.unrecorded_flows,
    });
    let targets = report.targets().into_iter().map(|evaluated| Target {
        of: evaluated.target.scenario.to_string(),
        with: evaluated.target.baseline.to_string(),
        limit: evaluated.target.max_ratio,
        met: evaluated.met(),
        ratio: evaluated.ratio,
    });
    let file = File {
        machine: &report.machine,
        date: &report.date,
        unit: "ns per packet, net of the packet generator",
        rows: rows.collect(),
        targets: targets.collect(),
    };
    Ok(serde_json::to_string_pretty(&file)? + "\n")
}
