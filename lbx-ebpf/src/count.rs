//! Per-CPU counters.

use lbx_common::{counters::Traffic, drops::DropReason};

use crate::{maps, packet::Packet, selection::Selection, service_ref::ServiceRef};

/// Counts a forwarded packet.
#[inline(always)]
pub fn forwarded(packet: &Packet, service: &ServiceRef, selection: &Selection) {
    let traffic = Traffic {
        packets: 1,
        bytes: u64::from(packet.ip_length),
        connections: u64::from(selection.new_flow),
        fin_rst_packets: u64::from(packet.flow_event.closes_connection()),
    };
    maps::add_service_traffic(u32::from(service.number), traffic);
    maps::add_backend_traffic(selection.next_hop.counter_index, traffic);
}

/// Counts a dropped packet.
#[inline(always)]
pub fn dropped(reason: DropReason) {
    maps::add_drop(reason.index());
}
