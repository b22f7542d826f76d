//! What was measured, for people and for programs.

mod plot;
mod table;

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::{
    bars::{self, Judged},
    machine::Machine,
    measure::{Measured, Outcome},
    statistics::Summary,
};

/// Everything there is to tell.
pub struct Report {
    /// Where it was measured.
    pub machine: Machine,
    /// When, as a date.
    pub date: String,
    /// Samples of each row.
    pub rounds: usize,
    /// What was measured, by group.
    pub groups: Vec<(&'static str, Vec<Measured>)>,
}

impl Report {
    /// The text for a terminal, a pull request and the results' folder alike.
    pub fn table(&self) -> String {
        table::write(self)
    }

    /// All rows.
    fn rows(&self) -> Vec<&Measured> {
        self.groups.iter().flat_map(|(_, rows)| rows).collect()
    }

    /// All bars.
    pub fn bars(&self) -> Vec<Judged> {
        bars::judge(&self.rows())
    }

    /// Writes table, plot and numbers into a folder of their own.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, results: &Path) -> Result<()> {
        let folder = results.join(format!("{}-{}", self.date, self.machine.slug()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for (name, content) in [
            ("table.md", self.table()),
            ("plot.svg", plot::write(self)),
            ("bench.json", self.json()?),
        ] {
            let file = folder.join(name);
            fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
            eprintln!("{}", file.display());
        }
        Ok(())
    }

    fn json(&self) -> Result<String> {
        #[derive(Serialize)]
        struct File<'r> {
            machine: &'r Machine,
            date: &'r str,
            unit: &'static str,
            rows: Vec<Line>,
            bars: Vec<BarLine>,
        }
        #[derive(Serialize)]
        struct Line {
            row: String,
            #[serde(flatten)]
            summary: Option<Summary>,
            samples: Vec<f64>,
            missing: Option<u64>,
            skipped: Option<&'static str>,
        }
        #[derive(Serialize)]
        struct BarLine {
            of: String,
            with: String,
            limit: f64,
            ratio: Option<Summary>,
            met: Option<bool>,
        }
        let rows = self.rows().into_iter().map(|measured| {
            let (samples, missing, skipped) = match &measured.outcome {
                Outcome::Samples { net, missing } => (net.clone(), *missing, None),
                Outcome::Skipped(why) => (Vec::new(), None, Some(*why)),
            };
            Line {
                row: measured.row.to_string(),
                summary: Summary::of(&samples),
                samples,
                missing,
                skipped,
            }
        });
        let bars = self.bars().into_iter().map(|judged| BarLine {
            of: judged.bar.of.to_string(),
            with: judged.bar.with.to_string(),
            limit: judged.bar.limit,
            met: judged.met(),
            ratio: judged.ratio,
        });
        let file = File {
            machine: &self.machine,
            date: &self.date,
            unit: "ns per packet, net of the prologue",
            rows: rows.collect(),
            bars: bars.collect(),
        };
        Ok(serde_json::to_string_pretty(&file)? + "\n")
    }
}
