//! Per-CPU counters.

use lbx_common::{
    counters::{CountedFrame, Traffic},
    drops::DropReason,
};

use crate::{
    frame::{Frame, Header},
    maps,
    packet::Packet,
    selection::Selection,
    service_ref::ServiceRef,
};

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

// SAFETY: valid for every bit pattern.
unsafe impl Header for CountedFrame {}

/// Takes a frame of the daemon's self-test, by what the data of this test run say of it, off the counters.
#[inline(always)]
pub fn uncount(frame: &Frame<'_>) {
    if let Some(counted) = frame.read::<CountedFrame>(0) {
        maps::add_service_traffic(counted.service, counted.negated());
        maps::add_backend_traffic(counted.backend_counter, counted.negated());
    }
}
