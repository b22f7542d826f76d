//! The report of a run: table, plot and JSON.

mod json;
mod plot;
mod table;

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::{
    machine::Machine,
    measure::Measurement,
    targets::{self, EvaluatedTarget},
};

/// The results of a run.
pub struct Report {
    /// The machine.
    pub machine: Machine,
    /// The date.
    pub date: String,
    /// Samples of each row.
    pub rounds: usize,
    /// Measured rows, by group.
    pub groups: Vec<(&'static str, Vec<Measurement>)>,
}

/// Writes counts of instructions: the name of a row, a tab, and the least of its samples. Interrupts, and records that are updated once a
/// tick, only add.
///
/// # Errors
/// The file cannot be written.
pub fn save_counts(file: &Path, groups: &[(&str, Vec<Measurement>)]) -> Result<()> {
    let rows = groups.iter().flat_map(|(_, rows)| rows);
    let least = |row: &Measurement| row.net_ns_per_packet.iter().copied().fold(f64::INFINITY, f64::min);
    let rows: String = rows
        .map(|row| format!("{}\t{:.1}\n", row.scenario, least(row)))
        .collect();
    fs::write(file, rows).with_context(|| format!("cannot write {}", file.display()))
}

impl Report {
    /// The report as Markdown, for the terminal and the results' folder.
    pub fn table(&self) -> String {
        table::to_markdown(self)
    }

    /// All rows.
    fn rows(&self) -> Vec<&Measurement> {
        self.groups.iter().flat_map(|(_, rows)| rows).collect()
    }

    /// All targets whose rows were measured.
    pub fn targets(&self) -> Vec<EvaluatedTarget> {
        targets::evaluate(&self.rows())
    }

    /// Writes table, plot and samples into a folder of their own.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, results: &Path) -> Result<()> {
        let folder = results.join(format!("{}-{}", self.date, self.machine.slug()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for (name, content) in [
            ("table.md", self.table()),
            ("plot.svg", plot::to_svg(self)),
            ("bench.json", json::to_json(self)?),
        ] {
            let file = folder.join(name);
            fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
            eprintln!("{}", file.display());
        }
        Ok(())
    }
}
