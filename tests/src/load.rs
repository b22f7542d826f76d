//! Steady load: clients that ask for a page again and again, each time on a new connection.

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

use crate::{clients, host::Host, wait};

/// Between two requests of one client: the machine has other things to do.
const PAUSE: Duration = Duration::from_millis(3);

/// What has happened under load.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Pages by what they said.
    pub answers: BTreeMap<String, u64>,
    /// What went wrong.
    pub failures: Vec<String>,
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
}

impl Load {
    /// Starts `count` clients on a host.
    #[must_use]
    pub fn start(client: &Host, target: impl Into<SocketAddr>, count: usize) -> Self {
        let target = target.into();
        let stop = Arc::new(AtomicBool::new(false));
        let report = Arc::new(Mutex::new(Report::default()));
        let worker = |_| {
            let (client, stop, report) = (client.clone(), Arc::clone(&stop), Arc::clone(&report));
            thread::spawn(move || {
                if let Err(error) = client.enter(|| work(target, &stop, &report)) {
                    lock(&report).failures.push(format!("{error:#}"));
                }
            })
        };
        let workers = (0..count).map(worker).collect();
        Self { stop, report, workers }
    }

    /// What has happened so far.
    #[must_use]
    pub fn so_far(&self) -> Report {
        lock(&self.report).clone()
    }

    /// Waits until this many more pages have come.
    ///
    /// # Errors
    /// They do not come within ten seconds.
    pub fn run_on(&self, pages: u64) -> Result<()> {
        let goal = self.so_far().answered() + pages;
        self.wait_until("more pages come", |report| report.answered() >= goal)
    }

    /// Waits until what has happened fulfils a condition.
    ///
    /// # Errors
    /// It does not within ten seconds.
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

fn work(target: SocketAddr, stop: &AtomicBool, report: &Mutex<Report>) {
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        let answer = clients::get(target);
        let took = started.elapsed();
        let mut report = lock(report);
        report.slowest = report.slowest.max(took);
        match answer {
            Ok(page) => *report.answers.entry(page).or_default() += 1,
            Err(error) => report.failures.push(format!("after {took:?}: {error:#}")),
        }
        drop(report);
        thread::sleep(PAUSE);
    }
}
