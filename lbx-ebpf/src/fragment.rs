//! Fragments: the first carries the ports, later ones are sent to the same backend.

use lbx_common::{
    flow::elapsed,
    fragment::{FirstFragment, FragmentKey, LIFETIME},
    service::{HASH_ADDRESS, HASH_VIP, HASHES, RECORD_ALL},
    slot::NONE,
};

use crate::{clock, maps, packet::Packet, selection::Selection, service_ref::ServiceRef};

/// Where the first fragment of a packet was sent.
#[inline(always)]
pub fn first(packet: &Packet) -> Option<FirstFragment> {
    let first = maps::first_fragment(&key(packet))?;
    (elapsed(first.since, clock::now()) <= LIFETIME).then_some(first)
}

/// Records where a first fragment is sent; does nothing for other packets.
#[inline(always)]
pub fn record_selection(packet: &Packet, service: &ServiceRef, selection: &Selection) {
    if packet.is_first_fragment() {
        record(packet, service.number, selection.index);
    }
}

/// Records that a first fragment matched no service and passed, so that the later ones pass too.
#[inline(always)]
pub fn record_pass(packet: &Packet) {
    record(packet, NONE, NONE);
}

#[inline(never)]
fn record(packet: &Packet, service: u16, backend: u16) {
    let first = FirstFragment {
        service,
        backend,
        since: clock::now(),
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
pub fn needs_no_first(flags: u32) -> bool {
    flags & (HASHES | RECORD_ALL) == HASHES && flags & (HASH_ADDRESS | HASH_VIP) != 0
}
