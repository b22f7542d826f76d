//! The daemon: one loop that owns everything and through which every change goes.
//!
//! ```text
//! lb.yaml, neighbours, links, probes, time → topology → hops → checks → Tables::plan → Dataplane::apply
//! ```
//!
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

mod error;
mod events;

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf, time::Duration};

use tokio::{sync::mpsc, time::Instant};

use self::{
    checks::{Checks, Outlook},
    claims::Claims,
    hops::Neighbourhood,
    listing::Estimator,
    offloads::Offloads,
    own::Own,
    topology::Topology,
    trace::Tracer,
};
pub use self::{error::DirectorError, events::Signals};
use crate::{
    config,
    control::server::{Call, ControlSocket, listen},
    dataplane::{Dataplane, clock},
    desired::Desired,
    net::{Event, Net, namespace_cookie, watch},
    preflight::{self, Lock, run_path},
    tables::{Plan, Tables, census::Census},
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
            tables: dataplane.no_tables(),
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

    /// Takes a new configuration: validated whole before the first change, or refused whole.
    ///
    /// # Errors
    /// See [`DirectorError`]; what was loaded stays.
    pub async fn reload(&mut self) -> Result<(), DirectorError> {
        let desired = config::load(&self.config)?;
        let draining: Vec<_> = self.tables.addresses().collect();
        let topology = Topology::resolve(&self.net, &desired, &draining).await?;
        self.announced = None;
        self.converge(desired, topology, RESOLVE_PATIENCE).await?;
        self.tell_sizes();
        // It fits whole, or it would have been refused.
        self.misfit.clear();
        Ok(())
    }

    /// Follows a network that has changed, as far as it goes: one bad NIC or real server keeps no other from working.
    /// What does not fit is left out and told.
    async fn refit(&mut self) -> Result<Vec<String>, DirectorError> {
        let desired = self.desired.clone();
        let draining: Vec<_> = self.tables.addresses().collect();
        let (mut topology, misfits) = self.topology.refit(&self.net, &desired, &draining).await?;
        let refused = nics::attach_what_can_be(&mut self.dataplane, &mut self.offloads, &mut topology, desired.mode)?;
        self.converge(desired, topology, Duration::ZERO).await?;
        let misfits = misfits.into_iter().map(anyhow::Error::from);
        let refused = refused.into_iter().map(anyhow::Error::from);
        Ok(misfits.chain(refused).map(|reason| format!("{reason:#}")).collect())
    }

    /// Leads everything to a desired state on a network: NICs, tables, VIPs. Waits so long for the MAC addresses of new
    /// real servers.
    async fn converge(
        &mut self,
        desired: Desired,
        topology: Topology,
        patience: Duration,
    ) -> Result<(), DirectorError> {
        let before = std::mem::replace(&mut self.topology, topology);
        let known = self.neighbourhood.known();
        if let Err(error) = self.converge_tables(&desired, patience).await {
            // NICs that were attached on the way have no role and pass everything; they go with the next success.
            self.topology = before;
            self.neighbourhood.restore(known);
            // What was heard on the way is news to the tables.
            self.neighbourhood.read(&self.net).await?;
            self.unsettled = true;
            return Err(error);
        }
        let vips = vips::of(&self.desired);
        self.desired = desired;
        let done = self.converge_surroundings(&vips).await;
        if done.is_err() {
            // The tables are the new ones: the rest is tried again until it follows.
            self.look_again = true;
        }
        done
    }

    /// What follows the tables: roles of NICs, and VIPs.
    async fn converge_surroundings(&mut self, vips: &BTreeSet<IpAddr>) -> Result<(), DirectorError> {
        nics::set_roles(&mut self.dataplane, &self.topology)?;
        nics::leave_others(&mut self.dataplane, &self.topology)?;
        self.offloads
            .restore(|ifindex| self.topology.nics.contains_key(&ifindex));
        self.follow_own_traffic();
        self.checks.follow();
        self.follow_vips(vips).await
    }

    async fn converge_tables(&mut self, desired: &Desired, patience: Duration) -> Result<(), DirectorError> {
        self.resolve(desired, patience).await?;
        let outlook = self.outlook(desired, false);
        let plan = self.plan(&outlook)?;
        nics::attach(&mut self.dataplane, &mut self.offloads, &self.topology, desired.mode)?;
        self.go(plan, outlook)
    }

    /// Learns the MAC addresses of all real servers; gives those that do not answer a moment.
    async fn resolve(&mut self, desired: &Desired, patience: Duration) -> Result<(), DirectorError> {
        self.neighbourhood.follow(&self.topology);
        self.neighbourhood.read(&self.net).await?;
        if patience.is_zero() {
            return Ok(());
        }
        let deadline = Instant::now() + patience;
        while self.neighbourhood.incomplete() && Instant::now() < deadline {
            self.neighbourhood.ask(&self.net, &self.topology).await;
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                self.neighbourhood.read(&self.net).await?;
                if !self.neighbourhood.incomplete() {
                    break;
                }
            }
        }
        for service in &desired.services {
            for server in service.addresses().filter(|server| !self.neighbourhood.knows(*server)) {
                tracing::warn!(
                    service = service.name,
                    %server,
                    "the real server does not tell its MAC address: no connections go there until it does"
                );
            }
        }
        Ok(())
    }

    /// Plans anew with the hops there are now, and what is known of the real servers.
    fn replan(&mut self) -> Result<(), DirectorError> {
        let outlook = self
            .checks
            .again(&self.desired, |server| self.neighbourhood.knows(server));
        let plan = self.plan(&outlook)?;
        self.go(plan, outlook)
    }

    /// What health makes of a new desired state; `adopted`: what is loaded is a former daemon's.
    fn outlook(&self, desired: &Desired, adopted: bool) -> Outlook {
        let before = |place| Self::stood(&self.tables, adopted, place);
        self.checks
            .outlook(desired, &before, |server| self.neighbourhood.knows(server))
    }

    fn plan(&self, outlook: &Outlook) -> Result<Plan, DirectorError> {
        let hops = self.neighbourhood.hops(&self.topology);
        Ok(self.tables.plan(&outlook.desired, &hops, clock::now())?)
    }

    /// Carries out the plan for what health makes of a desired state.
    fn go(&mut self, plan: Plan, outlook: Outlook) -> Result<(), DirectorError> {
        self.carry_out(plan)?;
        let events = self.checks.accept(outlook);
        self.checks.reach(self.reached());
        self.tell_health(&events);
        Ok(())
    }

    /// Carries out a plan and tells of it. If the kernel refuses half-way, the tables are read back: the next plan starts
    /// from what is really there.
    fn carry_out(&mut self, plan: Plan) -> Result<(), DirectorError> {
        match self.dataplane.apply(&plan.writes) {
            Ok(()) => self.tables = plan.tables,
            Err(error) => {
                self.tables = self.dataplane.read_tables(clock::now())?;
                self.unsettled = true;
                return Err(error.into());
            }
        }
        for event in &plan.events {
            tracing::info!("{event}");
        }
        Ok(())
    }

    /// Counts all flows now.
    fn census(&self) -> Census {
        self.dataplane.sweep(&self.tables, clock::now())
    }
}
