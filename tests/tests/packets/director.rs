//! A director without a daemon: the real program, its tables made by the real planner, run frame by frame.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use aya::{TestRun as _, TestRunOptions, programs::Xdp};
use lbx::{
    dataplane::{Dataplane, clock},
    desired::{Desired, Scheduler, VirtualService},
    tables::{Hops, Tables, census::Census},
};
use lbx_common::{
    hash,
    nic::{self, Nic},
    slot::Slot,
};
use lbx_tests::{
    lab::{CLIENT, DIP, rip},
    leftovers,
    mac::Mac,
    packet::Frame,
};

use crate::{
    cluster::{self, Flow, LO},
    outcome::{Action, Counted, Counts, Expected, Outcome, Sent},
    pool,
};

/// Room for what the program makes of a frame: it never grows one.
const LARGEST: usize = 1 << 16;

/// A real server, by what makes it the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// The n-th.
    Rs(u8),
    /// The one with this address.
    At(Ipv4Addr),
    /// The one who has the connections of the flow's slot that have no record.
    Owner,
    /// The one whom the hash gives new connections of the flow's slot.
    Current,
}

/// The director of one fixture. Nothing of it stays, after a panic neither.
pub struct Director {
    /// There until the drop.
    dataplane: Option<Dataplane>,
    /// Whether another fixture may have the data plane.
    reusable: bool,
    /// What was planned last.
    pub tables: Tables,
    /// What is planned next: see [`Director::plan`].
    pub desired: Desired,
    /// Where real servers are, for the next plan.
    pub hops: Hops,
}

impl Director {
    /// A director of the standard cluster with all slots at rest, with lo for its only NIC.
    pub fn new() -> Result<Self> {
        let mut director = Self::starting()?;
        // Slots rest two ticks after their last change.
        director.age(&Census::default(), clock::now() + 2)?;
        Ok(director)
    }

    /// A director that has just been started.
    pub fn starting() -> Result<Self> {
        Self::on(pool::take()?, true)
    }

    /// A director whose data plane is nobody's before and after: for one that knows NICs which go.
    pub fn alone() -> Result<Self> {
        Self::on(pool::open()?, false)
    }

    fn on(dataplane: Dataplane, reusable: bool) -> Result<Self> {
        let tables = dataplane.no_tables();
        let mut director = Self {
            dataplane: Some(dataplane),
            reusable,
            tables,
            desired: cluster::desired(),
            hops: cluster::hops(),
        };
        director.set_nic(LO, Mac::of(DIP), nic::CLIENTS | nic::SERVERS)?;
        director.plan()?;
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

    /// Tells the program about a NIC.
    pub fn set_nic(&mut self, ifindex: u32, mac: Mac, roles: u16) -> Result<()> {
        let nic = Nic {
            mac: mac.0,
            roles,
            ifindex,
            pad: 0,
        };
        Ok(self.dataplane_mut().set_nic(nic)?)
    }

    /// Brings the maps to what is desired.
    pub fn plan(&mut self) -> Result<()> {
        let plan = self.tables.plan(&self.desired, &self.hops, clock::now())?;
        self.dataplane_mut().apply(&plan.writes)?;
        self.tables = plan.tables;
        Ok(())
    }

    /// Gives a real server of a service another weight.
    pub fn weigh(&mut self, service: VirtualService, server: Ipv4Addr, weight: u16) -> Result<()> {
        let services = self.desired.services.iter_mut();
        let servers = services.filter(|other| other.virtual_service == service);
        let server = servers
            .flat_map(|service| &mut service.servers)
            .find(|other| other.address == server)
            .context("the service has no such server")?;
        server.weight = weight;
        self.plan()
    }

    /// Changes the scheduler of a service.
    pub fn reschedule(&mut self, service: VirtualService, scheduler: Scheduler) -> Result<()> {
        let services = &mut self.desired.services;
        let service = services.iter_mut().find(|other| other.virtual_service == service);
        service.context("there is no such service")?.scheduler = scheduler;
        self.plan()
    }

    /// Takes a real server from the network.
    pub fn lose(&mut self, number: u8) -> Result<()> {
        self.hops.remove(&rip(number).into()).context("it was lost before")?;
        self.plan()
    }

    /// Puts a real server back into the network.
    pub fn find(&mut self, number: u8) -> Result<()> {
        self.hops.insert(rip(number).into(), cluster::hop(number, LO));
        self.plan()
    }

    /// Does to the tables what the time until a tick brings; the program's clock stands where it is.
    pub fn age(&mut self, census: &Census, until: u32) -> Result<()> {
        let census = Census {
            taken: until,
            ..census.clone()
        };
        let plan = self.tables.age(&census);
        self.dataplane_mut().apply(&plan.writes)?;
        self.tables = plan.tables;
        Ok(())
    }

    /// Runs the program on a frame that came in by a NIC.
    pub fn run(&self, ingress: u32, frame: &Frame) -> Result<Outcome> {
        self.run_program(self.dataplane().program()?, ingress, frame)
    }

    /// Runs one of the data plane's programs.
    pub fn run_program(&self, program: &Xdp, ingress: u32, frame: &Frame) -> Result<Outcome> {
        let input = frame.bytes();
        let mut bytes = vec![0; LARGEST];
        let context = context(input.len(), ingress);
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(&input),
                data_out: Some(&mut bytes),
                // Without one the frame came in by lo, whatever the size of its first buffer.
                ctx_in: (ingress != LO).then_some(context.as_slice()),
                ..TestRunOptions::default()
            })
            .with_context(|| format!("the kernel runs no test of {frame:?} on NIC {ingress}"))?;
        bytes.truncate(result.data_size_out as usize);
        Ok(Outcome {
            action: Action::of(result.return_value),
            bytes,
            counted: self.counted()?,
        })
    }

    /// Everything that has been counted so far.
    pub fn counted(&self) -> Result<Counted> {
        Counted::read(self.dataplane(), &self.tables)
    }

    /// Checks what becomes of a frame that comes in by a NIC: action, bytes and all counters.
    pub fn expect(&self, ingress: u32, frame: &Frame, expected: Expected) -> Result<()> {
        let before = self.counted()?;
        expected.check(frame, before, &self.run(ingress, frame)?)
    }

    /// Checks that a frame of a flow that comes in by lo goes to a real server.
    pub fn sends(&self, flow: Flow, frame: &Frame, to: To, counts: Counts) -> Result<()> {
        self.sends_from(LO, flow, frame, to, counts)
    }

    /// Checks that a frame of a flow that comes in by a NIC goes to a real server, by the NIC that one is reached by.
    pub fn sends_from(&self, ingress: u32, flow: Flow, frame: &Frame, to: To, counts: Counts) -> Result<()> {
        let server = self.server(flow, to)?;
        let hop = *self.hops.get(&server.into()).context("nobody knows the way there")?;
        let sent = Sent {
            action: if hop.ifindex == ingress {
                Action::Tx
            } else {
                Action::Redirect
            },
            service: flow.service,
            server,
            hop,
            counts,
        };
        self.expect(ingress, frame, Expected::Sent(sent))
            .with_context(|| format!("to {to:?} of {flow:?}"))
    }

    /// The address of a real server.
    pub fn server(&self, flow: Flow, to: To) -> Result<Ipv4Addr> {
        let index = match to {
            To::Rs(number) => return Ok(rip(number)),
            To::At(address) => return Ok(address),
            To::Owner => self.slot(flow).owner,
            To::Current => self.slot(flow).current,
        };
        let member = self.tables.services[&flow.service].members.get(&index);
        Ok(cluster::v4(member.context("the slot has no such server")?.address))
    }

    /// The number of the slot a flow belongs to.
    pub fn slot_number(&self, flow: Flow) -> u32 {
        let client = flow.client.ip().octets();
        let tuple = hash::tuple(
            client,
            flow.client.port().to_be_bytes(),
            flow.service.port.to_be_bytes(),
        );
        hash::slot(tuple, self.tables.services[&flow.service].slots_range.len)
    }

    /// The slot a flow belongs to, as it was planned.
    pub fn slot(&self, flow: Flow) -> Slot {
        self.tables.services[&flow.service].slots.as_slice()[self.slot_number(flow) as usize]
    }

    /// A flow to a service that has no connection yet and fulfils a condition.
    pub fn flow(&self, service: VirtualService, condition: impl Fn(Flow) -> bool) -> Result<Flow> {
        (1024..=u16::MAX)
            .map(|port| cluster::flow(service, port))
            .find(|&flow| condition(flow))
            .with_context(|| format!("no port of {CLIENT} will do"))
    }

    /// A flow to a service, by the owner of its slot.
    pub fn flow_by_owner(&self, service: VirtualService, condition: impl Fn(Ipv4Addr) -> bool) -> Result<Flow> {
        self.flow(service, |flow| self.server(flow, To::Owner).is_ok_and(&condition))
    }

    /// A flow to a service whose slot somebody else owns.
    pub fn flow_of_another(&self, service: VirtualService, server: Ipv4Addr) -> Result<Flow> {
        self.flow_by_owner(service, |owner| owner != server)
    }

    /// Counts the records of flows.
    pub fn census(&self) -> Census {
        self.dataplane().sweep(&self.tables, clock::now())
    }

    /// Checks how many records there are.
    pub fn has_records(&self, count: u64) -> Result<()> {
        let live = self.census().live;
        ensure!(live == count, "{live} records instead of {count}");
        Ok(())
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        let Some(dataplane) = self.dataplane.take() else {
            return;
        };
        if self.reusable && !std::thread::panicking() {
            pool::give_back(dataplane, &self.tables);
        } else {
            // What could not be removed is a leftover for the next run.
            dataplane.remove().ok();
        }
    }
}

/// A name nothing else has: what is left under it goes with the leftovers of dead runs.
pub fn unique_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    leftovers::name_for(std::process::id(), number) + "-packets"
}

/// An xdp_md (linux/bpf.h): data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
fn context(length: usize, ingress: u32) -> Vec<u8> {
    let length = u32::try_from(length).expect("a frame has 64 KiB at most");
    [0, length, 0, ingress, 0, 0]
        .into_iter()
        .flat_map(u32::to_ne_bytes)
        .collect()
}
