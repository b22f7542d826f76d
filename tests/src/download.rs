//! Downloads that take their time: begun, still running, and whole in the end.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    host::Host,
    payload::{self, Digest},
    process::Process,
    wait,
};

/// How long the first bytes may take.
const START: Duration = Duration::from_secs(5);
/// How long the last may take once nothing slows them down.
const LIMIT: Duration = Duration::from_secs(20);

/// A download by `curl`, slow enough to be there while other things happen.
#[derive(Debug)]
pub struct Download {
    process: Process,
    server: String,
    file: PathBuf,
}

impl Download {
    /// Begins one of so many kilobytes a second, and waits until the first bytes are there. `name` is its own.
    ///
    /// # Errors
    /// Nothing comes within five seconds.
    pub fn begin(client: &Host, name: &str, url: &str, kilobytes: u32) -> Result<Self> {
        let file = client.directory().join(format!("{name}.down"));
        let headers = client.directory().join(format!("{name}.headers"));
        let (rate, to, head) = (
            format!("{kilobytes}k"),
            file.display().to_string(),
            headers.display().to_string(),
        );
        let line = [
            "curl",
            "--globoff",
            "--silent",
            "--show-error",
            "--fail",
            "--limit-rate",
            &rate,
            "--dump-header",
            &head,
            "--output",
            &to,
            url,
        ];
        let mut process = client.spawn(&format!("download-{name}"), line)?;
        process.wait_ready(START, || Ok(file.metadata().is_ok_and(|file| file.len() > 0)))?;
        let answer = fs::read_to_string(&headers)?;
        let server = answer.lines().find_map(|line| line.strip_prefix("Served-By: "));
        let server = server.with_context(|| format!("nobody says who serves: {answer}"))?;
        Ok(Self {
            server: server.trim().to_owned(),
            process,
            file,
        })
    }

    /// Who serves it.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// That it has not ended yet, in one way or another.
    ///
    /// # Errors
    /// It has.
    pub fn expect_open(&mut self) -> Result<()> {
        let ended = self.process.ended()?;
        ensure!(
            ended.is_none(),
            "the download has ended: {ended:?}\n{}",
            self.process.log()
        );
        Ok(())
    }

    /// That more of it comes in.
    ///
    /// # Errors
    /// It has ended, or nothing comes within five seconds.
    pub fn expect_progress(&mut self) -> Result<()> {
        self.expect_open()?;
        let so_far = self.file.metadata()?.len();
        wait::until_true(START, "the download goes on", || {
            Ok(self.file.metadata()?.len() > so_far)
        })
    }

    /// That what has arrived so far is how this file begins.
    ///
    /// # Errors
    /// It is something else.
    pub fn expect_start_of(&self, file: &Path) -> Result<()> {
        let (arrived, whole) = (fs::read(&self.file)?, fs::read(file)?);
        ensure!(
            !arrived.is_empty() && whole.starts_with(&arrived),
            "{} bytes have arrived, and not those of {}",
            arrived.len(),
            file.display()
        );
        Ok(())
    }

    /// Waits for its end and gives what has arrived.
    ///
    /// # Errors
    /// It breaks, or takes more than twenty seconds from now on.
    pub fn finish(mut self) -> Result<Digest> {
        let process = &mut self.process;
        let status = wait::until(LIMIT, "the download ends", || process.ended())?;
        ensure!(status.success(), "the download broke: {status}\n{}", process.log());
        payload::digest(&self.file)
    }
}
