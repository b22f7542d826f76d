//! A scan of all flow records: counts flows, and finds records that can be erased.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use lbx_common::flow::{self, BEING_WRITTEN, EMPTY, FlowEntry, FlowKey};

use super::{
    Tables,
    service::LoadedService,
    templates::{ExpiringTemplates, is_persistent},
};
use crate::desired::Protocol;

/// The result of a scan of all flow records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowScanResult {
    /// The tick at which it began.
    pub tick: u32,
    /// Live flows by service number and backend index.
    pub flows: HashMap<(u16, u16), FlowCounts>,
    /// Slots (service number, slot) with a live record that names another backend than the slot's owner.
    pub slots_with_disagreeing_records: HashSet<(u16, u32)>,
    /// Service numbers named by some record, live or expired.
    pub referenced_services: HashSet<u16>,
    /// Backends (service number, index) named by some record, live or expired.
    pub referenced_backends: HashSet<(u16, u16)>,
    /// Live records.
    pub live_records: u64,
    /// Service numbers whose counters were 0 when they were read, after `tick`: no packet has been forwarded for them yet, so no
    /// connection depends on an owner. None where the counters have not been read.
    pub services_without_traffic: HashSet<u16>,
}

/// Flows of a backend, in the two classes of the schedulers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCounts {
    /// Established, and UDP.
    pub active: u64,
    /// Half-open and closing.
    pub inactive: u64,
}

impl FlowCounts {
    /// ActiveConn and InActConn as ipvsadm has them. In IPVS every connection begins as inactive (`__ip_vs_update_dest` in
    /// `net/netfilter/ipvs/ip_vs_ctl.c` sets `IP_VS_CONN_F_INACTIVE`), and only TCP makes one active, when it is established:
    /// UDP flows are inactive.
    #[must_use]
    pub const fn as_in_ipvs(self, protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => self,
            Protocol::Udp => Self {
                active: 0,
                inactive: self.active + self.inactive,
            },
        }
    }
}

/// What to do with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordAction {
    /// Keep it.
    Keep,
    /// Erase it: expired, or its service or backend is gone.
    Erase,
    /// Replace it by this: a template of which a connection lives.
    Rearm(FlowEntry),
}

/// Scans flow records against a set of tables at one tick: first the templates that are about to expire, then all records, then
/// those templates again.
pub struct FlowScanner<'t> {
    services: Vec<Option<(IpAddr, &'t LoadedService)>>,
    expiring: ExpiringTemplates,
    scan: FlowScanResult,
}

impl<'t> FlowScanner<'t> {
    /// A scan against the tables at tick `now`.
    #[must_use]
    pub fn new(tables: &'t Tables, now: u32) -> Self {
        let mut services = Vec::new();
        for (id, loaded) in &tables.services {
            let number = usize::from(loaded.service_number);
            if services.len() <= number {
                services.resize(number + 1, None);
            }
            services[number] = Some((id.vip, loaded.as_ref()));
        }
        Self {
            services,
            expiring: ExpiringTemplates::default(),
            scan: FlowScanResult {
                tick: now,
                ..FlowScanResult::default()
            },
        }
    }

    /// Whether there may be templates: whether some service is persistent.
    #[must_use]
    pub fn expects_templates(&self) -> bool {
        let mut services = self.services.iter().flatten();
        services.any(|(_, service)| is_persistent(service))
    }

    /// Before all records are visited: whether a record is a template about to expire. Its action is that of
    /// [`Self::template_action`], after the visits.
    pub fn add_expiring_template(&mut self, key: FlowKey, entry: FlowEntry) -> bool {
        flow::is_template(entry.state)
            && self
                .service(key.service)
                .is_some_and(|(_, service)| self.expiring.add(service, key, entry, self.scan.tick))
    }

    /// What to do with a template that was about to expire.
    pub fn template_action(&mut self, key: FlowKey, entry: FlowEntry) -> RecordAction {
        let Some((_, service)) = self.service(key.service) else {
            return RecordAction::Erase;
        };
        let (timeouts, now) = (&service.policy.timeouts, self.scan.tick);
        let action = match self.expiring.re_armed(timeouts, key, entry, now) {
            Some(re_armed) => RecordAction::Rearm(re_armed),
            None if entry.expired(now, timeouts) => return RecordAction::Erase,
            None => RecordAction::Keep,
        };
        self.scan.live_records += 1;
        action
    }

    /// Counts a record.
    pub fn visit(&mut self, key: FlowKey, entry: FlowEntry) -> RecordAction {
        if matches!(entry.state, EMPTY | BEING_WRITTEN) {
            return RecordAction::Keep;
        }
        let named = (key.service, entry.backend);
        self.scan.referenced_services.insert(key.service);
        self.scan.referenced_backends.insert(named);
        let Some((vip, service)) = self.service(key.service) else {
            return RecordAction::Erase;
        };
        if flow::is_template(entry.state) && self.expiring.contains(key) {
            return RecordAction::Keep;
        }
        if entry.expired(self.scan.tick, &service.policy.timeouts) || !service.may_own_flows(entry.backend) {
            return RecordAction::Erase;
        }
        self.scan.live_records += 1;
        if !flow::is_connection(entry.state) {
            return RecordAction::Keep;
        }
        let flows = self.scan.flows.entry(named).or_default();
        if flow::is_active(entry.state) {
            flows.active += 1;
        } else {
            flows.inactive += 1;
        }
        self.expiring.note_connection(service, key, entry);
        let slots = service.slots.as_slice();
        let slot = service.slot_of_record(vip, key, entry.vip_port);
        if slots.get(slot as usize).is_some_and(|slot| slot.owner != entry.backend) {
            self.scan.slots_with_disagreeing_records.insert((key.service, slot));
        }
        RecordAction::Keep
    }

    /// The backend counter that a record counts for.
    #[must_use]
    pub fn counter_index(&self, key: FlowKey, entry: FlowEntry) -> Option<u32> {
        let (_, service) = self.service(key.service)?;
        service.backends.get(&entry.backend).map(|member| member.counter_index)
    }

    fn service(&self, number: u16) -> Option<(IpAddr, &'t LoadedService)> {
        self.services.get(usize::from(number)).copied().flatten()
    }

    /// The result.
    #[must_use]
    pub fn finish(self) -> FlowScanResult {
        self.scan
    }
}
