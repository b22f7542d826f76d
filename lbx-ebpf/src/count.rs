//! Counting, each CPU for itself.

use lbx_common::{counters::Traffic, drops::DropReason};

use crate::{maps, parse::Packet, pick::Choice, service::Meant};

/// Counts a packet that is sent on.
#[inline(always)]
pub fn forwarded(packet: &Packet, meant: &Meant, choice: &Choice) {
    let what = Traffic {
        packets: 1,
        bytes: u64::from(packet.length),
        connections: u64::from(choice.new),
        endings: u64::from(packet.signal.ends()),
    };
    maps::add_to_service(u32::from(meant.number), what);
    maps::add_to_backend(choice.hop.counter, what);
}

/// Counts a packet that is dropped.
#[inline(always)]
pub fn dropped(reason: DropReason) {
    maps::add_drop(reason.index());
}
