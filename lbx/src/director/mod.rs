//! The daemon: one loop that owns everything and through which every change goes.
//!
//! ```text
//! lb.yaml, neighbours, links, probes, time → topology → hops → checks → Tables::plan → Dataplane::apply
//! ```
//!
//! - `converge`: the way from a desired state to what is loaded; `events`: the loop
//! - [`topology`]: which NIC has which role, and the way to each real server; [`segment`]: NICs and VLANs
//! - [`hops`]: MAC addresses, followed live
//! - [`checks`]: what probes make of the real servers
//! - [`own`]: the director's own packets to VIPs
//! - [`nics`]: the program on the NICs; [`offloads`]: their settings that would be in its way
//! - [`vips`]: the addresses clients connect to; [`claims`]: others that say they have them
//! - [`notify`]: commands that are told what happens
//! - [`listing`], [`trace`]: what operators see

pub mod checks;
pub mod claims;
pub mod hops;
pub mod listing;
pub mod nics;
pub mod notify;
pub mod offloads;
pub mod own;
pub mod segment;
pub mod topology;
pub mod trace;
pub mod vips;

mod converge;
mod error;
mod events;

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf, time::Duration};

use tokio::sync::mpsc;

use self::{
    checks::Checks, claims::Claims, hops::Neighbourhood, listing::Estimator, offloads::Offloads, own::Own,
    topology::Topology, trace::Tracer,
};
pub use self::{error::DirectorError, events::Signals};
use crate::{
    config,
    control::server::{Call, ControlSocket, listen},
    dataplane::{Dataplane, clock},
    desired::Desired,
    net::{Event, Net, namespace_cookie, watch},
    preflight::{self, Lock, run_path},
    tables::Tables,
};

/// How long a start or reload waits for the MAC addresses of new real servers.
const RESOLVE_PATIENCE: Duration = Duration::from_millis(1_500);

/// A running director.
pub struct Director {
    name: String,
    config: PathBuf,
    desired: Desired,
    topology: Topology,
    neighbourhood: Neighbourhood,
    tables: Tables,
    dataplane: Dataplane,
    offloads: Offloads,
    checks: Checks,
    claims: Claims,
    own: Own,
    estimator: Estimator,
    tracer: Option<Tracer>,
    net: Net,
    events: mpsc::Receiver<Event>,
    calls: mpsc::Receiver<Call>,
    /// Something could not be done and is tried again.
    unsettled: bool,
    /// The network has to be looked at again.
    look_again: bool,
    /// What of the desired state the network does not allow, as it was told last; empty: it fits.
    misfit: String,
    retry: events::Retry,
    /// Announcements of the VIPs still due.
    announcements: u32,
    /// Device and MAC address the VIPs were last announced with.
    announced: Option<(u32, [u8; 6])>,
    /// The VIPs that this daemon added itself.
    added_vips: BTreeSet<IpAddr>,
    _socket: ControlSocket,
    _lock: Lock,
}

impl Director {
    /// Starts a director: everything is validated before anything is touched, and what was touched is undone if the rest
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
        preflight::require_kernel()?;
        let lock = Lock::take(&run_path(name, "lock"), "director", name)?;
        let events = watch()?;
        let net = Net::new()?;
        let topology = Topology::resolve(&net, &desired, &[]).await?;
        let offloads = Offloads::adopt(name, namespace_cookie()?);
        let dataplane = Dataplane::open(name, desired.tables)?;
        let (socket, calls) = match listen(run_path(name, "sock")) {
            Ok(listening) => listening,
            Err(error) => {
                if !dataplane.adopted() {
                    dataplane.remove()?;
                }
                return Err(DirectorError::Control(error));
            }
        };
        let nothing = Desired {
            services: Vec::new(),
            ..desired.clone()
        };
        let checks = Checks::start(name, dataplane.probes(), nothing).map_err(DirectorError::Health)?;
        let mut director = Self {
            name: name.to_owned(),
            config,
            desired,
            topology,
            neighbourhood: Neighbourhood::default(),
            tables: dataplane.empty_tables(),
            dataplane,
            offloads,
            checks,
            claims: Claims::default(),
            own: Own::default(),
            estimator: Estimator::default(),
            tracer: None,
            net,
            events,
            calls,
            unsettled: false,
            look_again: false,
            misfit: String::new(),
            retry: events::Retry::default(),
            announcements: 0,
            announced: None,
            added_vips: BTreeSet::new(),
            _socket: socket,
            _lock: lock,
        };
        match director.take_over().await {
            Ok(()) => Ok(director),
            Err(error) => {
                director.give_up().await;
                Err(error)
            }
        }
    }

    /// The start proper: from what is there to what is wanted.
    async fn take_over(&mut self) -> Result<(), DirectorError> {
        let adopted = self.dataplane.adopted();
        if adopted {
            self.tables = self.dataplane.read_tables(clock::now())?;
            tracing::info!(
                services = self.tables.services.len(),
                "adopted what a former daemon left"
            );
            // Real servers that the file no longer names drain as they do on a reload.
            let draining: Vec<_> = self.tables.addresses().collect();
            self.topology = Topology::resolve(&self.net, &self.desired, &draining).await?;
            self.neighbourhood.follow(&self.topology);
            self.neighbourhood.adopt(&self.tables);
        }
        let vips_before = self.tables.vips();
        let desired = self.desired.clone();
        self.resolve(&desired, RESOLVE_PATIENCE).await?;
        let outlook = self.outlook(&desired, adopted);
        let plan = self.plan(&outlook)?;
        // On a fresh start the tables come first, so that no packet meets half of them; NICs without a role pass all.
        if adopted {
            nics::attach(
                &mut self.dataplane,
                &mut self.offloads,
                &self.topology,
                self.desired.mode,
            )?;
            self.go(plan, outlook)?;
        } else {
            self.go(plan, outlook)?;
            nics::attach(
                &mut self.dataplane,
                &mut self.offloads,
                &self.topology,
                self.desired.mode,
            )?;
        }
        self.converge_surroundings(&vips_before).await?;
        self.tell_start().await
    }

    /// Says what runs where.
    async fn tell_start(&self) -> Result<(), DirectorError> {
        let links = self.net.links().await?;
        for link in links.iter().filter(|link| self.topology.nics.contains_key(&link.index)) {
            let mode = if link.xdp.is_some_and(|xdp| xdp.native) {
                "native"
            } else {
                "generic"
            };
            tracing::info!(interface = link.name, mode, "XDP program attached");
        }
        self.tell_sizes();
        tracing::info!(name = self.name, services = self.tables.services.len(), "ready");
        Ok(())
    }

    /// Says that tables stay as large as they were made, where the file wants another size.
    fn tell_sizes(&self) {
        let (made, wanted) = (self.dataplane.sizes(), self.desired.tables);
        for ((table, made), (_, wanted)) in made.named().into_iter().zip(wanted.named()) {
            if made != wanted {
                tracing::warn!(
                    table,
                    made,
                    wanted,
                    "a table keeps its size until lbx is stopped and started"
                );
            }
        }
    }

    /// Undoes a start that failed. What a former daemon left keeps working as it did.
    async fn give_up(self) {
        if !self.dataplane.adopted() {
            let added = self.added_vips.clone();
            self.remove_everything(added).await;
        }
    }

    /// Runs until asked to stop.
    ///
    /// # Errors
    /// The kernel no longer tells what happens.
    pub async fn run(&mut self, signals: &mut Signals) -> Result<(), DirectorError> {
        events::run(self, signals).await
    }

    /// Stops: nothing of this director stays.
    pub async fn stop(mut self) {
        if let Some(tracer) = self.tracer.take() {
            let _gone_anyway = tracer.stop(&mut self.dataplane);
        }
        let vips = self.tables.vips();
        self.remove_everything(vips).await;
        tracing::info!("stopped: program, pins and VIPs removed");
    }

    async fn remove_everything(mut self, vips: BTreeSet<IpAddr>) {
        // VIPs first: while they are here, clients' packets must not meet a host that knows nothing of them.
        if let Err(error) = self.remove_vips(&vips).await {
            tracing::error!(error = %anyhow::Error::from(error), "cannot remove the VIPs");
        }
        if let Err(error) = self.dataplane.remove() {
            tracing::error!(error = %anyhow::Error::from(error), "cannot remove the pins");
        }
        self.offloads.restore(|_| false);
    }
}
