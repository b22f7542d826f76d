//! The daemon: one loop that owns everything and through which every change goes.
//!
//! ```text
//! lb.yaml, neighbours, links, probes, time → network → health → Tables::plan → Dataplane::apply
//! ```
//!
//! Three parts own their state and handle their events, and know nothing of each other; each answers with a [`required_actions`]:
//!
//! - [`network`]: NICs, routes, MAC addresses, VIPs
//! - [`health`]: probes, and what they mean for the real servers
//! - [`loaded`]: the tables, the program and its maps
//!
//! A fourth, [`operator`], has the control socket and reads the other three for listings and traces; [`self_test`] runs frames through
//! what is loaded.
//!
//! `events` is the loop, `reconcile` the one way from a desired state to what is loaded, [`configuration`] the file.

pub mod configuration;
pub mod health;
pub mod loaded;
pub mod network;
pub mod operator;
pub mod required_actions;
pub mod self_test;

mod error;
mod events;
mod reconcile;

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf};

use self::{
    configuration::Configuration,
    health::HealthChecks,
    loaded::LoadedState,
    network::{Network, offloads::Offloads, topology::Topology, vips},
    operator::OperatorInterface,
    self_test::SelfTest,
};
pub use self::{error::DirectorError, events::Signals};
use crate::{
    config,
    control::server::listen,
    dataplane::Dataplane,
    desired::DesiredState,
    net::{RouteNetlink, namespace_cookie, watch},
    preflight::{self, Lock, path_in_run_dir},
    stale_files,
};

/// A running director.
pub struct Director {
    name: String,
    configuration: Configuration,
    network: Network,
    health: HealthChecks,
    loaded: LoadedState,
    operator: OperatorInterface,
    self_test: SelfTest,
    _lock: Lock,
}

/// Logs a failure and goes on: a running director survives what may pass. Whether there was none.
fn log_failure<E: std::error::Error + Send + Sync + 'static>(what: &str, result: Result<(), E>) -> bool {
    match result {
        Ok(()) => true,
        Err(error) => {
            tracing::error!("{what}: {:#}", anyhow::Error::from(error));
            false
        }
    }
}

impl Director {
    /// Starts a director: everything is validated before the first change, and what was changed is undone if the rest
    /// fails.
    ///
    /// # Errors
    /// See [`DirectorError`].
    pub async fn start(name: &str, config: PathBuf) -> Result<Self, DirectorError> {
        let desired = config::load(&config)?;
        preflight::require_capabilities(&[
            preflight::NET_ADMIN,
            preflight::NET_RAW,
            preflight::PERFMON,
            preflight::BPF,
        ])?;
        preflight::require_kernel("a director", preflight::OLDEST_KERNEL_OF_DIRECTOR)?;
        let lock = Lock::take(&path_in_run_dir(name, "lock"), "director", name)?;
        stale_files::remove();
        let events = watch()?;
        let net = RouteNetlink::new()?;
        let topology = Topology::resolve(&net, &desired, &[]).await?;
        let offloads = Offloads::adopt(name, namespace_cookie()?);
        let dataplane = Dataplane::open(name, desired.tables)?;
        let (socket, calls) = match listen(path_in_run_dir(name, "sock")) {
            Ok(listening) => listening,
            Err(error) => {
                if !dataplane.has_adopted_maps() {
                    dataplane.detach_and_unpin()?;
                }
                return Err(DirectorError::Control(error));
            }
        };
        let nothing = DesiredState {
            services: Vec::new(),
            ..desired.clone()
        };
        let health =
            HealthChecks::start(name, dataplane.probe_sessions(), nothing).map_err(DirectorError::StartHealthChecks)?;
        let mut director = Self {
            name: name.to_owned(),
            configuration: Configuration::new(config, desired),
            network: Network::new(net, events, topology, offloads),
            health,
            loaded: LoadedState::new(dataplane),
            operator: OperatorInterface::new(socket, calls),
            self_test: SelfTest::default(),
            _lock: lock,
        };
        match director.initialize().await {
            Ok(()) => Ok(director),
            Err(error) => {
                director.roll_back().await;
                Err(error)
            }
        }
    }

    /// The start proper: from what is loaded to the desired state.
    async fn initialize(&mut self) -> Result<(), DirectorError> {
        let adopted = self.loaded.dataplane.has_adopted_maps();
        let desired = self.configuration.desired.clone();
        if adopted {
            self.loaded.read_back()?;
            tracing::info!(
                services = self.loaded.tables.services.len(),
                "adopted the maps and programs of a former daemon"
            );
            // Real servers that the configuration no longer names drain as they do on a reload.
            let draining = self.draining();
            self.network.topology = Topology::resolve(&self.network.netlink, &desired, &draining).await?;
            self.network.neighbours.set_topology(&self.network.topology);
            self.network.neighbours.adopt_macs(&self.loaded.tables);
        }
        let vips_before = self.loaded.tables.vips();
        self.resolve_at_start().await?;
        let view = self.evaluate(&desired, adopted);
        let plan = self.plan(&view)?;
        // On a fresh start the tables come first, so that no packet meets half of them; NICs without a role pass all.
        if adopted {
            self.attach(&desired)?;
            self.commit(plan, view)?;
        } else {
            self.commit(plan, view)?;
            self.attach(&desired)?;
        }
        self.reconcile_nics_and_vips(&vips_before).await?;
        self.log_start().await
    }

    /// Logs what runs where.
    async fn log_start(&self) -> Result<(), DirectorError> {
        let links = self.network.netlink.links().await?;
        let nics = &self.network.topology.nics;
        for link in links.iter().filter(|link| nics.contains_key(&link.index)) {
            let mode = if link.xdp.is_some_and(|xdp| xdp.native) {
                "native"
            } else {
                "generic"
            };
            tracing::info!(interface = link.name, mode, "XDP program attached");
        }
        self.loaded.log_table_size_mismatches(&self.configuration.desired);
        tracing::info!(name = self.name, services = self.loaded.tables.services.len(), "ready");
        self.network.check_netfilter_rules(&self.configuration.desired);
        self.health
            .notify_director_event(&self.configuration.desired, "director_start");
        Ok(())
    }

    /// Undoes a start that failed. What a former daemon left keeps working as it did.
    async fn roll_back(self) {
        if !self.loaded.dataplane.has_adopted_maps() {
            let added = self.network.vips.added().clone();
            self.remove_everything(added, false).await;
        }
    }

    /// Runs until asked to stop.
    ///
    /// # Errors
    /// The kernel's events, the probes or the control socket have ended.
    pub async fn run(&mut self, signals: &mut Signals) -> Result<(), DirectorError> {
        events::run(self, signals).await
    }

    /// Stops: nothing of this director stays.
    pub async fn stop(mut self) {
        self.operator.stop_trace(&mut self.loaded);
        let vips = self.loaded.tables.vips();
        self.remove_everything(vips, true).await;
        tracing::info!("stopped: XDP program, pins and VIPs added by lbx removed, but for errors logged before");
    }

    /// `notified`: whether the start was notified, and so is the end.
    async fn remove_everything(mut self, vips: BTreeSet<IpAddr>, notified: bool) {
        // VIPs first: while they are here, clients' packets must not reach a host without services.
        let removed = vips::remove_vips_from_primary(&self.network.netlink, &self.network.topology, &vips).await;
        log_failure("cannot remove the VIPs", removed);
        self.network.remove_kernel_neighbours().await;
        log_failure("cannot remove the pins", self.loaded.dataplane.detach_and_unpin());
        self.network.offloads.restore(|_| false);
        if notified {
            self.health.notify_stop(&self.configuration.desired).await;
        }
    }
}
