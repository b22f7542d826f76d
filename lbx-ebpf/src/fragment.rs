//! Fragments: the first carries the ports, later ones are sent to the same backend.

use lbx_common::{
    flow::elapsed_ticks,
    fragment::{FirstFragment, FragmentKey, LIFETIME_TICKS},
    service::{HASH_CLIENT_ADDRESS, HASH_VIP, RECORD_ALL, SCHEDULE_BY_HASH},
    slot::NO_BACKEND,
};

use crate::{clock, maps, packet::Packet, selection::Selection, service_ref::ServiceRef};

/// Where the first fragment of a packet was sent.
#[inline(always)]
pub fn find_first_fragment(packet: &Packet) -> Option<FirstFragment> {
    let first = maps::first_fragment(&key(packet))?;
    (elapsed_ticks(first.tick, clock::current_tick()) <= LIFETIME_TICKS).then_some(first)
}

/// Records where a first fragment is sent; does nothing for other packets.
#[inline(always)]
pub fn record_selection(packet: &Packet, service: &ServiceRef, selection: &Selection) {
    if packet.is_first_fragment() {
        record(packet, service.number, selection.index_in_service);
    }
}

/// Records that a first fragment matched no service and passed, so that the later ones pass too.
#[inline(always)]
pub fn record_pass(packet: &Packet) {
    record(packet, NO_BACKEND, NO_BACKEND);
}

#[inline(never)]
fn record(packet: &Packet, service: u16, backend: u16) {
    let first = FirstFragment {
        service,
        backend,
        tick: clock::current_tick(),
    };
    maps::insert_first_fragment(&key(packet), &first);
}

#[inline(always)]
fn key(packet: &Packet) -> FragmentKey {
    FragmentKey {
        client: packet.client,
        vip: packet.vip,
        identification: packet.identification,
        protocol: if packet.vip.is_ipv4() {
            u32::from(packet.protocol)
        } else {
            0
        },
    }
}

/// Whether a service with these flags can forward without ports and records: its hash uses neither.
#[inline(always)]
pub fn forwards_without_first_fragment(flags: u32) -> bool {
    flags & (SCHEDULE_BY_HASH | RECORD_ALL) == SCHEDULE_BY_HASH && flags & (HASH_CLIENT_ADDRESS | HASH_VIP) != 0
}
