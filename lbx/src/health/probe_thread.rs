//! The thread that probes, with a task for each target: neither a slow answer nor the director's own work delays a probe.
//! Only changes are sent to the director.

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
    Outcome, ProbeEndpoint, ProbeFailure, ProbeSteering,
    check::{self, PreparedCheck},
    monitor::CheckState,
    probe::NoSteering,
    probe_plan::{ProbeScope, ProbeTarget},
};
use crate::desired::{CheckedAddress, HealthConfig};

/// The first probes of many targets are spread over this time at most.
const SPREAD: Duration = Duration::from_secs(1);

/// The path to a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbePath {
    /// The director's address towards it.
    pub source: IpAddr,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Whether probes are suspended: the NIC has no carrier, or the route is gone for a moment.
    pub suspended: bool,
}

/// The paths to all real servers whose MAC address is resolved.
pub type ProbePaths = BTreeMap<IpAddr, ProbePath>;

/// A target and its state.
#[derive(Clone, Debug)]
pub struct TargetState {
    /// Different for each new monitor; unchanged while the same task goes on.
    pub generation: u64,
    /// The state with which probing begins.
    pub check_state: CheckState,
}

/// A target whose state has changed.
#[derive(Clone, Debug)]
pub struct HealthUpdate {
    /// The target.
    pub probe_target: ProbeTarget,
    /// The generation of the task that sent it.
    pub generation: u64,
    /// The new state.
    pub check_state: CheckState,
}

/// The thread that probes. It ends when this is dropped.
#[derive(Debug)]
pub struct ProbeThread {
    target_lists: UnboundedSender<Vec<(ProbeTarget, TargetState)>>,
    paths: Arc<RwLock<ProbePaths>>,
}

impl ProbeThread {
    /// Starts the thread, without targets. `steering` steers sockets to the VIPs.
    ///
    /// # Errors
    /// The thread or its runtime cannot be started.
    pub fn start(steering: Arc<dyn ProbeSteering>) -> io::Result<(Self, UnboundedReceiver<HealthUpdate>)> {
        let (target_lists, received) = unbounded_channel();
        let (update, updates) = unbounded_channel();
        let paths = Arc::new(RwLock::new(ProbePaths::new()));
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let probing = Probing {
            steering,
            paths: Arc::clone(&paths),
            update,
            began: Instant::now(),
        };
        thread::Builder::new()
            .name("lbx-health".to_owned())
            .spawn(move || runtime.block_on(run_tasks(received, Arc::new(probing))))?;
        Ok((Self { target_lists, paths }, updates))
    }

    /// Replaces the set of targets. Tasks of a generation that is probed already go on; others begin with the given state.
    pub fn set_targets(&self, probe_targets: Vec<(ProbeTarget, TargetState)>) {
        // The thread lives as long as this does.
        let _sent = self.target_lists.send(probe_targets);
    }

    /// Replaces the paths to real servers.
    pub fn set_paths(&self, paths: ProbePaths) {
        let mut current = self.paths.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        *current = paths;
    }
}

/// A prepared check, or why it cannot be prepared: the file of its authorities may have gone since the configuration was read.
type Ready = Result<PreparedCheck, String>;

/// Shared by all tasks.
struct Probing {
    steering: Arc<dyn ProbeSteering>,
    paths: Arc<RwLock<ProbePaths>>,
    update: UnboundedSender<HealthUpdate>,
    began: Instant,
}

/// Runs a task for each target of the last list.
async fn run_tasks(mut target_lists: UnboundedReceiver<Vec<(ProbeTarget, TargetState)>>, probing: Arc<Probing>) {
    let mut tasks: HashMap<(ProbeTarget, u64), AbortHandle> = HashMap::new();
    while let Some(targets) = target_lists.recv().await {
        let mut before = std::mem::take(&mut tasks);
        let mut prepared: HashMap<Arc<HealthConfig>, Arc<Ready>> = HashMap::new();
        let spread = SPREAD.min(Duration::from_millis(2 * targets.len() as u64));
        for (probe_target, watched) in targets {
            let key = (probe_target, watched.generation);
            if let Some(task) = before.remove(&key) {
                tasks.insert(key, task);
                continue;
            }
            let probe_target = &key.0;
            let check = prepared.entry(Arc::clone(&probe_target.health)).or_insert_with(|| {
                Arc::new(PreparedCheck::new(&probe_target.health.check).map_err(|error| error.to_string()))
            });
            let delay = spread.mul_f64(fastrand::f64());
            let task = probe_repeatedly(
                probe_target.clone(),
                watched,
                Arc::clone(check),
                Arc::clone(&probing),
                delay,
            );
            tasks.insert(key, tokio::spawn(task).abort_handle());
        }
        before.into_values().for_each(|task| task.abort());
    }
}

/// Probes a target at its interval until it is aborted.
async fn probe_repeatedly(
    probe_target: ProbeTarget,
    watched: TargetState,
    check: Arc<Ready>,
    probing: Arc<Probing>,
    delay: Duration,
) {
    let TargetState {
        generation,
        check_state: mut monitor,
    } = watched;
    sleep(delay).await;
    let mut due = Instant::now();
    loop {
        let before = reported(&monitor);
        let outcome = probing.probe(&probe_target, &check).await;
        monitor.record_outcome(&outcome, probing.began.elapsed());
        if reported(&monitor) != before {
            let update = HealthUpdate {
                probe_target: probe_target.clone(),
                generation,
                check_state: monitor.clone(),
            };
            if probing.update.send(update).is_err() {
                return;
            }
        }
        due = (due + jittered(&probe_target.health)).max(Instant::now());
        sleep_until(due).await;
    }
}

/// The part of a state whose changes are sent to the director.
fn reported(monitor: &CheckState) -> (Option<bool>, Option<u16>, Option<ProbeFailure>, bool) {
    let reason = monitor.reason().cloned();
    (
        monitor.up_if_known(),
        monitor.weight(),
        reason,
        monitor.inconclusive_reason().is_some(),
    )
}

/// The interval with random jitter, so that probes are not synchronised.
fn jittered(health: &HealthConfig) -> Duration {
    let most = f64::from(health.jitter_percent) / 100.0;
    health.interval.mul_f64(1.0 + most * (fastrand::f64() * 2.0 - 1.0))
}

impl Probing {
    async fn probe(&self, probe_target: &ProbeTarget, check: &Ready) -> Outcome {
        let path = {
            let paths = self.paths.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            paths.get(&probe_target.rip).copied()
        };
        let Some(ProbePath { source, mac, suspended }) = path else {
            return Err(ProbeFailure::NoMac);
        };
        if suspended {
            return Err(ProbeFailure::CannotProbe(
                "the NIC has no carrier, or the route is gone".to_owned(),
            ));
        }
        let check = check.as_ref().map_err(|why| ProbeFailure::CannotProbe(why.clone()))?;
        let health = &probe_target.health;
        let endpoint = ProbeEndpoint {
            rip: probe_target.rip,
            vip: probe_target.vip,
            target: health.target,
            port: probe_target.port,
            source,
            mac,
            timeout: health.timeout,
        };
        let steering: &dyn ProbeSteering = match health.target {
            CheckedAddress::Vip => &*self.steering,
            CheckedAddress::Rip => &NoSteering,
        };
        let probe = async {
            match probe_target.scope {
                ProbeScope::Full => check::run(check, &endpoint, steering).await,
                ProbeScope::VipPresence => check::check_vip_present(&endpoint, steering).await,
            }
        };
        if health.target == CheckedAddress::Rip {
            return probe.await;
        }
        with_diagnosis(probe, &endpoint, steering).await
    }
}

/// The outcome of a probe of the VIP. If it has had no answer after half of its time, the RIP is probed too, so that the
/// reason is known as soon as the probe has failed.
async fn with_diagnosis(
    probe: impl Future<Output = Outcome>,
    endpoint: &ProbeEndpoint,
    steering: &dyn ProbeSteering,
) -> Outcome {
    // Ends before the probe does.
    let rest = endpoint.timeout * 2 / 5;
    let diagnosis = async {
        sleep(endpoint.timeout / 2).await;
        let endpoint = ProbeEndpoint {
            timeout: rest,
            ..*endpoint
        };
        check::diagnose(ProbeFailure::TimedOut(endpoint.timeout), &endpoint, steering).await
    };
    let (mut probe, mut diagnosis) = (pin!(probe), pin!(diagnosis));
    let mut diagnosed = None;
    let outcome = loop {
        tokio::select! {
            biased;
            failure = &mut diagnosis, if diagnosed.is_none() => diagnosed = Some(failure),
            outcome = &mut probe => break outcome,
        }
    };
    let Err(failure) = outcome else {
        return outcome;
    };
    if !failure.is_unresponsive() {
        return Err(failure);
    }
    // On a busy host the diagnosis may end later.
    let reason = match diagnosed {
        Some(reason) => reason,
        None => diagnosis.await,
    };
    Err(match reason {
        ProbeFailure::VipMissing { .. } => reason,
        _ => failure,
    })
}
