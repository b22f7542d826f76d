//! What was measured, for people and for programs.

mod json;
mod plot;
mod table;

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::{
    bars::{self, Judged},
    machine::Machine,
    measure::Measured,
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
            ("bench.json", json::write(self)?),
        ] {
            let file = folder.join(name);
            fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
            eprintln!("{}", file.display());
        }
        Ok(())
    }
}
