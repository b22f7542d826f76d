//! A director, its daemon, which may be dead, its clients and their time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use lbx::{
    desired::Protocol,
    tables::{
        MapWrite, Plan, Tables,
        flow_policy::ticks_of_seconds,
        plan::PlanError,
        scan::{FlowCounts, FlowScanResult},
    },
};
use lbx_common::{
    flow::{TICK_MASK, elapsed_ticks},
    load::BackendLoad,
};

use crate::{
    cluster::{Cluster, FORGOTTEN, SERVICES, SORRY, identity, number},
    counters::{Counted, Counters},
    director::Director,
    expectations::{Fragmented, Template},
    expected::{Expected, Ticks},
    history::{During, History, Packet, Step},
    packet_case::FlowId,
    schedule::{Loads, Turns},
};

/// Nanoseconds of a tick, as a shift.
const TICK_SHIFT: u32 = 30;

/// Everything there is.
pub struct Model<'d> {
    pub director: &'d mut Director,
    /// Whether every flow has room for a record.
    pub roomy: bool,
    /// What the operator wants and the network gives.
    cluster: Cluster,
    /// What the last plan was made for.
    accepted: Cluster,
    /// What packets may meet: two while it is not known which part of which.
    pub in_force: Vec<Cluster>,
    /// None: the daemon is dead.
    tables: Option<Tables>,
    /// What may stand in the maps: two while a plan is carried out.
    pub state: Vec<Tables>,
    pub counters: Counters,
    nanoseconds: u64,
    /// The tick of the plan by which a real server of a service was taken out of the file.
    removed_since: BTreeMap<(usize, u8), u32>,
    /// The real servers that may have flows of a service.
    pub may: [BTreeSet<u8>; SERVICES],
    pub flows: BTreeMap<FlowId, Expected>,
    /// When a flow was last seen that may have left a record with a service.
    pub seen: BTreeMap<(FlowId, usize), u32>,
    /// When a flow was last said to end: a record of it may be about to go.
    pub ended: BTreeMap<FlowId, u32>,
    pub fragments: BTreeMap<FlowId, Fragmented>,
    /// Where clients that persist have their connections, by service and network or client.
    pub templates: BTreeMap<(usize, u8), Template>,
    /// When a client that persists last began a connection with a real server: service, network, server.
    pub persisted: BTreeMap<(usize, u8, u8), u32>,
    pub turns: [Turns; SERVICES],
    pub tally: Tally,
}

/// What was done and held.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub steps: u64,
    pub packets: u64,
    /// Packets that had to go where their flow's last one outcome, or were dropped until that one is back.
    pub kept: u64,
    /// Those of them that were dropped.
    pub held: u64,
    /// New connections of clients who persist for the sake of a connection that lives.
    pub re_armed: u64,
    /// New connections held against what their scheduler says.
    pub scheduled: u64,
    /// Packets of flows without a record for want of room.
    pub without_record: u64,
    /// Daemons that took over from a dead one.
    pub adoptions: u64,
    /// Sweeps after which loads and records agreed.
    pub agreed: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.steps += other.steps;
        self.packets += other.packets;
        self.kept += other.kept;
        self.held += other.held;
        self.re_armed += other.re_armed;
        self.scheduled += other.scheduled;
        self.without_record += other.without_record;
        self.adoptions += other.adoptions;
        self.agreed += other.agreed;
    }
}

impl<'d> Model<'d> {
    /// The first plan is carried out.
    pub fn begin(director: &'d mut Director, roomy: bool, history: &History) -> Result<Self> {
        let cluster = Cluster::new(&history.schedulers);
        let tables = director.maps().empty_tables();
        let mut world = Self {
            counters: Counters::open(director.maps())?,
            director,
            roomy,
            accepted: cluster.clone(),
            in_force: vec![Cluster::nothing()],
            cluster,
            state: vec![tables.clone()],
            tables: Some(tables),
            nanoseconds: 0,
            removed_since: BTreeMap::new(),
            may: Default::default(),
            flows: BTreeMap::new(),
            seen: BTreeMap::new(),
            ended: BTreeMap::new(),
            fragments: BTreeMap::new(),
            templates: BTreeMap::new(),
            persisted: BTreeMap::new(),
            turns: Default::default(),
            tally: Tally::default(),
        };
        world.wait(u64::from(TICK_MASK - history.before_wrap) << TICK_SHIFT)?;
        world.plan(&During::default())?;
        Ok(world)
    }

    pub fn step(&mut self, step: &Step) -> Result<()> {
        self.tally.steps += 1;
        match step {
            Step::Packet(packet) => self.packet(*packet),
            Step::Plan { changes, during } => {
                for &change in changes {
                    self.cluster.change(change);
                }
                self.plan(during)
            }
            Step::Age { during } => self.age(during),
            Step::Wait(nanoseconds) => self.wait(*nanoseconds),
            Step::Wrap => self.wrap(),
            Step::Kill { reopen } => {
                if *reopen {
                    self.director.reopen()?;
                }
                self.die()
            }
        }
    }

    /// The tick it is now.
    pub fn now(&self) -> u32 {
        (self.nanoseconds >> TICK_SHIFT) as u32 & TICK_MASK
    }

    fn packet(&mut self, packet: Packet) -> Result<()> {
        self.tally.packets += 1;
        self.arrive(packet)
            .with_context(|| format!("{packet:?} at tick {}", self.now()))
    }

    fn wait(&mut self, nanoseconds: u64) -> Result<()> {
        self.nanoseconds += nanoseconds;
        Ok(self.director.maps_mut().set_test_clock(self.nanoseconds)?)
    }

    /// Half a year or so, the daemon at work, until the clock of flows is about to wrap.
    fn wrap(&mut self) -> Result<()> {
        const STRIDE: u32 = 1 << 21;
        if self.tables.is_none() {
            self.plan(&During::default())?;
        }
        let mut left = elapsed_ticks(self.now(), TICK_MASK - FORGOTTEN) + 4 * FORGOTTEN;
        while left > 0 {
            let stride = left.min(STRIDE);
            self.wait(u64::from(stride) << TICK_SHIFT)?;
            self.age(&During::default())?;
            left -= stride;
            self.flows.clear();
            self.seen.clear();
            self.ended.clear();
            self.fragments.clear();
            self.templates.clear();
            self.persisted.clear();
        }
        Ok(())
    }

    /// The daemon dies; its maps stay.
    fn die(&mut self) -> Result<()> {
        self.tables = None;
        self.state = vec![Tables::adopt(self.director.maps(), self.now())?];
        self.turns = Default::default();
        Ok(())
    }

    fn plan(&mut self, during: &During) -> Result<()> {
        let now = self.now();
        let tables = match self.tables.take() {
            Some(tables) => tables,
            None => {
                self.tally.adoptions += 1;
                self.director.maps().read_tables(now)?
            }
        };
        self.cut();
        let plan = match tables.plan(&self.cluster.desired(), &self.cluster.hops(), now) {
            Err(PlanError::HashInputChanged(_)) => {
                // The file is refused: all stays as it was, but for the network.
                let hops = std::mem::take(&mut self.cluster.hops);
                self.cluster = Cluster {
                    hops,
                    ..self.accepted.clone()
                };
                self.cut();
                tables.plan(&self.cluster.desired(), &self.cluster.hops(), now)
            }
            plan => plan,
        }?;
        self.accepted = self.cluster.clone();
        self.in_force.push(self.cluster.clone());
        for service in 0..SERVICES {
            self.may[service].extend(self.cluster.up(service));
        }
        let timeouts = Ticks::of(&self.cluster.timeouts);
        for expected in self.flows.values_mut() {
            expected.timeouts = expected.timeouts.shorter(timeouts);
        }
        self.excuse();
        self.turns = Default::default();
        if self.carry_out(tables, plan, during)? {
            let cluster = &self.cluster;
            self.removed_since
                .retain(|&(service, server), _| cluster.services[service].on && !cluster.has_server(service, server));
            self.in_force = vec![self.cluster.clone()];
            for service in 0..SERVICES {
                let cluster = &self.cluster;
                let on = cluster.services[service].on;
                self.may[service].retain(|server| on && !cluster.loses(service, *server));
            }
            self.turns = Default::default();
        }
        self.excuse();
        Ok(())
    }

    /// Finds the real servers whose drain timeout is over with the next plan. One that was out of the file before a plan that
    /// was not carried out whole, or was refused, may count from then.
    fn cut(&mut self) {
        let now = self.now();
        for service in 0..SERVICES {
            for server in 0..=SORRY {
                if self.cluster.services[service].on && !self.cluster.has_server(service, server) {
                    self.removed_since.entry((service, server)).or_insert(now);
                }
            }
        }
        let cluster = &self.cluster;
        let cut = self.removed_since.iter().filter(|&(&(service, server), &since)| {
            let seconds = cluster.services[service].service.drain_timeout_seconds;
            let is_over = |seconds| elapsed_ticks(since, now) > ticks_of_seconds(seconds);
            !cluster.has_server(service, server) && seconds.is_some_and(is_over)
        });
        self.cluster.cut = cut.map(|(&server, _)| server).collect();
    }

    fn age(&mut self, during: &During) -> Result<()> {
        let Some(tables) = self.tables.take() else {
            return Ok(());
        };
        self.note_scan()?;
        let mut scan = self.director.maps().sweep_flows(&tables, self.now());
        scan.services_without_traffic = self.director.maps().open_window_services_without_traffic(&tables)?;
        self.agree(&tables, &scan)?;
        let plan = tables.plan_expiry(&scan);
        self.carry_out(tables, plan, during)?;
        Ok(())
    }

    /// Carries out a plan while packets come and go; false if the daemon was killed on the way.
    fn carry_out(&mut self, before: Tables, plan: Plan, during: &During) -> Result<bool> {
        let Plan {
            resulting_tables: tables,
            writes,
            ..
        } = plan;
        let at = |place: u8| usize::from(place) * (writes.len() + 1) / 256;
        self.state = vec![before, tables.clone()];
        let mut done = 0;
        let mut packets = during.packets.clone();
        packets.sort_by_key(|(place, _)| *place);
        for (place, packet) in packets {
            if during.killed.is_some_and(|killed| killed < place) {
                break;
            }
            self.apply(&writes[done..at(place)])?;
            done = at(place);
            self.packet(packet).with_context(|| {
                format!(
                    "after {done} of {} writes, the last {:?}",
                    writes.len(),
                    writes[..done].last()
                )
            })?;
        }
        if let Some(place) = during.killed {
            self.apply(&writes[done..at(place)])?;
            self.die()?;
            return Ok(false);
        }
        self.apply(&writes[done..])?;
        self.state = vec![tables.clone()];
        self.tables = Some(tables);
        let counted = self.counters.follow(self.director.maps(), &self.state)?;
        ensure!(counted == Counted::Nothing, "{counted:?} without a packet");
        Ok(true)
    }

    fn apply(&mut self, writes: &[MapWrite]) -> Result<()> {
        self.director.maps_mut().apply(writes)?;
        self.counters.reset(writes);
        Ok(())
    }

    /// After a sweep the program's loads are those of the records.
    fn agree(&mut self, tables: &Tables, scan: &FlowScanResult) -> Result<()> {
        for (id, loaded) in &tables.services {
            for counter in loaded.counter_indices() {
                let indices = loaded
                    .backends
                    .iter()
                    .filter(|(_, member)| member.counter_index == counter);
                let mut flows = FlowCounts::default();
                for (&index, _) in indices {
                    let more = scan
                        .flows
                        .get(&(loaded.service_number, index))
                        .copied()
                        .unwrap_or_default();
                    flows.active += more.active;
                    flows.inactive += more.inactive;
                }
                let load = self.director.maps().backend_load(counter);
                let same = u64::from(load.active) == flows.active && u64::from(load.inactive) == flows.inactive;
                ensure!(same, "{id} counter {counter}: {load:?}, but records say {flows:?}");
            }
        }
        self.tally.agreed += 1;
        Ok(())
    }

    /// Forgets flows that may expect nothing any more: their backend has failed, their service or its port is gone.
    fn excuse(&mut self) {
        let cluster = &self.cluster;
        self.flows.retain(|id, expected| {
            let service = &cluster.services[expected.service].service;
            id.service(cluster) == Some(expected.service)
                && !cluster.loses(expected.service, expected.server)
                && !service.one_packet
        });
        let before = &self.in_force[0];
        self.templates.retain(|(service, _), template| {
            let wish = &cluster.services[*service];
            wish.on
                && wish.service.persistence == before.services[*service].service.persistence
                && !cluster.loses(*service, template.server)
        });
        // One that is out of the file may be gone sooner than its fragments.
        self.fragments.retain(|id, first| {
            id.service(cluster) == Some(first.service) && cluster.up(first.service).contains(&first.server)
        });
    }

    /// The shortest timeouts that may be in force.
    pub fn timeouts(&self) -> Ticks {
        let all = self.in_force.iter().map(|cluster| Ticks::of(&cluster.timeouts));
        all.reduce(Ticks::shorter).expect("something is in force")
    }

    /// The loads of the real servers of a service that get packets.
    pub fn loads(&self, service: usize) -> Loads {
        let loaded = self
            .state
            .iter()
            .filter_map(|tables| tables.services.get(&identity(service)));
        let members = loaded.flat_map(|loaded| loaded.backends.values());
        members
            .map(|member| {
                let load: BackendLoad = self.director.maps().backend_load(member.counter_index);
                (number(member.address), load)
            })
            .collect()
    }

    /// Whether every flow of a service gets a record, and no datagram may be of a flow from another time.
    pub fn records_all(&self, service: usize) -> bool {
        let mut state = self
            .state
            .iter()
            .filter_map(|tables| tables.services.get(&identity(service)));
        let all = state.all(|loaded| loaded.records_all() && loaded.recording_since_tick.is_none());
        let one_packet = |cluster: &Cluster| cluster.services[service].service.one_packet;
        all && !self.in_force.iter().any(one_packet)
    }

    /// An identification that no fragment has had for long.
    pub fn fragment_id() -> u32 {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }
}

impl FlowId {
    /// The service it is for.
    pub fn service(&self, cluster: &Cluster) -> Option<usize> {
        cluster.service_of(self.vip, self.protocol, self.vip_port)
    }

    /// Whether its service is UDP.
    pub fn is_udp(&self) -> bool {
        self.protocol == Protocol::Udp
    }
}
