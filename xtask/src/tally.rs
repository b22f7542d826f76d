//! Counting what test runners report.

use std::{
    fmt,
    io::{Read as _, Write},
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

impl Tally {
    /// Runs a test runner, or cargo with several, and counts while its output streams to `out`.
    ///
    /// A runner that fails without reporting a failed test (it crashed, or did not compile) counts as one.
    ///
    /// # Errors
    /// When it cannot be started or its output cannot be passed on.
    pub fn of(command: &mut Command, out: &mut impl Write) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
        let mut output = child.stdout.take().context("the runner has no output")?;
        let mut tally = Self::default();
        let mut line = Vec::new();
        let mut chunk = [0; 8192];
        // By chunk, not by line: a test's name shows before its result does.
        loop {
            let size = output.read(&mut chunk)?;
            if size == 0 {
                break;
            }
            out.write_all(&chunk[..size])?;
            out.flush()?;
            for &byte in &chunk[..size] {
                if byte == b'\n' {
                    tally += Self::of_line(&String::from_utf8_lossy(&line));
                    line.clear();
                } else {
                    line.push(byte);
                }
            }
        }
        tally += Self::of_line(&String::from_utf8_lossy(&line));
        let status = child.wait()?;
        if !status.success() && tally.failed == 0 {
            eprintln!("the runner reported no failed test but ended with {status}: counted as one failure");
            tally.failed = 1;
        }
        Ok(tally)
    }

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
        Tally::of(Command::new("sh").args(["-c", script]), &mut Vec::new()).unwrap()
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
}
