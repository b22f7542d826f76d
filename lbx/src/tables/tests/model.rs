//! A director, its kernel and its clients in plain memory, and what the clients may expect.

use std::{collections::BTreeMap, net::IpAddr};

use lbx_common::{
    flow::{FlowEvent, TICK_MASK, elapsed_ticks},
    service::TimeoutTicks,
};

use super::signals::{DATA, DATAGRAM, ODD, OPEN};
use super::{
    super::{
        MapWrite, Plan, Tables,
        flow_policy::{ticks, ticks_of_seconds},
    },
    cluster::{Change, Cluster, Fate, SERVICES, SORRY, address},
    packets::{Client, Kernel, UnderWay},
};
use crate::desired::{Protocol, Scheduler};

/// What happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// A packet arrives.
    Packet(Packet),
    /// Changes, and the plan that follows them. A daemon that is dead is started first.
    Plan { changes: Vec<Change>, during: During },
    /// A scan, and what time has brought.
    Age {
        /// Ticks from the scan to the plan.
        late: u32,
        during: During,
    },
    /// Ticks pass.
    Wait(u32),
}

/// What happens while the writes of a plan are carried out: places among them are in 256ths.
#[derive(Clone, Debug, Default)]
pub struct During {
    pub packets: Vec<(u8, Packet)>,
    /// A tick passes here.
    pub slow: Option<u8>,
    /// The daemon is killed here.
    pub killed: Option<u8>,
}

/// A packet of a client of a service; `held` says for how many writes it stays under way.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    pub service: usize,
    pub client: u8,
    pub signal: FlowEvent,
    pub held: u8,
}

/// Everything there is.
pub struct Model {
    pub cluster: Cluster,
    /// None: the daemon is dead.
    pub tables: Option<Tables>,
    pub kernel: Kernel,
    pub now: u32,
    held: Vec<(u8, Packet, UnderWay)>,
    flows: BTreeMap<(usize, u8), Expected>,
    /// What the last plans were made for: two sets of timeouts while it is not known which holds.
    in_force: Vec<TimeoutTicks>,
    pub planned: Cluster,
    /// What the maps may say: several while the last plans have not been carried out whole.
    loaded: Vec<Cluster>,
    /// The tick of the plan by which a real server of a service was taken out of the file.
    removed_since: BTreeMap<(usize, IpAddr), u32>,
    /// Packets that a promise was kept for, and those of them that were dropped until their real server is back.
    pub kept: u64,
    pub dropped: u64,
}

/// What a client may expect of its flow.
#[derive(Clone, Copy, Debug)]
struct Expected {
    server: IpAddr,
    established: bool,
    /// When it was last active.
    last: u32,
    /// The shortest timeouts since.
    timeouts: TimeoutTicks,
}

impl Model {
    /// The first plan is carried out; the clock is about to wrap.
    pub fn new(schedulers: [Scheduler; SERVICES]) -> Self {
        let cluster = Cluster::new(schedulers);
        let mut model = Self {
            planned: cluster.clone(),
            loaded: Vec::new(),
            removed_since: BTreeMap::new(),
            in_force: vec![ticks(&cluster.timeouts)],
            cluster,
            tables: Some(Tables::default()),
            kernel: Kernel::default(),
            now: TICK_MASK - 50,
            held: Vec::new(),
            flows: BTreeMap::new(),
            kept: 0,
            dropped: 0,
        };
        model.plan(&During::default());
        model
    }

    pub fn step(&mut self, step: &Step) {
        match step {
            Step::Packet(packet) => {
                self.pass();
                self.arrive(*packet);
            }
            Step::Plan { changes, during } => {
                for change in changes {
                    self.cluster.change(*change);
                }
                self.plan(during);
            }
            Step::Age { late, during } => self.expire(*late, during),
            Step::Wait(ticks) => self.wait(*ticks),
        }
        let unseen = self.kernel.unseen_records(self.now);
        assert!(unseen.is_empty(), "records nobody looks for: {unseen:?}");
    }

    /// Ticks pass: no packet stays under way for so long.
    pub fn wait(&mut self, ticks: u32) {
        for (_, packet, under_way) in std::mem::take(&mut self.held) {
            self.finish(packet, &under_way);
        }
        self.now = (self.now + ticks) & TICK_MASK;
    }

    pub fn plan(&mut self, during: &During) {
        let now = self.now;
        self.cut();
        let desired = self.cluster.desired();
        let tables = self.tables.take().unwrap_or_else(|| {
            let mut tables = Tables::adopt(&self.kernel.image, now).expect("tables that can be adopted");
            let scan = self.kernel.sweep(&tables, now);
            tables.quarantine_service_numbers(&scan);
            tables
        });
        let plan = tables
            .plan(&desired, &self.cluster.hops, now)
            .expect("room for everything");
        self.planned = self.cluster.clone();
        self.loaded.push(self.cluster.clone());
        let timeouts = ticks(&desired.timeouts);
        self.in_force.push(timeouts);
        for expected in self.flows.values_mut() {
            expected.timeouts = shorter(expected.timeouts, timeouts);
        }
        self.excuse();
        if self.carry_out(plan, during) {
            let planned = &self.planned;
            self.removed_since
                .retain(|&(service, server), _| planned.services[service].on && !planned.has_server(service, server));
            self.in_force = vec![timeouts];
            self.loaded = vec![self.planned.clone()];
        }
        self.excuse();
    }

    /// Finds the real servers whose drain timeout is over with the next plan. One that was out of the file before a plan that
    /// was not carried out whole may count from then.
    fn cut(&mut self) {
        for service in 0..SERVICES {
            for server in (0..=SORRY).map(address) {
                if self.cluster.services[service].on && !self.cluster.has_server(service, server) {
                    self.removed_since.entry((service, server)).or_insert(self.now);
                }
            }
        }
        let (cluster, now) = (&self.cluster, self.now);
        let cut = self.removed_since.iter().filter(|&(&(service, server), &since)| {
            let seconds = cluster.services[service].service.drain_timeout_seconds;
            let is_over = |seconds| elapsed_ticks(since, now) > ticks_of_seconds(seconds);
            !cluster.has_server(service, server) && seconds.is_some_and(is_over)
        });
        self.cluster.cut = cut.map(|(&server, _)| server).collect();
    }

    pub fn expire(&mut self, late: u32, during: &During) {
        let Some(tables) = self.tables.take() else {
            return;
        };
        let scan = self.kernel.sweep_and_count(&tables, self.now);
        self.wait(late);
        let plan = tables.plan_expiry(&scan);
        self.carry_out(plan, during);
    }

    /// Carries out a plan while packets come and go; false if the daemon was killed on the way.
    fn carry_out(&mut self, plan: Plan, during: &During) -> bool {
        let at = |place: u8| usize::from(place) * (plan.writes.len() + 1) / 256;
        let steps: Vec<Option<&MapWrite>> = plan.writes.iter().map(Some).chain([None]).collect();
        for (n, write) in steps.into_iter().enumerate() {
            self.pass();
            for (_, packet) in during.packets.iter().filter(|(place, _)| at(*place) == n) {
                self.arrive(*packet);
            }
            if during.slow.is_some_and(|place| at(place) == n) {
                self.wait(1);
            }
            if during.killed.is_some_and(|place| at(place) == n) {
                return false;
            }
            if let Some(write) = write {
                self.kernel.apply(write);
                if let Err(wrong) = self.kernel.image.check() {
                    panic!("{wrong}\nafter {write:?}\nof {:#?}", plan.writes);
                }
            }
        }
        self.tables = Some(plan.resulting_tables);
        true
    }

    /// Packets under way come closer to their end.
    fn pass(&mut self) {
        for (_, packet, under_way) in self.held.extract_if(.., |(left, ..)| *left == 0).collect::<Vec<_>>() {
            self.finish(packet, &under_way);
        }
        for (left, ..) in &mut self.held {
            *left -= 1;
        }
    }

    /// A packet arrives. Those of one flow follow each other on one CPU.
    fn arrive(&mut self, packet: Packet) {
        let same = |(_, other, _): &mut (u8, Packet, UnderWay)| {
            other.client == packet.client && other.service == packet.service
        };
        for (_, packet, under_way) in self.held.extract_if(.., same).collect::<Vec<_>>() {
            self.finish(packet, &under_way);
        }
        let key = self.cluster.id(packet.service);
        let client = Client {
            address: [198, 51, 100, packet.client],
            port: [0x80, packet.client],
        };
        let signal = match self.cluster.id(packet.service).protocol {
            Protocol::Tcp => packet.signal,
            Protocol::Udp => DATAGRAM,
        };
        let packet = Packet { signal, ..packet };
        match self.kernel.begin(&key, client, signal, self.now) {
            Some(under_way) => self.held.push((packet.held, packet, under_way)),
            None => self.expect(packet, None, false),
        }
        if packet.held == 0 {
            self.pass();
        }
    }

    fn finish(&mut self, packet: Packet, under_way: &UnderWay) {
        let stands = self.kernel.stands(&self.cluster.id(packet.service), under_way);
        let server = self.kernel.finish(under_way).filter(|_| stands);
        self.expect(packet, server, self.kernel.holds(under_way));
    }

    /// Holds what became of a packet against what its client expects, and takes note for the next.
    fn expect(&mut self, packet: Packet, went: Option<IpAddr>, held: bool) {
        let id = (packet.service, packet.client);
        let timeouts = self.in_force.iter().copied().reduce(shorter).expect("timeouts");
        let before = self
            .flows
            .remove(&id)
            .filter(|expected| !self.excused(packet.service, expected));
        let expected = before.filter(|expected| {
            let timeout = match packet.signal {
                DATAGRAM => expected.timeouts.udp,
                _ if expected.established => expected.timeouts.established,
                _ => expected.timeouts.half_open,
            };
            elapsed_ticks(expected.last, self.now) <= u32::from(timeout)
        });
        if let (Some(expected), false) = (expected, packet.signal == OPEN) {
            let dropped = self
                .loaded
                .iter()
                .map(|loaded| loaded.fate(packet.service, expected.server) == Fate::FailedDrop);
            let (all, any) = dropped.fold((true, false), |(all, any), dropped| (all && dropped, any || dropped));
            assert!(
                (went == Some(expected.server) && !all) || (went.is_none() && any),
                "{packet:?} at tick {} of {expected:?} went to {went:?}",
                self.now
            );
            self.kept += 1;
            self.dropped += u64::from(went.is_none());
        }
        let next = match (packet.signal, expected) {
            (OPEN, _) => went.map(|server| (server, false)),
            (DATAGRAM, Some(expected)) => held.then_some((expected.server, true)),
            (DATAGRAM, None) => went.filter(|_| held).map(|server| (server, true)),
            (DATA, Some(expected)) => Some((expected.server, true)),
            (ODD, Some(expected)) => {
                self.flows.insert(id, expected);
                None
            }
            _ => None,
        };
        if let Some((server, established)) = next {
            self.flows.insert(
                id,
                Expected {
                    server,
                    established,
                    last: self.now,
                    timeouts,
                },
            );
        }
    }

    /// Whether a flow may expect nothing: its backend has failed, or its service is gone.
    fn excused(&self, service: usize, expected: &Expected) -> bool {
        self.planned.fate(service, expected.server) == Fate::Lost
    }

    fn excuse(&mut self) {
        let mut flows = std::mem::take(&mut self.flows);
        flows.retain(|(service, _), expected| !self.excused(*service, expected));
        self.flows = flows;
    }
}

/// The shorter of each.
fn shorter(a: TimeoutTicks, b: TimeoutTicks) -> TimeoutTicks {
    TimeoutTicks {
        half_open: a.half_open.min(b.half_open),
        established: a.established.min(b.established),
        closing: a.closing.min(b.closing),
        closed: a.closed.min(b.closed),
        udp: a.udp.min(b.udp),
        ..a
    }
}
