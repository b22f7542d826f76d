//! Step three: which backend gets the packet.
//!
//! The rule: whoever has a record goes where it says; a new connection goes where the scheduler says and is recorded if
//! that is not the slot's owner; everything else goes to the owner. In a hashed service at rest every slot is its own
//! owner and nothing is read or written but the slot.

use lbx_common::{
    backend::{self, Backend, Head, word_mac},
    drops::DropReason,
    flow::{self as record, Entry, FlowKey, Signal},
    hash,
    service::{HASHED, RECORD_ALL, Service},
    slot::{self, Slot},
};

use crate::{
    atomic, clock,
    flow::{self, Flow},
    maps,
    packet::{Mac, mac_words},
    parse::Packet,
    verdict::{Exit, Step},
};

/// Where a packet goes: plain values, read once, since the backend may change under the program's feet.
pub struct Choice {
    /// To whom.
    pub mac: Mac,
    /// From the NIC with this address.
    pub source: Mac,
    /// By the NIC with this index.
    pub ifindex: u32,
    /// Place in the backend counters.
    pub counter: u32,
    /// Backend's index within the service.
    pub index: u16,
    /// Whether a connection (TCP) or a recorded flow (UDP) began with this packet.
    pub new: bool,
    /// Why there.
    pub why: Why,
}

/// Why a packet goes where it goes; told by the trace.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Why {
    /// The slot's backend: a hashed service at rest.
    Slot = 0,
    /// The flow's record.
    Record = 1,
    /// The scheduler's choice for a new flow.
    Scheduled = 2,
    /// The slot's owner: it has what has no record.
    Owner = 3,
}

/// Picks the backend.
#[inline(always)]
pub fn pick(packet: &Packet, service: &Service) -> Step<Choice> {
    let tuple = hash::tuple(packet.client, packet.client_port, packet.vip_port);
    let place = service.slots_base.wrapping_add(hash::slot(tuple, service.slots_len));
    let slot = maps::slot(place).ok_or(Exit::Drop(DropReason::TableMismatch))?;
    if service.flags & RECORD_ALL == 0 && !slot.tracked {
        let opens = matches!(packet.signal, Signal::Open);
        return choice(service, slot.current, opens, Why::Slot)
            .or_else(|| fallback(service, slot, opens))
            .ok_or(NOBODY);
    }
    recorded(packet, service, slot, tuple).ok_or(NOBODY)
}

const NOBODY: Exit = Exit::Drop(DropReason::NoBackend);

/// The way of a service that records every flow, or of a slot that some record may concern.
#[inline(always)]
fn recorded(packet: &Packet, service: &Service, slot: Slot, tuple: u64) -> Option<Choice> {
    let flow = Flow {
        key: FlowKey {
            client: packet.client,
            client_port: packet.client_port,
            service: service.number,
        },
        vip_port: packet.vip_port,
        tuple,
        now: clock::now(),
    };
    let opens = matches!(packet.signal, Signal::Open);
    let mut stale = false;
    if let Some(found) = flow::find(&flow) {
        let over = opens && record::ending(found.entry.state);
        if !over
            && !found.entry.expired(flow.now, &service.timeouts)
            && let Some(choice) = choice(service, found.entry.backend, false, Why::Record)
        {
            flow::touch(&found, packet.signal, flow.now);
            return Some(choice);
        }
        stale = true;
    }
    let all = service.flags & RECORD_ALL != 0;
    // UDP has no first packet: where every flow is recorded, the one without a record is new.
    let all_known = all && service.flags & HASHED == 0;
    if opens || (all_known && matches!(packet.signal, Signal::Datagram)) {
        let chosen = schedule(service, slot);
        // Everyone drains: an owner keeps what it has, and gets nothing new.
        if chosen == slot::NONE {
            return None;
        }
        if (all || chosen != slot.owner) && usable(service, chosen) && remember(&flow, service, chosen, packet.signal) {
            return choice(service, chosen, true, Why::Scheduled);
        }
        // It is the owner's, who needs no record; also where there is no room for one.
        if stale {
            flow::erase(&flow);
        }
        return choice(service, slot.owner, true, Why::Owner).or_else(|| fallback(service, slot, true));
    }
    if (all || slot.current != slot.owner) && usable(service, slot.owner) {
        remember(&flow, service, slot.owner, packet.signal);
    }
    choice(service, slot.owner, false, Why::Owner).or_else(|| fallback(service, slot, false))
}

/// Writes a record for a flow that begins or was not known; false where none may be had.
#[inline(always)]
fn remember(flow: &Flow, service: &Service, backend: u16, signal: Signal) -> bool {
    let Some(state) = record::first_state(signal) else {
        return false;
    };
    let entry = Entry {
        vip_port: flow.vip_port,
        backend,
        state,
        seen: flow.now,
    };
    flow::insert(flow, entry, &service.timeouts)
}

/// The scheduler: the next of the ring, or what the hash says.
#[inline(always)]
fn schedule(service: &Service, slot: Slot) -> u16 {
    if service.ring_len == 0 {
        return slot.current;
    }
    let turn = maps::next_turn(service.number) % u64::from(service.ring_len);
    maps::ring(service.ring_base.wrapping_add(turn as u32)).unwrap_or(slot.current)
}

/// The slot's current backend, for a packet whose owner has failed before the daemon has given the slot a new one.
#[inline(always)]
fn fallback(service: &Service, slot: Slot, new: bool) -> Option<Choice> {
    choice(service, slot.current, new, Why::Slot)
}

/// A choice of a backend that is up.
#[inline(always)]
fn choice(service: &Service, index: u16, new: bool, why: Why) -> Option<Choice> {
    let backend = place(service, index)?;
    let head = Head::from_word(atomic::load(&raw const backend.head));
    (head.state == backend::UP).then(|| Choice {
        mac: mac_words(head.mac),
        source: mac_words(word_mac(atomic::load(&raw const backend.source))),
        ifindex: backend.ifindex,
        counter: backend.counter,
        index,
        new,
        why,
    })
}

/// Whether packets may be sent to the backend of an index.
#[inline(always)]
fn usable(service: &Service, index: u16) -> bool {
    place(service, index)
        .is_some_and(|backend| Head::from_word(atomic::load(&raw const backend.head)).state == backend::UP)
}

/// What stands at an index.
#[inline(always)]
fn place(service: &Service, index: u16) -> Option<&'static Backend> {
    if u32::from(index) >= service.backends_len {
        return None;
    }
    maps::backend(service.backends_base.wrapping_add(u32::from(index)))
}
