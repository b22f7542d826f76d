//! The loop: every event comes here, one at a time, goes to the part that owns it, and its change is reconciled.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use super::{
    Director, DirectorError, log_failure,
    network::nics::interface_name,
    operator::{OperatorEvent, listing::ReportSources},
    reconcile::ReconcileOutcome,
    required_actions::RequiredActions,
};
use crate::{
    control::{Request, Response, server::IncomingRequest},
    health::probe_thread::HealthUpdate,
    net::NetEvent,
};

/// Seconds between two scans of all flow records.
const SCAN_INTERVAL: u32 = 2;

/// Between two looks at what real servers have answered.
const RESOLVE_INTERVAL: Duration = Duration::from_millis(50);

/// Seconds between two looks for devices that have come or gone.
const DEVICE_INTERVAL: u32 = 5;

/// What woke the loop.
enum Wake {
    Second,
    ResolveNeighbours,
    Reload,
    Stop,
    PendingReload,
    Network(Option<NetEvent>),
    Health(Option<HealthUpdate>),
    Operator(OperatorEvent),
}

/// The signals that a director handles. Made before the start, so that one that comes meanwhile is not lost and does not
/// end it half-way.
#[derive(Debug)]
pub struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Handles them from now on.
    ///
    /// # Errors
    /// The process can't install the handlers.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }
}

/// Runs until SIGINT or SIGTERM.
pub(super) async fn run(director: &mut Director, signals: &mut Signals) -> Result<(), DirectorError> {
    let Signals {
        hangup,
        interrupt,
        terminate,
    } = signals;
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut resolve = interval(RESOLVE_INTERVAL);
    resolve.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seconds = 0u32;
    loop {
        let wake = tokio::select! {
            _ = second.tick() => Wake::Second,
            _ = resolve.tick() => Wake::ResolveNeighbours,
            () = received(hangup) => Wake::Reload,
            () = received(interrupt) => Wake::Stop,
            () = received(terminate) => Wake::Stop,
            () = director.configuration.wait_for_pending() => Wake::PendingReload,
            event = director.network.next_event() => Wake::Network(event),
            update = director.health.next_update() => Wake::Health(update),
            event = director.operator.next_event() => Wake::Operator(event),
        };
        match wake {
            Wake::Second => {
                seconds = seconds.wrapping_add(1);
                director.on_second(seconds).await;
            }
            Wake::ResolveNeighbours => {
                let change = director.network.resolve_neighbours();
                director.follow(change).await;
            }
            Wake::Reload => {
                let prepared = director.prepare_reload().await;
                director.log_reload_failure(prepared);
            }
            Wake::Stop => return Ok(()),
            Wake::PendingReload => {}
            Wake::Network(Some(event)) => {
                let change = director.network.on_event(event, &director.configuration.desired).await;
                director.follow(change).await;
            }
            Wake::Network(None) => return Err(DirectorError::NetworkEventsLost),
            Wake::Health(Some(update)) => {
                let change = director.health.on_health_update(update);
                director.follow(change).await;
            }
            Wake::Health(None) => return Err(DirectorError::ProbesStopped),
            Wake::Operator(OperatorEvent::ControlSocketClosed) => return Err(DirectorError::ControlSocketClosed),
            Wake::Operator(event) => director.on_operator_event(event).await,
        }
        director.advance_reload().await;
    }
}

async fn received(signal: &mut Signal) {
    if signal.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}

impl Director {
    /// Does what a change asks for.
    async fn follow(&mut self, change: RequiredActions) {
        if change.update_server_paths {
            self.health.set_paths(self.network.server_paths());
        }
        if change.reread_network {
            self.follow_network().await;
        } else if change.replan
            && !log_failure(
                "tables not updated, retrying; latest changes of real servers not in effect",
                self.replan(),
            )
        {
            self.loaded.retry_later();
        }
    }

    /// Does what is due every second.
    async fn on_second(&mut self, seconds: u32) {
        let mut change = self.network.on_second_elapsed().await;
        change |= self.loaded.take_retry();
        change |= RequiredActions::replan_if(self.health.needs_reevaluation() || self.is_drain_due());
        change |= self.check_detached().await;
        self.check_replaced();
        // Planned even where the network is read again: that may fail, and next hops are lost meanwhile.
        self.follow(RequiredActions {
            reread_network: false,
            ..change
        })
        .await;
        self.follow(RequiredActions::reread_network_if(change.reread_network))
            .await;
        self.network.announce_vips(self.loaded.tables.vips());
        self.network.check_vip_conflicts(&self.loaded.tables);
        let checked = self
            .network
            .dropped_replies
            .check(&self.loaded.dataplane, &self.network.topology);
        log_failure(
            "cannot look for replies that real servers route through this host",
            checked,
        );
        self.check_losses(seconds).await;
        self.reconcile_local_traffic();
        self.self_test
            .on_second(&mut self.loaded.dataplane, &self.loaded.tables, &self.network.topology);
        if seconds.is_multiple_of(SCAN_INTERVAL) {
            self.loaded.expire();
            self.operator
                .sample_connections(&self.loaded, &self.configuration.desired);
        }
    }

    /// Whether another process has detached the program from a NIC: clients' packets reach this host's own stack then.
    async fn check_detached(&self) -> RequiredActions {
        match self.loaded.dataplane.restore_pins() {
            Ok(0) => {}
            Ok(pins) => tracing::warn!(
                pins,
                "pins in /sys/fs/bpf/lbx/{name} removed or covered by a mount; pinned again; attached programs went on meanwhile",
                name = self.name
            ),
            Err(error) => {
                log_failure(
                    "cannot pin program, maps and links again: they end with this process",
                    Err(error),
                );
            }
        }
        let detached = match self.loaded.dataplane.detached_nics() {
            Ok(detached) => detached,
            Err(error) => {
                log_failure("cannot check the XDP program", Err(error));
                return RequiredActions::NONE;
            }
        };
        let mut change = RequiredActions::NONE;
        for ifindex in detached {
            // Where the NIC itself is gone, its own event follows.
            if let Ok(Some(link)) = self.network.netlink.link_by_index(ifindex).await {
                let interface = link.name;
                tracing::warn!(
                    interface,
                    "XDP program detached from {interface} by another process; re-attaching"
                );
                change |= RequiredActions::reread_network_if(true);
            }
        }
        change
    }

    /// Looks for frames that are lost after the program, and for packets that reach this host's own stack instead of it.
    async fn check_losses(&mut self, seconds: u32) {
        let (network, dataplane) = (&mut self.network, &mut self.loaded.dataplane);
        let checked = network.lost_frames.check(dataplane, &network.topology);
        log_failure("cannot look for frames lost after the XDP program", checked);
        // A first look before anything is counted: what a former daemon has counted is not new.
        let name = |device| interface_name(&network.topology, device);
        let checked = network.host_packets.check(dataplane, &network.topology, name);
        log_failure("cannot look for packets that reach this host's own stack", checked);
        if seconds % DEVICE_INTERVAL == 1
            && let Ok(links) = network.netlink.links().await
        {
            network.host_packets.choose_devices(&network.topology, &links);
        }
        network.host_packets.watch(dataplane);
    }

    /// Whether another process has given the link of a NIC another program, and puts lbx's there again.
    fn check_replaced(&mut self) {
        let replaced = match self.loaded.dataplane.replaced_programs() {
            Ok(replaced) => replaced,
            Err(error) => {
                log_failure("cannot check the XDP program", Err(error));
                return;
            }
        };
        for (ifindex, program) in replaced {
            let interface = interface_name(&self.network.topology, ifindex);
            tracing::warn!(
                interface,
                program,
                "XDP program of {interface} replaced by another process (program id {program}); putting lbx's there again, packets \
                 went through the other meanwhile"
            );
            log_failure(
                "cannot put the XDP program of lbx on its NIC again, retrying",
                self.loaded.dataplane.restore_program(ifindex),
            );
        }
    }

    /// Reconciles everything with a network that has changed. What no longer matches is left out, logged once for every
    /// reason, and tried again.
    async fn follow_network(&mut self) {
        self.network.mismatch.begin_recheck();
        let (mismatch, consequence) = match self.reconcile_network().await {
            Ok(reasons) => (reasons.join("; "), "skipped, retrying"),
            Err(error) => {
                // A plan that was due as well would be lost with it.
                self.loaded.retry_later();
                let reason = format!("{:#}", anyhow::Error::from(error));
                (reason, "what was loaded stays, retrying")
            }
        };
        self.network.mismatch.report(mismatch, consequence);
    }

    /// Takes a pending reload as far as it goes now.
    async fn advance_reload(&mut self) {
        let resolving = self.network.pending_unresolved_count() > 0;
        if let Some(desired) = self.configuration.take_pending_if_ready(resolving) {
            let committed = self.commit_reload(desired).await;
            self.network.abandon_pending_configuration();
            let config = self.configuration.file.display();
            match committed {
                Ok(ReconcileOutcome::Complete) => tracing::info!(%config, "configuration reloaded"),
                Ok(ReconcileOutcome::NicsOrVipsPending(error)) => tracing::error!(
                    %config,
                    "configuration reloaded, but NICs or VIPs do not match it yet, retrying: {:#}",
                    anyhow::Error::from(error)
                ),
                Err(error) => {
                    self.log_reload_failure(Err(error));
                    // Whatever of the network was touched on the way is brought back to what is in force.
                    self.network.mismatch.request_recheck();
                }
            }
        }
    }

    fn log_reload_failure(&self, result: Result<(), DirectorError>) {
        if let Err(error) = result {
            let config = self.configuration.file.display();
            let consequence = if self.configuration.is_pending() {
                "the configuration read before is still being loaded"
            } else {
                "nothing changed"
            };
            tracing::error!(%config, "reload refused, {consequence}: {:#}", anyhow::Error::from(error));
        }
    }

    async fn on_operator_event(&mut self, event: OperatorEvent) {
        match event {
            OperatorEvent::IncomingRequest(call) => self.answer(call).await,
            OperatorEvent::TraceLines => self.operator.forward_trace(&self.loaded, &self.configuration.desired),
            OperatorEvent::TraceEnded | OperatorEvent::ControlSocketClosed => {
                self.operator.stop_trace(&mut self.loaded)
            }
        }
    }

    async fn answer(&mut self, call: IncomingRequest) {
        match &call.request {
            Request::List => {
                let answer = match self.report().await {
                    Ok(report) => Response::Report(Box::new(report)),
                    Err(error) => Response::Error(format!("{:#}", anyhow::Error::from(error))),
                };
                let _disconnected = call.responses.try_send(answer);
            }
            Request::Trace(request) => {
                let desired = &self.configuration.desired;
                if let Err(error) = self.operator.start_trace(&mut self.loaded, desired, request, &call) {
                    let answer = Response::Error(format!("{:#}", anyhow::Error::from(error)));
                    let _disconnected = call.responses.try_send(answer);
                }
            }
        }
    }

    async fn report(&self) -> Result<crate::control::StatusReport, DirectorError> {
        let links = self.network.netlink.links().await?;
        let scan = self.loaded.scan();
        let sources = ReportSources {
            name: &self.name,
            desired: &self.configuration.desired,
            checks: &self.health,
            vip_conflicts: &self.network.conflicts,
            dropped_replies: &self.network.dropped_replies,
            host_packets: &self.network.host_packets,
            lost_frames: &self.network.lost_frames,
            self_test: &self.self_test,
            neighbours: &self.network.neighbours,
            tables: &self.loaded.tables,
            dataplane: &self.loaded.dataplane,
            scan: &scan,
            estimator: &self.operator.estimator,
            links: &links,
            topology: &self.network.topology,
        };
        Ok(sources.report()?)
    }
}
