//! A daemon without a kernel: plans and ages, and carries out every write in an [`Image`] that is checked after each.

use std::collections::BTreeMap;

use lbx_common::{
    address::Address,
    backend::MacAndState,
    flow::{FlowEntry, FlowEvent, FlowKey},
    service,
    slot::Slot,
};

use super::{
    super::{
        MapWrite, Plan, TableEvent, Tables,
        event::TableEventKind,
        flow_policy::ticks,
        scan::FlowScanResult,
        service::{BackendState, LoadedBackend, LoadedService},
    },
    cluster::{Change, Cluster, SERVICES, address, number},
    packets::{Client, Kernel},
};
use crate::desired::{
    OnFailure,
    Scheduler::{self, Maglev},
};

/// Tables, maps and what led there.
pub struct Daemon {
    pub cluster: Cluster,
    pub tables: Tables,
    pub kernel: Kernel,
    pub now: u32,
    /// Of the last plan.
    pub writes: Vec<MapWrite>,
    pub events: Vec<TableEvent>,
}

impl Daemon {
    /// One maglev service with three real servers, all slots at rest.
    pub fn new() -> Self {
        let mut daemon = Self::of([Maglev; SERVICES]);
        daemon.change(&[Change::Toggle(1), Change::Toggle(2)]);
        daemon.pass(5);
        daemon
    }

    /// Three services by these schedulers, just begun.
    pub fn of(schedulers: [Scheduler; SERVICES]) -> Self {
        let mut daemon = Self {
            cluster: Cluster::new(schedulers),
            tables: Tables::default(),
            kernel: Kernel::default(),
            now: 1_000,
            writes: Vec::new(),
            events: Vec::new(),
        };
        daemon.plan();
        daemon
    }

    /// Makes changes and plans.
    pub fn change(&mut self, changes: &[Change]) {
        for change in changes {
            self.cluster.change(*change);
        }
        self.plan();
    }

    pub fn plan(&mut self) {
        let plan = self.planned();
        self.carry_out(plan);
    }

    pub fn planned(&self) -> Plan {
        let plan = self.tables.plan(&self.cluster.desired(), &self.cluster.hops, self.now);
        plan.expect("room for everything")
    }

    /// Ticks pass, and then what they have brought.
    pub fn pass(&mut self, ticks: u32) {
        self.now += ticks;
        let scan = self.kernel.sweep(&self.tables, self.now);
        self.expire(&scan);
    }

    /// The same, where the counters of services are read too.
    pub fn pass_with_counters(&mut self, ticks: u32) {
        self.now += ticks;
        let scan = self.kernel.sweep_and_count(&self.tables, self.now);
        self.expire(&scan);
    }

    pub fn expire(&mut self, scan: &FlowScanResult) {
        self.carry_out(self.tables.plan_expiry(scan));
    }

    pub fn carry_out(&mut self, plan: Plan) {
        self.kernel.apply_all(&plan.writes);
        self.tables = plan.resulting_tables;
        self.writes = plan.writes;
        self.events = plan.events;
    }

    /// The daemon dies and another one takes over.
    pub fn restart(&mut self) {
        self.tables = Tables::adopt(&self.kernel.image, self.now).expect("tables that can be adopted");
        let scan = self.kernel.sweep(&self.tables, self.now);
        self.tables.quarantine_service_numbers(&scan);
    }

    /// A packet, and the number of the real server it goes to.
    pub fn packet(&mut self, service: usize, port: u16, signal: FlowEvent) -> Option<u8> {
        let client = Client {
            address: [198, 51, 100, 1],
            port: port.to_be_bytes(),
        };
        let under_way = self.kernel.begin(&self.cluster.id(service), client, signal, self.now)?;
        self.kernel.finish(&under_way).map(number)
    }

    /// A record that a packet of another time has left.
    pub fn leave_record(&mut self, service: u16, port: u16, entry: FlowEntry) {
        let key = FlowKey {
            client: Address::from_ipv4([198, 51, 100, 1]),
            client_port: port.to_be_bytes(),
            service,
        };
        self.kernel.records.insert((key, entry.vip_port), entry);
    }

    pub fn loaded(&self, service: usize) -> &LoadedService {
        &self.tables.services[&self.cluster.id(service)]
    }

    pub fn timeouts(&self) -> service::TimeoutTicks {
        ticks(&self.cluster.timeouts)
    }

    /// The backends of the first service: index, real server, weight, whether up.
    pub fn members(&self) -> Vec<(u16, u8, u16, bool)> {
        let state = |(&index, member): (&u16, &LoadedBackend)| {
            let server = number(member.address);
            (index, server, member.weight, member.state == BackendState::Up)
        };
        self.loaded(0).backends.iter().map(state).collect()
    }

    /// How many slots of the first service are like this.
    pub fn slots(&self, like: impl Fn(&Slot) -> bool) -> usize {
        self.loaded(0).slots.as_slice().iter().filter(|slot| like(slot)).count()
    }

    /// The ring of a service as packets see it, by numbers of real servers.
    pub fn ring(&self, service: usize) -> Vec<u8> {
        let image = &self.kernel.image;
        let (_, service) = image.find(&self.cluster.id(service)).expect("a service");
        (0..service.ring_len)
            .map(|turn| image.turn_of(&service, turn))
            .map(|index| image.backend_of(&service, index).expect("a backend").address[15] - 1)
            .collect()
    }

    /// The events of the first service.
    pub fn events(&self) -> Vec<TableEventKind> {
        self.events.iter().map(|event| event.kind.clone()).collect()
    }

    /// The MAC address of a backend of the first service as packets see it.
    pub fn mac(&self, index: u16) -> [u8; 6] {
        let (_, service) = self.kernel.image.find(&self.cluster.id(0)).expect("a service");
        let backend = self.kernel.image.backend_of(&service, index).expect("a backend");
        MacAndState::from_word(backend.mac_and_state).mac
    }

    /// Writes of the last plan by kind.
    pub fn kinds(&self) -> BTreeMap<&'static str, usize> {
        let mut kinds = BTreeMap::new();
        for write in &self.writes {
            *kinds.entry(kind(write)).or_default() += 1;
        }
        kinds
    }
}

pub fn kind(write: &MapWrite) -> &'static str {
    match write {
        MapWrite::Backend { .. } => "backend",
        MapWrite::Ring { .. } => "ring",
        MapWrite::Slots { .. } => "slots",
        MapWrite::Service { .. } => "service",
        MapWrite::Vip { entry, .. } if entry.vip_number_and_flags == 0 => "remove vip",
        MapWrite::Vip { .. } => "vip",
        MapWrite::Port { entry, .. } if entry.service_number_and_flags == 0 => "remove port",
        MapWrite::Port { .. } => "port",
        MapWrite::QuicId { .. } => "quic id",
        MapWrite::ResetServiceCounters(_) => "reset service",
        MapWrite::ResetBackendCounters(_) => "reset backend",
    }
}

/// The event of a real server that is lost.
pub fn unresolved(server: u8) -> TableEventKind {
    TableEventKind::ServerUnresolved {
        server: address(server),
        on_failure: OnFailure::Rehash,
    }
}
