//! The thread that probes: a task for every probe_target, so that a slow answer holds nobody up, and neither does the director's
//! own work. Only what changes is told.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::IpAddr,
    pin::pin,
    sync::{Arc, RwLock},
    thread,
    time::Duration,
};

use tokio::{
    runtime,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::AbortHandle,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Aim, Dialer, Failure, Outcome,
    check::{self, Prepared},
    monitor::Monitor,
    probe::Direct,
    probe_plan::{Depth, ProbeTarget},
};
use crate::desired::{Health, Target};

/// Most time over which the first probes of many probe_targets are spread.
const SPREAD: Duration = Duration::from_secs(1);

/// How a real server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The director's address towards it.
    pub source: IpAddr,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Whether the NIC has no carrier: nobody behind it can answer, so nothing is asked and nothing known.
    pub cut_off: bool,
}

/// Where every real server is whose MAC address is known.
pub type Reached = BTreeMap<IpAddr, Reach>;

/// A probe_target that is to be probed.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Another one for every monitor that begins: a task that goes on has the same.
    pub generation: u64,
    /// What is known, and how it goes on.
    pub monitor: Monitor,
}

/// Something has changed.
#[derive(Clone, Debug)]
pub struct HealthUpdate {
    /// Whose.
    pub probe_target: ProbeTarget,
    /// Whose task it was that found out.
    pub generation: u64,
    /// What is known now.
    pub monitor: Monitor,
}

/// The thread that probes. It ends when this is dropped.
#[derive(Debug)]
pub struct Watch {
    orders: UnboundedSender<Vec<(ProbeTarget, Watched)>>,
    reached: Arc<RwLock<Reached>>,
}

impl Watch {
    /// Starts the thread; nobody is probed yet. `dialer` leads sockets to the VIPs.
    ///
    /// # Errors
    /// No thread or runtime can be had.
    pub fn start(dialer: Arc<dyn Dialer>) -> io::Result<(Self, UnboundedReceiver<HealthUpdate>)> {
        let (orders, received) = unbounded_channel();
        let (update, told) = unbounded_channel();
        let reached = Arc::new(RwLock::new(Reached::new()));
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let probing = Probing {
            dialer,
            reached: Arc::clone(&reached),
            update,
            began: Instant::now(),
        };
        thread::Builder::new()
            .name("lbx-health".to_owned())
            .spawn(move || runtime.block_on(obey(received, Arc::new(probing))))?;
        Ok((Self { orders, reached }, told))
    }

    /// Probes these probe_targets from now on and no others. Those of a generation that is probed already go on as they are;
    /// others begin with the monitor given.
    pub fn follow(&self, probe_targets: Vec<(ProbeTarget, Watched)>) {
        // The thread lives as long as this does.
        let _sent = self.orders.send(probe_targets);
    }

    /// Says where real servers are.
    pub fn reach(&self, reached: Reached) {
        let mut standing = self.reached.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        *standing = reached;
    }
}

/// A check, or why it cannot be made: the file of its authorities may have gone since the configuration was read.
type Ready = Result<Prepared, String>;

/// What all tasks share.
struct Probing {
    dialer: Arc<dyn Dialer>,
    reached: Arc<RwLock<Reached>>,
    update: UnboundedSender<HealthUpdate>,
    began: Instant,
}

/// Keeps a task for every probe_target there is to be.
async fn obey(mut orders: UnboundedReceiver<Vec<(ProbeTarget, Watched)>>, probing: Arc<Probing>) {
    let mut tasks: HashMap<(ProbeTarget, u64), AbortHandle> = HashMap::new();
    while let Some(wanted) = orders.recv().await {
        let mut before = std::mem::take(&mut tasks);
        let mut prepared: HashMap<Arc<Health>, Arc<Ready>> = HashMap::new();
        let spread = SPREAD.min(Duration::from_millis(2 * wanted.len() as u64));
        for (probe_target, watched) in wanted {
            let key = (probe_target, watched.generation);
            if let Some(task) = before.remove(&key) {
                tasks.insert(key, task);
                continue;
            }
            let probe_target = &key.0;
            let check = prepared.entry(Arc::clone(&probe_target.health)).or_insert_with(|| {
                Arc::new(Prepared::new(&probe_target.health.check).map_err(|error| error.to_string()))
            });
            let delay = spread.mul_f64(fastrand::f64());
            let tending = tend(
                probe_target.clone(),
                watched,
                Arc::clone(check),
                Arc::clone(&probing),
                delay,
            );
            tasks.insert(key, tokio::spawn(tending).abort_handle());
        }
        before.into_values().for_each(|task| task.abort());
    }
}

/// Probes a probe_target until it is aborted.
async fn tend(probe_target: ProbeTarget, watched: Watched, check: Arc<Ready>, probing: Arc<Probing>, delay: Duration) {
    let Watched {
        generation,
        mut monitor,
    } = watched;
    sleep(delay).await;
    let mut due = Instant::now();
    loop {
        let before = said(&monitor);
        let outcome = probing.probe(&probe_target, &check).await;
        monitor.note(&outcome, probing.began.elapsed());
        if said(&monitor) != before {
            let update = HealthUpdate {
                probe_target: probe_target.clone(),
                generation,
                monitor: monitor.clone(),
            };
            if probing.update.send(update).is_err() {
                return;
            }
        }
        due = (due + jittered(&probe_target.health)).max(Instant::now());
        sleep_until(due).await;
    }
}

/// What the director wants to know of a monitor.
fn said(monitor: &Monitor) -> (Option<bool>, Option<u16>, Option<Failure>, bool) {
    let reason = monitor.reason().cloned();
    (monitor.known(), monitor.weight(), reason, monitor.blind().is_some())
}

/// The interval, longer or shorter by chance, so that probes do not march in step.
fn jittered(health: &Health) -> Duration {
    let most = f64::from(health.jitter) / 100.0;
    health.interval.mul_f64(1.0 + most * (fastrand::f64() * 2.0 - 1.0))
}

impl Probing {
    async fn probe(&self, probe_target: &ProbeTarget, check: &Ready) -> Outcome {
        let reach = {
            let reached = self.reached.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            reached.get(&probe_target.rip).copied()
        };
        let Some(Reach { source, mac, cut_off }) = reach else {
            return Err(Failure::NoMac);
        };
        if cut_off {
            return Err(Failure::Local("the NIC has no carrier".to_owned()));
        }
        let check = check.as_ref().map_err(|why| Failure::Local(why.clone()))?;
        let health = &probe_target.health;
        let aim = Aim {
            rip: probe_target.rip,
            vip: probe_target.vip,
            target: health.target,
            port: probe_target.port,
            source,
            mac,
            timeout: health.timeout,
        };
        let dialer: &dyn Dialer = match health.target {
            Target::Vip => &*self.dialer,
            Target::Rip => &Direct,
        };
        let asking = async {
            match probe_target.depth {
                Depth::Full => check::run(check, &aim, dialer).await,
                Depth::Presence => check::presence(&aim, dialer).await,
            }
        };
        if health.target == Target::Rip {
            return asking.await;
        }
        explained(asking, &aim, dialer).await
    }
}

/// The outcome of a probe of the VIP. While that is silent it is found out what the silence means, so that the reason is
/// there as soon as the probe has failed.
async fn explained(asking: impl Future<Output = Outcome>, aim: &Aim, dialer: &dyn Dialer) -> Outcome {
    // Done before the probe is, whose time is up to the same instant.
    let rest = aim.timeout * 2 / 5;
    let meaning = async {
        sleep(aim.timeout / 2).await;
        let aim = Aim { timeout: rest, ..*aim };
        check::diagnose(Failure::TimedOut(aim.timeout), &aim, dialer).await
    };
    let (mut asking, mut meaning) = (pin!(asking), pin!(meaning));
    let mut known = None;
    let outcome = loop {
        tokio::select! {
            biased;
            meant = &mut meaning, if known.is_none() => known = Some(meant),
            outcome = &mut asking => break outcome,
        }
    };
    let Err(failure) = outcome else {
        return outcome;
    };
    if !failure.is_silence() {
        return Err(failure);
    }
    // On a machine that is busy both may be late.
    let meant = match known {
        Some(meant) => meant,
        None => meaning.await,
    };
    Err(match meant {
        Failure::VipMissing { .. } => meant,
        _ => failure,
    })
}
