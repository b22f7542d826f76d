//! Load by `wrk`: as many requests as go, and the count of those that failed.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::{host::Host, patience, process::Process, wait};

/// Longer than it was told it will not take.
const GRACE: Duration = Duration::from_secs(10);

/// A wrk at work.
#[derive(Debug)]
pub struct Wrk {
    process: Process,
    time: Duration,
}

/// What it has to say in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Count {
    /// Requests that were answered.
    pub answered: u64,
    /// Requests a second.
    pub rate: f64,
    /// Connections that failed, broke, or waited in vain, and answers other than 2xx and 3xx.
    pub failed: u64,
}

impl Wrk {
    /// Starts one with this many connections at a time, kept for many requests or for one each. `name` is its own.
    ///
    /// # Errors
    /// It is not installed.
    pub fn start(client: &Host, name: &str, url: &str, connections: u8, kept: bool, seconds: u8) -> Result<Self> {
        // Longer where the machine is slower, as everything that is to happen meanwhile.
        let seconds = patience::scaled(Duration::from_secs(seconds.into())).as_secs();
        let (connections, seconds) = (connections.to_string(), seconds.to_string());
        let mut line = vec![
            "wrk",
            "--threads",
            "1",
            "--connections",
            &connections,
            "--duration",
            &seconds,
        ];
        if !kept {
            line.extend(["--header", "Connection: close"]);
        }
        line.push(url);
        Ok(Self {
            process: client.spawn(&format!("wrk-{name}"), line)?,
            time: Duration::from_secs(seconds.parse()?),
        })
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It fails or does not end in time.
    pub fn finish(mut self) -> Result<Count> {
        let process = &mut self.process;
        let status = wait::until(self.time + GRACE, "wrk ends", || process.ended())?;
        let log = process.log();
        ensure!(status.success(), "wrk ended with {status}\n{log}");
        parse(&log).with_context(|| format!("wrk printed\n{log}"))
    }
}

/// Reads what wrk 4 prints at its end.
fn parse(text: &str) -> Result<Count> {
    let mut count = Count::default();
    let mut rate = None;
    for line in text.lines().map(str::trim) {
        if let Some((requests, _)) = line.split_once(" requests in ") {
            count.answered = requests.parse()?;
        } else if let Some(number) = line.strip_prefix("Requests/sec:") {
            rate = Some(number.trim().parse()?);
        } else if let Some(number) = line.strip_prefix("Non-2xx or 3xx responses:") {
            count.failed += number.trim().parse::<u64>()?;
        } else if let Some(errors) = line.strip_prefix("Socket errors:") {
            for error in errors.split(',') {
                let number = error.split_whitespace().nth(1).context("an error without a number")?;
                count.failed += number.parse::<u64>()?;
            }
        }
    }
    count.rate = rate.context("no rate")?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As wrk 4.1.0 printed it.
    const REPORT: &str = "\
Running 1s test @ http://192.168.1.160/
  1 threads and 8 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   338.95us  123.34us   1.71ms   76.03%
    Req/Sec    23.26k     1.02k   25.15k    63.64%
  25455 requests in 1.10s, 6.09MB read
  Socket errors: connect 1, read 2, write 30, timeout 4
  Non-2xx or 3xx responses: 500
Requests/sec:  23140.91
Transfer/sec:      5.54MB
";

    #[test]
    fn reads_what_wrk_prints() {
        let expected = Count {
            answered: 25_455,
            rate: 23_140.91,
            failed: 537,
        };
        assert_eq!(parse(REPORT).unwrap(), expected);
        assert!(parse("unable to connect to 192.168.1.160:http Connection refused").is_err());
    }
}
