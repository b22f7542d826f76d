//! Per-CPU counters.

use lbx_common::{counters::Traffic, drops::DropReason};

use crate::{maps, packet::Packet, selection::Selection, service_ref::ServiceRef};

/// Counts a forwarded packet.
#[inline(always)]
pub fn forwarded(packet: &Packet, service: &ServiceRef, selection: &Selection) {
    let traffic = Traffic {
        packets: 1,
        bytes: u64::from(packet.length),
        connections: u64::from(selection.new),
        endings: u64::from(packet.signal.closes_connection()),
    };
    maps::add_to_service(u32::from(service.number), traffic);
    maps::add_to_backend(selection.next_hop.counter, traffic);
}

/// Counts a dropped packet.
#[inline(always)]
pub fn dropped(reason: DropReason) {
    maps::add_drop(reason.index());
}
