//! Programs the lab runs: with a time limit, or in the background and ended with the handle.

use std::{
    cell::RefCell,
    fs::{self, File},
    io::Read,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};

use crate::{patience, wait};

/// How long a program that was asked to stop may take before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// What a program left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Its exit status, unless a signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Its standard output, if it succeeded.
    ///
    /// # Errors
    /// It did not; with everything it said.
    pub fn success(self) -> Result<String> {
        ensure!(self.status.success(), "{self}");
        Ok(self.stdout)
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` ended with {}", self.command, describe(self.status))?;
        for text in [&self.stdout, &self.stderr] {
            if !text.trim().is_empty() {
                write!(f, "\n{}", text.trim_end())?;
            }
        }
        Ok(())
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("status {code}"),
        (None, Some(number)) => format!("signal {number}"),
        (None, None) => status.to_string(),
    }
}

/// A command line as a person would type it.
fn display(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs a program to its end, `limit` at most.
///
/// # Errors
/// It cannot be started or takes too long. A failing program is not an error here: see [`Output::success`].
pub fn run(command: &mut Command, limit: Duration) -> Result<Output> {
    let line = display(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let ended = wait_for(&mut child, limit)?;
    if ended.is_none() {
        // Whoever inherited the pipes may hold them open: what was said so far is left unread.
        child.kill().ok();
        child.wait().ok();
        bail!("`{line}` took longer than {limit:?} and was killed");
    }
    Ok(Output {
        command: line,
        status: ended.context("no status")?,
        stdout: stdout.join().unwrap_or_default(),
        stderr: stderr.join().unwrap_or_default(),
    })
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes).ok();
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn wait_for(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + patience::scaled(limit);
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

thread_local! {
    static LOGS: RefCell<Vec<(String, String)>> = const { RefCell::new(Vec::new()) };
}

/// Titles and logs of the background programs this thread has ended since the last call: what a failed test shows.
#[must_use]
pub fn take_logs() -> Vec<(String, String)> {
    LOGS.take()
}

/// A program in the background; ended, by force if need be, when the handle goes.
#[derive(Debug)]
pub struct Process {
    title: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program; what it says on standard output and standard error is appended to the file `log`.
    ///
    /// # Errors
    /// The program cannot be started or the log not be opened.
    pub fn spawn(title: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let open = || {
            let file = File::options().create(true).append(true).open(log);
            file.with_context(|| format!("cannot open the log {}", log.display()))
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(open()?)
            .stderr(open()?)
            .spawn()
            .with_context(|| format!("cannot start `{}`", display(command)))?;
        Ok(Self {
            title: title.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Processor time it has taken so far, in the kernel too.
    ///
    /// # Errors
    /// It is gone.
    pub fn processor_time(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // proc(5): after the name in parentheses, fields 3 on; utime and stime are 14 and 15, in ticks of 10 ms.
        let fields = stat.rsplit_once(") ").context("no name in parentheses")?.1;
        let mut times = fields.split(' ').skip(11);
        let mut next = || Ok::<u64, anyhow::Error>(times.next().context("too few fields")?.parse()?);
        Ok(Duration::from_millis(10 * (next()? + next()?)))
    }

    /// What it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().try_into()?);
        signal::kill(pid, signal).with_context(|| format!("cannot send {signal} to {}", self.title))
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until `ready` is true.
    ///
    /// # Errors
    /// The program ends before that, or the time is over; with its log.
    pub fn wait_ready(&mut self, limit: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
        let what = format!("{} is ready", self.title);
        let result = wait::until_true(limit, &what, || {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {} before it was ready", self.title, describe(status));
            }
            ready()
        });
        result.with_context(|| format!("log of {}:\n{}", self.title, self.log()))
    }

    /// Asks it to stop with `signal` and waits for its end.
    ///
    /// # Errors
    /// It has not ended within ten seconds; it goes on running then.
    pub fn stop(&mut self, signal: Signal) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        self.signal(signal)?;
        wait_for(&mut self.child, GRACE)?
            .with_context(|| format!("{} does not end after {signal}; its log:\n{}", self.title, self.log()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.stop(Signal::SIGTERM).is_err() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
        let log = self.log();
        LOGS.with_borrow_mut(|logs| logs.push((self.title.clone(), log)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_leaves_output_and_status() {
        let output = run(&mut shell("echo out; echo err >&2; exit 3"), GRACE).unwrap();
        assert_eq!(output.code(), Some(3));
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
        assert!(output.success().is_err());
    }

    #[test]
    fn a_program_that_takes_too_long_is_an_error() {
        let started = Instant::now();
        let error = run(&mut shell("sleep 30"), Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("took longer"), "{error}");
        assert!(started.elapsed() < GRACE);
    }

    #[test]
    fn a_background_program_ends_with_its_handle_and_leaves_its_log() {
        let log = std::env::temp_dir().join(format!("lbx-process-test-{}", std::process::id()));
        let mut process = Process::spawn("echo", &mut shell("echo started; exec sleep 30"), &log).unwrap();
        process.wait_ready(GRACE, || Ok(log.metadata()?.len() > 0)).unwrap();
        let pid = process.pid();
        drop(process);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert_eq!(take_logs(), [("echo".to_owned(), "started\n".to_owned())]);
        fs::remove_file(log).unwrap();
    }
}
