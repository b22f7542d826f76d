//! `cargo xtask bench instructions`: the instructions that a packet costs, counted by an emulated processor.
//!
//! Counts know no caches: `cargo xtask bench program` measures those. But they repeat within 0.5 % on any machine, so that a change of 2 %
//! is one of the program.

use std::{collections::BTreeMap, fmt::Write as _, fs, io, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use super::{BUILD_STEPS, Built};
use crate::{
    paths,
    steps::Steps,
    vm::{
        BOOT_TIMEOUT, Limits,
        guest::{Guest, Processor},
        prepare::PreparedGuest,
        script::Script,
    },
};

/// What `bench instructions` is told.
#[derive(Args)]
pub struct Arguments {
    /// The series of Linux, or one release of it. Counts of another series are not compared
    #[arg(long, value_name = "SERIES", default_value = "6.12")]
    kernel: String,
    /// Writes the counts into results/instructions.tsv, instead of comparing them
    #[arg(long)]
    save: bool,
    /// Only rows with one of these strings in their names, such as "lbx rr"; they cannot be saved
    #[arg(long, conflicts_with = "save")]
    filter: Vec<String>,
}

/// The kernel of the saved counts.
const SAVED_KERNEL: &str = "6.12";

/// By how much a count may grow.
const TOLERANCE: f64 = 0.02;

/// Counts of a few instructions differ by more than that from run to run.
const MIN_GROWTH: f64 = 3.0;

/// When a guest is ended: it takes about two minutes.
const TIME_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Instructions a packet by row, net of the packet generator.
type Counts = BTreeMap<String, f64>;

/// Counts, and compares or saves.
///
/// # Errors
/// Something does not build, the guest fails, or a row has grown.
pub fn measure(arguments: &Arguments) -> Result<()> {
    let mut steps = Steps::new(BUILD_STEPS + 2);
    let prepared = PreparedGuest::new(&arguments.kernel, &mut steps)?;
    let built = Built::new(&mut steps)?;
    let what = format!("counting under Linux {} (emulation)", prepared.kernel.release);
    let text = steps.run(&what, || count(&prepared, &built, &arguments.filter))?;
    let counts = parse(&text)?;
    let file = saved_file();
    if arguments.save {
        return fs::write(&file, &text).with_context(|| format!("cannot write {}", file.display()));
    }
    let saved = if arguments.kernel == SAVED_KERNEL {
        parse(&fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?)?
    } else {
        Counts::new()
    };
    print!("{}", table(&counts, &saved));
    let grown = grown(&counts, &saved);
    ensure!(
        grown.is_empty(),
        "more instructions than in {}: {}; make it cheaper, or save the new counts with --save and say why",
        file.display(),
        grown.join("; ")
    );
    Ok(())
}

fn saved_file() -> PathBuf {
    paths::root().join("results/instructions.tsv")
}

/// Boots a guest and has the bench count in it. Returns its rows.
fn count(prepared: &PreparedGuest, built: &Built, filters: &[String]) -> Result<String> {
    let counts = prepared.shared.join("instructions.tsv");
    let mut run = vec!["--instructions".to_owned(), counts.display().to_string()];
    for (option, object) in built.objects() {
        run.extend([option.to_owned(), prepared.copy(object)?.display().to_string()]);
    }
    for filter in filters {
        run.extend(["--filter".to_owned(), filter.clone()]);
    }
    let script = Script {
        program: &prepared.copy(&built.bench)?,
        directory: &prepared.shared,
        variables: &[],
        runs: vec![run],
    }
    .text(&prepared.shared);
    let guest = Guest {
        prepared,
        processor: Processor::EmulatedCounting,
    };
    let limits = Limits {
        boot: BOOT_TIMEOUT,
        total: TIME_LIMIT,
    };
    let mut running = guest.boot(&script, limits)?;
    let shown = io::copy(&mut running.console, &mut io::stdout());
    let status = running.status();
    drop(running);
    shown
        .map_err(anyhow::Error::from)
        .and(status)
        .and_then(|status| match status {
            0 => fs::read_to_string(&counts).context("the bench left no counts"),
            _ => bail!("the bench ended with status {status}"),
        })
        .map_err(|error| guest.with_console(&error))
}

/// Lines of a row's name, a tab and its count.
fn parse(text: &str) -> Result<Counts> {
    let row = |line: &str| {
        let (name, count) = line.split_once('\t')?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    let rows = text
        .lines()
        .map(|line| row(line).with_context(|| format!("no row: {line:?}")));
    rows.collect()
}

/// A table for people: counts, and what they were.
fn table(counts: &Counts, saved: &Counts) -> String {
    let width = counts.keys().map(String::len).max().unwrap_or(0);
    let mut table = String::new();
    for (row, count) in counts {
        let _ = write!(table, "{row:width$} {count:7.0}");
        if let Some(before) = saved.get(row) {
            let _ = write!(table, "   was {before:.0} ({:+.1} %)", (count / before - 1.0) * 100.0);
        }
        table.push('\n');
    }
    table
}

/// The rows that cost more than they did.
fn grown(counts: &Counts, saved: &Counts) -> Vec<String> {
    let rows = counts.iter().filter_map(|(row, &count)| {
        let before = *saved.get(row)?;
        let allowed = before + (before * TOLERANCE).max(MIN_GROWTH);
        (count > allowed).then(|| format!("{row}: {count:.0}, was {before:.0}"))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_grow_are_named() {
        let saved = parse("maglev\t800.0\nfloor\t18.0\nrr\t1100.0\n").unwrap();
        let counts = parse("maglev\t817.0\nfloor\t20.5\nrr\t1050.0\nnew\t5.0\n").unwrap();
        assert_eq!(grown(&counts, &saved), ["maglev: 817, was 800"]);
        assert!(table(&counts, &saved).contains("1050   was 1100 (-4.5 %)"));
    }

    #[test]
    fn what_is_no_row_is_an_error() {
        parse("maglev 800").unwrap_err();
        parse("maglev\tmany").unwrap_err();
    }
}
