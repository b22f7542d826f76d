//! Step three: which backend gets the packet.
//!
//! The rule: whoever has a record goes where it says; a new connection goes where the scheduler says and is recorded if
//! that is not the slot's owner; everything else goes to the owner. In a hashed service at rest every slot is its own
//! owner and nothing is read or written but the slot.

use lbx_common::{
    drops::DropReason,
    flow::{self as record, EMPTY, Entry, Signal},
    hash,
    service::{HASH_ADDRESS, HASH_VIP, HASHED, ONE_PACKET, PERSISTENT, QUIC, RECORD_ALL},
    slot::{self, Slot},
};

use crate::{
    backend::{self, Hop},
    clock,
    flow::Flow,
    packet::Frame,
    parse::Packet,
    persistence, quic,
    schedule::schedule,
    service::{self, Meant},
    verdict::{Exit, Step},
};

/// Where a packet goes.
pub struct Choice {
    /// How that is reached.
    pub hop: Hop,
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
    /// Where the first fragment of the packet went.
    Fragment = 4,
    /// The server id in a QUIC connection id.
    Quic = 5,
}

impl Why {
    #[inline(always)]
    const fn of_code(code: u8) -> Self {
        match code {
            1 => Self::Record,
            2 => Self::Scheduled,
            3 => Self::Owner,
            4 => Self::Fragment,
            5 => Self::Quic,
            _ => Self::Slot,
        }
    }
}

/// Picks the backend.
#[inline(always)]
pub fn pick(frame: &Frame<'_>, packet: &Packet, meant: &Meant) -> Step<Choice> {
    const NO_BACKEND: Exit = Exit::Drop(DropReason::NoBackend);
    if meant.flags & QUIC != 0
        && let Some(index) = quic::server(frame, packet, meant.number)
        && backend::usable(meant.backends(), index)
    {
        return choice(meant, index, false, Why::Quic).ok_or(NO_BACKEND);
    }
    if meant.backend != slot::NONE {
        return choice(meant, meant.backend, false, Why::Fragment).ok_or(NO_BACKEND);
    }
    let slot = slot_of(packet, meant).ok_or(Exit::Drop(DropReason::TableMismatch))?;
    if meant.flags & ONE_PACKET != 0 && packet.signal.mentions() {
        // Whoever sent what an ICMP error is about is not known.
        return choice(meant, slot.current, false, Why::Slot).ok_or(NO_BACKEND);
    }
    if meant.flags & ONE_PACKET != 0 {
        return choice(meant, schedule(meant, slot), false, Why::Scheduled).ok_or(NO_BACKEND);
    }
    if meant.flags & RECORD_ALL == 0 && !slot.tracked {
        let opens = packet.signal.opens();
        return choice(meant, slot.current, opens, Why::Slot)
            .or_else(|| choice(meant, slot.owner, opens, Why::Owner))
            .ok_or(NO_BACKEND);
    }
    let Picked { index, new, why } = recorded(packet, meant, slot);
    choice(meant, index, new, why).ok_or(NO_BACKEND)
}

/// The slot of a packet: by what the service hashes.
#[inline(always)]
fn slot_of(packet: &Packet, meant: &Meant) -> Option<Slot> {
    let without_ports = meant.flags & (HASH_ADDRESS | HASH_VIP) != 0;
    let address = if meant.flags & HASH_VIP != 0 {
        packet.vip
    } else {
        packet.client
    };
    let [client_port, vip_port] = if without_ports {
        [[0; 2]; 2]
    } else {
        [packet.client_port, packet.vip_port]
    };
    let (base, len) = meant.slots();
    let tuple = hash::tuple(address, client_port, vip_port);
    crate::maps::slot(base.wrapping_add(hash::slot(tuple, len)))
}

/// The way of a service that records every flow, or of a slot that some record may concern.
#[inline(always)]
fn recorded(packet: &Packet, meant: &Meant, slot: Slot) -> Picked {
    let mut flow = Flow::new(
        packet.client,
        packet.client_port,
        meant.number,
        packet.vip_port,
        clock::now(),
    );
    let found = flow.find();
    // Nearly always there is a record that lives, and nothing new to be said of it; then no function need be called.
    if lives(found, packet, meant, flow.now) && found.after(packet.signal, flow.now) == found {
        return Picked {
            index: found.backend,
            new: false,
            why: Why::Record,
        };
    }
    let known = lbx_pick_known(packet, &raw const flow, slot.to_word(), found.to_word());
    if known != BEGINS {
        return Picked::from_word(known);
    }
    Picked::from_word(lbx_pick_new(packet, &raw const flow, slot.to_word(), found.to_word()))
}

/// What is returned by functions of a name of their own, which are verified by themselves, once, whatever leads to them.
#[derive(Clone, Copy)]
struct Picked {
    index: u16,
    new: bool,
    why: Why,
}

/// A word that says that a flow begins.
const BEGINS: u64 = 1 << 40;

impl Picked {
    /// Index in bits 0–15, whether the flow is new in 16, why in 24–31.
    #[inline(always)]
    fn to_word(self) -> u64 {
        u64::from(self.index) | u64::from(self.new) << 16 | u64::from(self.why as u8) << 24
    }

    #[inline(always)]
    fn from_word(word: u64) -> Self {
        Self {
            index: word as u16,
            new: word & 1 << 16 != 0,
            why: Why::of_code((word >> 24) as u8),
        }
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_pick_known(packet: *const Packet, flow: *const Flow, slot: u64, found: u64) -> u64 {
    // SAFETY: null or the caller's.
    let (Some(packet), Some(flow)) = (unsafe { (packet.as_ref(), flow.as_ref()) }) else {
        return NOBODY;
    };
    match service::by_number(flow.service) {
        Some(meant) => known(packet, flow, &meant, Slot::from_word(slot), Entry::from_word(found)),
        None => NOBODY,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_pick_new(packet: *const Packet, flow: *const Flow, slot: u64, found: u64) -> u64 {
    // SAFETY: null or the caller's.
    let (Some(packet), Some(flow)) = (unsafe { (packet.as_ref(), flow.as_ref()) }) else {
        return NOBODY;
    };
    match service::by_number(flow.service) {
        Some(meant) => begin(packet, flow, &meant, Slot::from_word(slot), Entry::from_word(found)).to_word(),
        None => NOBODY,
    }
}

const NOBODY: u64 = slot::NONE as u64;

/// Where the record of a flow, or its lack, leads. `found` is what was found, [`EMPTY`] for nothing.
#[inline(always)]
fn known(packet: &Packet, flow: &Flow, meant: &Meant, slot: Slot, found: Entry) -> u64 {
    if lives(found, packet, meant, flow.now) {
        touch(flow, found, packet, meant);
        return Picked {
            index: found.backend,
            new: false,
            why: Why::Record,
        }
        .to_word();
    }
    // UDP has no first packet: where every flow is recorded, the one without a record is new.
    let all_known = meant.flags & (RECORD_ALL | HASHED) == RECORD_ALL;
    if packet.signal.opens() || (all_known && packet.signal.datagram()) {
        return BEGINS;
    }
    let owner = owner(meant, slot);
    let recorded = !at_rest(meant, slot, owner) && remember(flow, meant, owner, packet.signal);
    // Longer timeouts must not bring an expired one back to life.
    if !recorded && !packet.signal.mentions() {
        flow.erase(found);
    }
    Picked {
        index: owner,
        new: false,
        why: Why::Owner,
    }
    .to_word()
}

/// Whether a record counts as found.
#[inline(always)]
fn lives(found: Entry, packet: &Packet, meant: &Meant, now: u32) -> bool {
    let over = found.state == EMPTY || (packet.signal.opens() && record::ending(found.state));
    !over && !found.expired(now, &meant.timeouts()) && backend::usable(meant.backends(), found.backend)
}

/// A new flow. Where nobody takes it, nobody gets it: an owner that drains keeps what it has.
#[inline(always)]
fn begin(packet: &Packet, flow: &Flow, meant: &Meant, slot: Slot, stale: Entry) -> Picked {
    let chosen = choose(packet, meant, slot);
    let mut picked = Picked {
        index: chosen,
        new: true,
        why: Why::Scheduled,
    };
    if chosen == slot::NONE {
        return picked;
    }
    let owner = owner(meant, slot);
    // Whoever was chosen may have died since: the flow is the owner's then, and known like any other.
    if !backend::usable(meant.backends(), chosen) {
        picked.index = owner;
        picked.why = Why::Owner;
    }
    if !at_rest(meant, slot, picked.index) && remember(flow, meant, picked.index, packet.signal) {
        return picked;
    }
    // It is the owner's, who needs no record; also where there is no room for one.
    flow.erase(stale);
    Picked {
        index: owner,
        why: Why::Owner,
        ..picked
    }
}

/// Who is to get a new flow: where its client was before, if that matters, or whom the scheduler says.
#[inline(always)]
fn choose(packet: &Packet, meant: &Meant, slot: Slot) -> u16 {
    if meant.flags & PERSISTENT == 0 {
        return schedule(meant, slot);
    }
    let remembered = persistence::remembered(packet, meant);
    if remembered != slot::NONE {
        return remembered;
    }
    let chosen = schedule(meant, slot);
    let (.., sorry) = meant.scheduling();
    // Nobody is to be sent to the sorry server longer than it takes.
    if chosen != slot::NONE && chosen != sorry {
        persistence::remember(packet, meant, chosen);
    }
    chosen
}

/// Who has the flows of a slot that have no record: its current backend, if the owner has failed before the daemon has given
/// the slot a new one.
#[inline(always)]
fn owner(meant: &Meant, slot: Slot) -> u16 {
    if backend::usable(meant.backends(), slot.owner) {
        slot.owner
    } else {
        slot.current
    }
}

/// Whether a flow that goes to this backend needs no record: it is where the slot leads, and leads alone. An owner that has
/// failed leads nobody: what goes to another for that has to be known, since the daemon may choose a third.
#[inline(always)]
fn at_rest(meant: &Meant, slot: Slot, index: u16) -> bool {
    meant.flags & RECORD_ALL == 0 && index == slot.owner && slot.current == slot.owner
}

/// Notes a packet of a recorded flow. At most one write a tick: whoever loses the race lost it to the same news.
#[inline(always)]
fn touch(flow: &Flow, found: Entry, packet: &Packet, meant: &Meant) {
    let entry = found.after(packet.signal, flow.now);
    if entry == found {
        return;
    }
    let proved = record::displaceable(found.state) && !record::displaceable(entry.state);
    if flow.replace(found, entry) && proved && meant.flags & PERSISTENT != 0 {
        persistence::prove(packet, meant);
    }
}

/// Writes a record for a flow that begins or was not known; false where none may be had.
#[inline(always)]
fn remember(flow: &Flow, meant: &Meant, backend: u16, signal: Signal) -> bool {
    let Some(state) = record::first_state(signal) else {
        return false;
    };
    backend::usable(meant.backends(), backend) && flow.insert(backend, state)
}

/// A choice of a backend that may get packets.
#[inline(always)]
fn choice(meant: &Meant, index: u16, new: bool, why: Why) -> Option<Choice> {
    let hop = backend::hop(meant.backends(), index)?;
    Some(Choice { hop, index, new, why })
}
