//! Clients that persist: a template says where all connections of a client, or of a network of clients, go.

use lbx_common::{
    flow::{EMPTY, Entry, TEMPLATE, TEMPLATE_NEW},
    service::LEAVE_DRAINING,
    slot::{self, Slot},
};

use crate::{
    backend, clock,
    flow::Flow,
    parse::Packet,
    schedule::schedule,
    service::{self, Meant},
};

/// The backend index for a new connection: that of the client's template, else the scheduler's, with a template from now on.
#[inline(always)]
pub fn choose(packet: &Packet, meant: &Meant, slot: Slot) -> u16 {
    lbx_persistence_choose(packet, u32::from(meant.number), slot.to_word()) as u16
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_persistence_choose(packet: *const Packet, service: u32, slot: u64) -> u32 {
    // SAFETY: null or a packet of the caller's.
    let Some(packet) = (unsafe { packet.as_ref() }) else {
        return u32::from(slot::NONE);
    };
    let Some(meant) = service::by_number(service as u16) else {
        return u32::from(slot::NONE);
    };
    let mut template = template(packet, &meant);
    let found = template.find();
    if found.state != EMPTY
        && !found.expired(template.now, &meant.timeouts())
        && backend::keeps(meant.backends(), found.backend, meant.flags & LEAVE_DRAINING == 0)
    {
        template.replace(
            found,
            Entry {
                seen: template.now,
                ..found
            },
        );
        return u32::from(found.backend);
    }
    let chosen = schedule(&meant, Slot::from_word(slot));
    if chosen != slot::NONE {
        // Without room for a template the client does not persist, and is served all the same.
        let _full = template.insert(chosen, TEMPLATE_NEW);
    }
    u32::from(chosen)
}

/// A connection of the client has proved to be real: so is its template, and nobody displaces it any more.
#[inline(always)]
pub fn prove(packet: &Packet, meant: &Meant) {
    let mut template = template(packet, meant);
    let found = template.find();
    if found.state != EMPTY {
        let entry = Entry {
            state: TEMPLATE,
            seen: template.now,
            ..found
        };
        template.replace(found, entry);
    }
}

#[inline(always)]
fn template(packet: &Packet, meant: &Meant) -> Flow {
    let (_, prefix, _) = meant.scheduling();
    Flow::template(packet.client.masked(u32::from(prefix)), meant.number, clock::now())
}
