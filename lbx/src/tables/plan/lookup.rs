//! The part of a plan by which packets find services and backends: VIPs, ports and QUIC server ids.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use lbx_common::lookup::{ALL_TCP_PORTS, ALL_UDP_PORTS, PRIMARY_PORT, PortEntry, VipEntry, port_key, strip_flags};

use super::{
    super::{
        MapWrite, PendingFree,
        allocate::TableFull,
        lookup::LookupTables,
        service::{DesiredServer, LoadedService},
    },
    PlanError, Planner,
};
use crate::desired::{PortSet, Protocol};

impl Planner {
    /// Updates the lookup tables: ports first, then the VIPs that refer to them, then removal.
    pub(super) fn update_lookup(&mut self) -> Result<(), PlanError> {
        let mut lookup = Arc::unwrap_or_clone(Arc::clone(&self.tables.lookup));
        let mut flags: BTreeMap<IpAddr, u64> = BTreeMap::new();
        let mut keys = BTreeSet::new();
        for (id, loaded) in self.tables.services.clone() {
            let vip = self.vip_number(&lookup, &flags, id.vip)?;
            let vip_flags = flags.entry(id.vip).or_insert_with(|| u64::from(vip));
            if loaded.ports == PortSet::All {
                *vip_flags |= match id.protocol {
                    Protocol::Tcp => ALL_TCP_PORTS,
                    Protocol::Udp => ALL_UDP_PORTS,
                };
            }
            for port in loaded.ports.iter() {
                let key = port_key(vip, id.protocol.number(), port.to_be_bytes());
                let primary = if port == id.port { PRIMARY_PORT } else { 0 };
                keys.insert(key);
                let entry = lookup.insert_port(key, u64::from(loaded.service_number) | primary)?;
                self.writes
                    .extend(entry.map(|(index, entry)| MapWrite::Port { index, entry }));
            }
        }
        for (&vip, &value) in &flags {
            let entry = lookup.set_vip(vip, value)?;
            self.writes
                .extend(entry.map(|(index, entry)| MapWrite::Vip { index, entry }));
        }
        self.forget(&mut lookup, &flags, &keys);
        self.tables.lookup = Arc::new(lookup);
        self.tables.lookup_current = true;
        Ok(())
    }

    /// The number of a VIP, allocated if it is new.
    fn vip_number(
        &mut self,
        lookup: &LookupTables,
        new: &BTreeMap<IpAddr, u64>,
        vip: IpAddr,
    ) -> Result<u16, TableFull> {
        let present = lookup.vips.get(&vip).map(|entry| entry.value);
        match new.get(&vip).copied().or(present) {
            Some(value) => Ok(strip_flags(value)),
            None => Ok(self.allocations().vips.allocate_one()? as u16),
        }
    }

    /// Removes the VIPs and ports of no service.
    fn forget(&mut self, lookup: &mut LookupTables, vips: &BTreeMap<IpAddr, u64>, ports: &BTreeSet<u64>) {
        for (_, gone) in lookup.vips.extract_if(.., |vip, _| !vips.contains_key(vip)) {
            self.writes.push(MapWrite::Vip {
                index: gone.index,
                entry: VipEntry::default(),
            });
            self.free_later(PendingFree::Vip(strip_flags(gone.value)));
            self.free_later(PendingFree::VipEntry(gone.index));
        }
        for (_, gone) in lookup.ports_by_key.extract_if(.., |key, _| !ports.contains(key)) {
            self.writes.push(MapWrite::Port {
                index: gone.index,
                entry: PortEntry::default(),
            });
            self.free_later(PendingFree::PortEntry(gone.index));
        }
    }

    /// Updates the backends of QUIC server ids.
    pub(super) fn update_quic_ids(&mut self, loaded: &mut LoadedService, servers: &[DesiredServer]) {
        let due = loaded.desired_backends_by_quic_id(servers);
        let before = std::mem::replace(&mut loaded.backends_by_quic_id, due);
        for (&id, &index) in &loaded.backends_by_quic_id {
            if before.get(&id) != Some(&index) {
                self.write_quic_id(loaded.service_number, id, Some(index));
            }
        }
        for &id in before.keys().filter(|id| !loaded.backends_by_quic_id.contains_key(id)) {
            self.write_quic_id(loaded.service_number, id, None);
        }
    }

    pub(super) fn write_quic_id(&mut self, service: u16, id: u16, backend: Option<u16>) {
        self.writes.push(MapWrite::QuicId { service, id, backend });
    }
}
