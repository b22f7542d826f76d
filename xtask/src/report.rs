//! What a task has seen of tests, and the line that says how it went.

use std::{
    io,
    process::{Command, ExitCode},
};

use crate::{
    steps::Steps,
    tally::{Tally, TestResults, TestSeconds},
};

/// Tests that are named at the end as the slowest.
const SLOWEST: usize = 10;

/// What has been seen so far.
#[derive(Default)]
pub struct Report {
    /// The sums.
    pub tally: Tally,
    /// Why something was skipped or failed outside a test.
    notes: Vec<String>,
    /// The slowest tests of every runner.
    slowest: Vec<TestSeconds>,
}

impl Report {
    /// Prints the slowest tests, what happened outside tests, and the sum on the last line; gives the exit status.
    pub fn finish(mut self) -> ExitCode {
        self.slowest.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        println!("slowest tests:");
        for (seconds, name) in self.slowest.iter().take(SLOWEST) {
            println!("{seconds:>8.1} s  {name}");
        }
        for note in &self.notes {
            println!("{note}");
        }
        println!("{}", self.tally);
        if self.tally.failed > 0 {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }

    /// Runs a runner as a step of its own.
    pub fn runner(&mut self, steps: &mut Steps, what: &str, mut command: Command) {
        steps.run(what, || self.count(what, &mut command));
    }

    /// Runs a runner and counts what it reports.
    pub fn count(&mut self, what: &str, command: &mut Command) {
        match TestResults::run_and_count(command, &mut io::stdout()) {
            Ok(run) => self.add(run),
            Err(error) => self.fail(&format!("{what}: {error:#}")),
        }
    }

    /// Counts what runners have reported.
    pub fn add(&mut self, run: TestResults) {
        self.tally += run.tally;
        self.slowest.extend(run.slowest);
    }

    /// Counts a failure outside a test.
    pub fn fail(&mut self, why: &str) {
        self.tally.failed += 1;
        self.notes.push(format!("failed: {why}"));
    }

    /// Counts something that could not run.
    pub fn skip(&mut self, why: &str) {
        self.tally.skipped += 1;
        self.notes.push(format!("skipped: {why}"));
    }
}
