//! Counting what test runners report.

use std::{
    fmt,
    io::{Read, Write},
    ops::AddAssign,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

/// Sums over test runners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that held.
    pub passed: u64,
    /// Tests that did not, and runners that died.
    pub failed: u64,
    /// Tests the runner ignored, and steps that could not run.
    pub skipped: u64,
}

/// A test and its time in seconds.
pub type TestSeconds = (f64, String);

/// What the runners of one command have shown.
#[derive(Debug, Default)]
pub struct TestResults {
    /// Their sums.
    pub tally: Tally,
    /// The tests that they name as their slowest.
    pub slowest: Vec<TestSeconds>,
    /// How many tests each of them said at its start that it runs.
    pub announced: Vec<u64>,
}

impl TestResults {
    /// Runs a test runner, or cargo with several, and counts while its output streams to `out`. Tests are numbered there, and
    /// the slowest are left for the caller to print.
    ///
    /// A runner that fails without reporting a failed test (it crashed, or did not compile) counts as one.
    ///
    /// # Errors
    /// When it cannot be started or its output cannot be passed on.
    pub fn run_and_count(command: &mut Command, out: &mut impl Write) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
        let mut output = child.stdout.take().context("the runner has no output")?;
        let mut run = Self::read(&mut output, out)?;
        let status = child.wait()?;
        if !status.success() && run.tally.failed == 0 {
            eprintln!("the runner reported no failed test but ended with {status}: counted as one failure");
            run.tally.failed = 1;
        }
        Ok(run)
    }

    /// Counts in the output of runners while it streams to `out`.
    ///
    /// # Errors
    /// When the output cannot be read or passed on.
    pub fn read(output: &mut impl Read, out: &mut impl Write) -> Result<Self> {
        let mut reader = Reader::default();
        let mut chunk = [0; 8192];
        // By chunk, not by line: a test's name shows before its result does.
        loop {
            let size = output.read(&mut chunk)?;
            if size == 0 {
                break;
            }
            for &byte in &chunk[..size] {
                reader.take(byte, out)?;
            }
            out.flush()?;
        }
        if !reader.line.is_empty() {
            reader.end_line(out)?;
        }
        Ok(reader.run)
    }
}

/// Reads the output of runners, byte by byte.
#[derive(Default)]
struct Reader {
    run: TestResults,
    line: Vec<u8>,
    /// Whether the line is a test's, whose name has been passed on already.
    of_test: bool,
    done: u64,
    total: u64,
    /// Whether lines are those after [`SLOWEST`].
    slowest: bool,
}

/// What a runner's line of a test begins with.
const TEST: &[u8] = b"test ";
/// What a runner's summary begins with.
const RESULT: &[u8] = b"test result:";
/// The line before a runner's slowest tests (`tests/src/timing.rs`).
const SLOWEST: &str = "slowest tests:";

impl Reader {
    fn take(&mut self, byte: u8, out: &mut impl Write) -> Result<()> {
        if byte == b'\n' {
            return self.end_line(out);
        }
        self.line.push(byte);
        if self.of_test {
            out.write_all(&[byte])?;
        } else if self.line.len() == RESULT.len() && self.line.starts_with(TEST) && self.line != RESULT {
            self.of_test = true;
            self.done += 1;
            write!(out, "[{}/{}] ", self.done, self.total)?;
            out.write_all(&self.line)?;
        }
        Ok(())
    }

    fn end_line(&mut self, out: &mut impl Write) -> Result<()> {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        if std::mem::take(&mut self.of_test) {
            return Ok(out.write_all(b"\n")?);
        }
        let running = line.strip_prefix("running ").and_then(|rest| rest.split(' ').next());
        if let Some(total) = running.and_then(|number| number.parse().ok()) {
            (self.done, self.total) = (0, total);
            self.run.announced.push(total);
        }
        let timing = || {
            let (seconds, name) = line.trim_start().split_once(" s  ")?;
            Some((seconds.parse().ok()?, name.to_owned()))
        };
        match timing().filter(|_| self.slowest) {
            Some(timing) => self.run.slowest.push(timing),
            None => {
                self.slowest = line == SLOWEST;
                self.run.tally += Tally::of_line(&line);
                if !self.slowest {
                    writeln!(out, "{line}")?;
                }
            }
        }
        Ok(())
    }
}

impl Tally {
    /// What one line of a runner adds: nothing, unless it is its summary.
    fn of_line(line: &str) -> Self {
        let Some(summary) = line.strip_prefix("test result:") else {
            return Self::default();
        };
        let words: Vec<&str> = summary.split_whitespace().collect();
        let count = |what: &str| {
            let before = words.windows(2).find(|pair| pair[1].trim_end_matches(';') == what);
            before.and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
        };
        Self {
            passed: count("passed"),
            failed: count("failed"),
            skipped: count("ignored"),
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Tally {
        TestResults::run_and_count(Command::new("sh").args(["-c", script]), &mut Vec::new())
            .unwrap()
            .tally
    }

    #[test]
    fn sums_the_summaries_of_all_runners() {
        let tally = shell(
            "echo 'test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.00s'
             echo 'test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s'
             exit 101",
        );
        assert_eq!(tally.to_string(), "13 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn a_runner_that_dies_counts_as_a_failure() {
        assert_eq!(shell("echo running 7 tests; kill -9 $$").failed, 1);
    }

    #[test]
    fn the_last_line_counts_without_its_newline() {
        assert_eq!(
            shell("printf 'test result: ok. 5 passed; 0 failed; 0 ignored'").passed,
            5
        );
    }

    #[test]
    fn tests_are_numbered_and_the_slowest_are_collected() {
        let script = "printf 'running 2 tests\\ntest a::b ... ok\\ntest c ... FAILED\\n'
             echo 'test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s'
             printf 'slowest tests:\\n     1.5 s  a::b\\n     0.1 s  c\\nrunning 1 test\\ntest only ... ok\\n'";
        let mut out = Vec::new();
        let run = TestResults::run_and_count(Command::new("sh").args(["-c", script]), &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(
            out.starts_with("running 2 tests\n[1/2] test a::b ... ok\n[2/2] test c ... FAILED\ntest result: "),
            "{out}"
        );
        assert!(
            out.ends_with("running 1 test\n[1/1] test only ... ok\n") && !out.contains("slowest"),
            "{out}"
        );
        assert_eq!(run.slowest, [(1.5, "a::b".to_owned()), (0.1, "c".to_owned())]);
        assert_eq!(run.announced, [2, 1]);
        assert_eq!(run.tally.to_string(), "1 passed, 1 failed, 0 skipped");
    }
}
