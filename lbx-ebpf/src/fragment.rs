//! Fragments: the first carries the ports, the others follow it.

use lbx_common::{
    flow::elapsed,
    fragment::{FragmentKey, Fragmented, LIFETIME},
    service::{HASH_ADDRESS, HASH_VIP, HASHES, RECORD_ALL},
    slot::NONE,
};

use crate::{clock, maps, parse::Packet, pick::Choice, service::Meant};

/// Where the first fragment of a packet went.
#[inline(always)]
pub fn first(packet: &Packet) -> Option<Fragmented> {
    let first = maps::fragmented(&key(packet))?;
    (elapsed(first.since, clock::now()) <= LIFETIME).then_some(first)
}

/// Keeps where a first fragment goes.
#[inline(always)]
pub fn keep(packet: &Packet, meant: &Meant, choice: &Choice) {
    if packet.is_first_fragment() {
        remember(packet, meant.number, choice.index);
    }
}

/// Lets those that follow a first fragment for no service pass as that does.
#[inline(always)]
pub fn leave(packet: &Packet) {
    remember(packet, NONE, NONE);
}

#[inline(never)]
fn remember(packet: &Packet, service: u16, backend: u16) {
    let first = Fragmented {
        service,
        backend,
        since: clock::now(),
    };
    maps::keep_fragmented(&key(packet), &first);
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

/// Whether a service with these flags can do without ports and records: its hash needs neither.
#[inline(always)]
pub fn needs_no_first(flags: u32) -> bool {
    flags & (HASHES | RECORD_ALL) == HASHES && flags & (HASH_ADDRESS | HASH_VIP) != 0
}
