//! A director without a daemon: the real program, its tables made by the real planner.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use lbx::{
    dataplane::{Dataplane, clock},
    desired::{DesiredState, Scheduler, ServerState, Service, TableSizes, VirtualService},
    tables::{NextHops, Tables, lookup, scan::FlowScanResult, service::LoadedService},
};
use lbx_common::{
    backend::VlanTags,
    flow::TICK_SHIFT,
    load::BackendLoad,
    nic::{self, Nic},
    slot::Slot,
};
use lbx_tests::{bpffs, lab::DIP, leftovers, mac::Mac};

use crate::{
    cluster::{self, Flow, LO, SIZES},
    pool,
};

/// The tick at which time begins.
const BEGINNING: u32 = 1_000_000;

/// A real server, by what makes it the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// The n-th.
    Rs(u8),
    /// The one with this address.
    At(IpAddr),
    /// The one who has the connections of the flow's slot that have no record.
    Owner,
    /// The one whom the hash gives new connections of the flow's slot.
    Current,
}

/// The director of one fixture. Nothing of it stays, after a panic neither.
pub struct Director {
    /// There until the drop.
    dataplane: Option<Dataplane>,
    /// What becomes of the data plane, and whose time it has.
    kind: Kind,
    /// The tick it is, where time is the director's own.
    now: u32,
    /// What was planned last.
    pub tables: Tables,
    /// What is planned next: see [`Director::plan`].
    pub desired: DesiredState,
    /// Where real servers are, for the next plan.
    pub hops: NextHops,
}

/// What becomes of a data plane, and whose time it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Another fixture gets it; time passes when the director says so.
    Shared,
    /// It is this fixture's alone; time passes when the director says so.
    Alone,
    /// It is this fixture's alone; time is the kernel's.
    Real,
}

impl Director {
    /// A director of these services with all slots at rest, with lo for its only NIC.
    pub fn of(services: Vec<Service>) -> Result<Self> {
        match pool::take() {
            Some(used) => Self::on(used.dataplane, Kind::Shared, used.now, services),
            None => Self::on(open(SIZES)?, Kind::Shared, BEGINNING, services),
        }
    }

    /// The same with tables of other sizes.
    pub fn sized(sizes: TableSizes, services: Vec<Service>) -> Result<Self> {
        Self::on(open(sizes)?, Kind::Alone, BEGINNING, services)
    }

    /// A director that has just been started, whose time is that of the kernel, and which may know NICs that go.
    pub fn real(services: Vec<Service>) -> Result<Self> {
        prepare()?;
        let dataplane = Dataplane::open(&unique_name(), SIZES)?;
        let mut director = Self::knowing_lo(dataplane, Kind::Real, 0, services)?;
        director.plan()?;
        Ok(director)
    }

    fn on(dataplane: Dataplane, kind: Kind, now: u32, services: Vec<Service>) -> Result<Self> {
        let mut director = Self::knowing_lo(dataplane, kind, now, services)?;
        director.pass(0)?;
        director.plan()?;
        // Slots rest two ticks after their last change.
        director.pass(2)?;
        director.age()?;
        Ok(director)
    }

    fn knowing_lo(dataplane: Dataplane, kind: Kind, now: u32, services: Vec<Service>) -> Result<Self> {
        let mut director = Self {
            tables: dataplane.empty_tables(),
            dataplane: Some(dataplane),
            kind,
            now,
            desired: cluster::desired(services),
            hops: cluster::hops(),
        };
        director.set_nic(
            LO,
            VlanTags::NONE,
            Mac::of(DIP),
            nic::CLIENT_FACING | nic::SERVER_FACING,
        )?;
        Ok(director)
    }

    /// The data plane, to read from.
    pub fn dataplane(&self) -> &Dataplane {
        self.dataplane.as_ref().expect("there until the drop")
    }

    /// The data plane, to change it.
    pub fn dataplane_mut(&mut self) -> &mut Dataplane {
        self.dataplane.as_mut().expect("there until the drop")
    }

    /// The tick it is.
    fn now(&self) -> u32 {
        match self.kind {
            Kind::Real => clock::current_tick(),
            Kind::Shared | Kind::Alone => self.now,
        }
    }

    /// Lets so many ticks pass.
    pub fn pass(&mut self, ticks: u32) -> Result<()> {
        ensure!(self.kind != Kind::Real, "the kernel's time passes by itself");
        self.now += ticks;
        let nanoseconds = u64::from(self.now) << TICK_SHIFT;
        Ok(self.dataplane_mut().set_test_clock(nanoseconds)?)
    }

    /// Tells the program about a NIC, or a VLAN on it.
    pub fn set_nic(&mut self, ifindex: u32, tags: VlanTags, mac: Mac, roles: u16) -> Result<()> {
        let nic = Nic {
            mac: mac.0,
            roles,
            ifindex,
            vlan_tags: tags,
        };
        Ok(self.dataplane_mut().set_nic(nic)?)
    }

    /// Brings the maps to what is desired.
    pub fn plan(&mut self) -> Result<()> {
        let plan = self.tables.plan(&self.desired, &self.hops, self.now())?;
        self.dataplane_mut().apply(&plan.writes)?;
        self.tables = plan.resulting_tables;
        Ok(())
    }

    /// A service, to change it before the next plan.
    pub fn service_mut(&mut self, service: VirtualService) -> Result<&mut Service> {
        let services = &mut self.desired.services;
        let service = services.iter_mut().find(|other| other.virtual_service == service);
        service.context("there is no such service")
    }

    /// Gives a real server of a service another weight.
    pub fn weigh(&mut self, service: VirtualService, number: u8, weight: u16) -> Result<()> {
        let address = cluster::server_of(service.vip, number);
        let servers = &mut self.service_mut(service)?.servers;
        let server = servers.iter_mut().find(|other| other.address == address);
        server.context("the service has no such server")?.weight = weight;
        self.plan()
    }

    /// Lets the checks of a real server of a service say this.
    pub fn stand(&mut self, service: VirtualService, number: u8, state: ServerState) -> Result<()> {
        let address = cluster::server_of(service.vip, number);
        let servers = &mut self.service_mut(service)?.servers;
        let server = servers.iter_mut().find(|other| other.address == address);
        server.context("the service has no such server")?.state = state;
        self.plan()
    }

    /// Changes the scheduler of a service.
    pub fn reschedule(&mut self, service: VirtualService, scheduler: Scheduler) -> Result<()> {
        self.service_mut(service)?.scheduler = scheduler;
        self.plan()
    }

    /// Ends a service.
    pub fn remove(&mut self, service: VirtualService) -> Result<()> {
        self.desired.services.retain(|other| other.virtual_service != service);
        self.plan()
    }

    /// Takes a real server of the family of a service from the network.
    pub fn lose(&mut self, service: VirtualService, number: u8) -> Result<()> {
        let address = cluster::server_of(service.vip, number);
        self.hops.remove(&address).context("it was lost before")?;
        self.plan()
    }

    /// Puts a real server back into the network.
    pub fn find(&mut self, service: VirtualService, number: u8) -> Result<()> {
        let address = cluster::server_of(service.vip, number);
        self.hops.insert(address, cluster::hop(address, LO));
        self.plan()
    }

    /// Does to tables and records what time has brought: what the daemon does every second.
    pub fn age(&mut self) -> Result<()> {
        let plan = self.tables.plan_expiry(&self.scan());
        self.dataplane_mut().apply(&plan.writes)?;
        self.tables = plan.resulting_tables;
        Ok(())
    }

    /// Reads the tables back, as a daemon that follows another does.
    pub fn readopt(&mut self) -> Result<()> {
        self.tables = self.dataplane().read_tables(self.now())?;
        self.plan()
    }

    /// The address of a real server.
    pub fn server(&self, flow: Flow, to: To) -> Result<IpAddr> {
        let index = match to {
            To::Rs(number) => return Ok(cluster::server_of(flow.service.vip, number)),
            To::At(address) => return Ok(address),
            To::Owner => self.slot(flow).owner,
            To::Current => self.slot(flow).current,
        };
        let member = self.loaded(flow.service).backends.get(&index);
        Ok(member.context("the slot has no such server")?.address)
    }

    /// A service as it was planned.
    pub fn loaded(&self, service: VirtualService) -> &LoadedService {
        &self.tables.services[&service]
    }

    /// The number of the slot a flow belongs to.
    pub fn slot_number(&self, flow: Flow) -> u32 {
        self.loaded(flow.service).slot_of(
            flow.service.vip,
            lookup::address(flow.client.ip()),
            flow.client.port().to_be_bytes(),
            flow.port.to_be_bytes(),
        )
    }

    /// The slot a flow belongs to, as it was planned.
    pub fn slot(&self, flow: Flow) -> Slot {
        self.loaded(flow.service).slots.as_slice()[self.slot_number(flow) as usize]
    }

    /// A flow to a service that has no connection yet and fulfils a condition.
    pub fn flow(&self, service: VirtualService, condition: impl Fn(Flow) -> bool) -> Result<Flow> {
        (1024..=u16::MAX)
            .map(|port| cluster::flow(service, port))
            .find(|&flow| condition(flow))
            .context("no port of the client will do")
    }

    /// A flow to a service, by whether the n-th real server owns its slot.
    pub fn flow_of(&self, service: VirtualService, number: u8, owns: bool) -> Result<Flow> {
        let server = cluster::server_of(service.vip, number);
        self.flow(service, |flow| {
            self.server(flow, To::Owner)
                .is_ok_and(|owner| (owner == server) == owns)
        })
    }

    /// Counts the records of flows, and erases those that nobody needs.
    pub fn scan(&self) -> FlowScanResult {
        self.dataplane().sweep_flows(&self.tables, self.now())
    }

    /// Checks how many records there are.
    pub fn has_records(&self, count: u64) -> Result<()> {
        let live = self.scan().live_records;
        ensure!(live == count, "{live} records instead of {count}");
        Ok(())
    }

    /// The connections of the n-th real server of a service, as the program counts them.
    pub fn load(&self, service: VirtualService, number: u8) -> Result<BackendLoad> {
        let address = cluster::server_of(service.vip, number);
        let (_, member) = self
            .loaded(service)
            .usable_backend(address)
            .context("no such server is up")?;
        Ok(self.dataplane().backend_load(member.counter_index))
    }

    /// Checks how many active and inactive connections the n-th real server of a service has.
    pub fn has_load(&self, service: VirtualService, number: u8, active: u32, inactive: u32) -> Result<()> {
        let load = self.load(service, number)?;
        let expected = BackendLoad { active, inactive };
        ensure!(load == expected, "rs{number} has {load:?} instead of {expected:?}");
        Ok(())
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        let Some(dataplane) = self.dataplane.take() else {
            return;
        };
        if self.kind == Kind::Shared && !std::thread::panicking() {
            pool::give_back(dataplane, &self.tables, self.now);
        } else {
            // What could not be removed is a leftover for the next run.
            dataplane.detach_and_unpin().ok();
        }
    }
}

fn open(sizes: TableSizes) -> Result<Dataplane> {
    prepare()?;
    Ok(Dataplane::open_with_test_clock(&unique_name(), sizes)?)
}

fn prepare() -> Result<()> {
    leftovers::sweep_once();
    bpffs::mount_if_missing()
}

/// A name nothing else has: what is left under it goes with the leftovers of dead runs.
pub fn unique_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    leftovers::name_for(std::process::id(), number) + "-packets"
}
