//! Steady load: clients that ask for a page again and again, and the time of each request that fails.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use crate::{
    clients::{self, Visit},
    host::Host,
    wait,
};

/// Between two requests of one client: the machine has other things to do.
const PAUSE: Duration = Duration::from_millis(3);

/// A request that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When it began.
    pub began: Instant,
    /// When its connection did.
    pub connected: Instant,
    /// How long it took to fail.
    pub took: Duration,
    /// The page of the same connection before it, where there was one: it says who has failed.
    pub server: Option<String>,
    /// What went wrong.
    pub why: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = self.server.as_deref().unwrap_or("somebody");
        write!(f, "{server} after {:?}: {}", self.took, self.why)
    }
}

/// What has happened under load.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Pages by what they said.
    pub answers: BTreeMap<String, u64>,
    /// What went wrong.
    pub failures: Vec<Failure>,
    /// The longest any page took: a second or more means a lost SYN, 200 ms a lost segment.
    pub slowest: Duration,
}

impl Report {
    /// Pages in all.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answers.values().sum()
    }

    /// That there were pages, and no failure.
    ///
    /// # Errors
    /// There was one, or nothing happened.
    pub fn expect_no_failure(&self) -> Result<()> {
        ensure!(self.answered() > 0 && self.failures.is_empty(), "{self}");
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "answered {:?}, slowest {:?}, failed {}",
            self.answers,
            self.slowest,
            self.failures.len()
        )?;
        for failure in self.failures.iter().take(5) {
            write!(f, "\n  {failure}")?;
        }
        Ok(())
    }
}

/// Clients at work until they are stopped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    report: Arc<Mutex<Report>>,
    workers: Vec<JoinHandle<()>>,
    kept: bool,
}

impl Load {
    /// Starts `count` clients on a host, which make a connection for every request.
    #[must_use]
    pub fn start(client: &Host, target: impl Into<SocketAddr>, count: usize) -> Self {
        Self::start_as(client, target, count, false)
    }

    /// Starts `count` clients on a host, which keep their connection as long as it lasts.
    #[must_use]
    pub fn start_kept(client: &Host, target: impl Into<SocketAddr>, count: usize) -> Self {
        Self::start_as(client, target, count, true)
    }

    fn start_as(client: &Host, target: impl Into<SocketAddr>, count: usize, kept: bool) -> Self {
        let target = target.into();
        let stop = Arc::new(AtomicBool::new(false));
        let report = Arc::new(Mutex::new(Report::default()));
        let worker = |_| {
            let (client, stop, report) = (client.clone(), Arc::clone(&stop), Arc::clone(&report));
            thread::spawn(move || {
                let began = Instant::now();
                if let Err(error) = client.enter(|| work(target, kept, &stop, &report)) {
                    lock(&report).failures.push(Failure {
                        began,
                        connected: began,
                        took: began.elapsed(),
                        server: None,
                        why: format!("{error:#}"),
                    });
                }
            })
        };
        let workers = (0..count).map(worker).collect();
        Self {
            stop,
            report,
            workers,
            kept,
        }
    }

    /// Whether its clients keep their connections.
    #[must_use]
    pub const fn keeps(&self) -> bool {
        self.kept
    }

    /// What has happened so far.
    #[must_use]
    pub fn so_far(&self) -> Report {
        lock(&self.report).clone()
    }

    /// Waits until this many more pages have come.
    ///
    /// # Errors
    /// They do not come within ten seconds, scaled for this machine.
    pub fn run_on(&self, pages: u64) -> Result<()> {
        let goal = self.so_far().answered() + pages;
        self.wait_until("more pages come", |report| report.answered() >= goal)
    }

    /// Waits until what has happened fulfils a condition.
    ///
    /// # Errors
    /// It does not within ten seconds, scaled for this machine.
    pub fn wait_until(&self, what: &str, condition: impl Fn(&Report) -> bool) -> Result<()> {
        let result = wait::until_true(Duration::from_secs(10), what, || Ok(condition(&self.so_far())));
        result.map_err(|error| error.context(self.so_far().to_string()))
    }

    /// Lets every client finish its page and says what has happened.
    #[must_use]
    pub fn finish(mut self) -> Report {
        self.join();
        self.so_far()
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            worker.join().ok();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.join();
    }
}

fn lock(report: &Mutex<Report>) -> std::sync::MutexGuard<'_, Report> {
    report.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work(target: SocketAddr, kept: bool, stop: &AtomicBool, report: &Mutex<Report>) {
    let mut visit: Option<Visit> = None;
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let server = visit.as_ref().and_then(|visit| visit.page().map(str::to_owned));
        let connected = visit.as_ref().map_or(began, Visit::began);
        let answer = if kept {
            ask(&mut visit, target)
        } else {
            clients::get(target)
        };
        let took = began.elapsed();
        let mut report = lock(report);
        report.slowest = report.slowest.max(took);
        match answer {
            Ok(page) => *report.answers.entry(page).or_default() += 1,
            Err(error) => report.failures.push(Failure {
                began,
                connected,
                took,
                server,
                why: format!("{error:#}"),
            }),
        }
        drop(report);
        thread::sleep(PAUSE);
    }
}

/// Asks on the connection there is, or on a new one; a connection that fails is given up.
fn ask(visit: &mut Option<Visit>, target: SocketAddr) -> Result<String> {
    let mut open = match visit.take() {
        Some(open) => open,
        None => Visit::begin(target)?,
    };
    let page = open.get()?;
    if open.goes_on() {
        *visit = Some(open);
    }
    Ok(page)
}
