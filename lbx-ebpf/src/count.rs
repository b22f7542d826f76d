//! Counting, each CPU for itself.

use lbx_common::{counters::Traffic, drops::DropReason, flow::Signal, service::Service};

use crate::{maps, parse::Packet, pick::Choice};

/// Counts a packet that is sent on.
#[inline(always)]
pub fn forwarded(packet: &Packet, service: &Service, choice: &Choice) {
    let what = Traffic {
        packets: 1,
        bytes: u64::from(packet.length),
        connections: u64::from(choice.new),
        endings: u64::from(matches!(packet.signal, Signal::Finish | Signal::Reset)),
    };
    maps::add_to_service(u32::from(service.number), what);
    maps::add_to_backend(choice.counter, what);
}

/// Counts a packet that is dropped.
#[inline(always)]
pub fn dropped(reason: DropReason) {
    maps::add_drop(reason.index());
}
