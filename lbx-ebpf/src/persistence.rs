//! Clients that persist: a template says where all connections of a client, or of a network of clients, go.

use lbx_common::{
    flow::{EMPTY, Entry, TEMPLATE, TEMPLATE_NEW},
    service::LEAVE_DRAINING,
    slot,
};

use crate::{
    backend, clock,
    flow::Flow,
    parse::Packet,
    service::{self, Meant},
};

/// The backend index that a client's template names; [`slot::NONE`] where it has none.
#[inline(always)]
pub fn remembered(packet: &Packet, meant: &Meant) -> u16 {
    lbx_persistence_remembered(packet, u32::from(meant.number)) as u16
}

// Functions of a name of their own are verified by themselves, and what they keep on the stack is gone when the next one runs.

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_persistence_remembered(packet: *const Packet, service: u32) -> u32 {
    // SAFETY: null or a packet of the caller's.
    let (Some(packet), Some(meant)) = (unsafe { packet.as_ref() }, service::by_number(service as u16)) else {
        return u32::from(slot::NONE);
    };
    let mut template = template(packet, &meant);
    let found = template.find_by_call();
    let stays = found.state != EMPTY
        && !found.expired(template.now, &meant.timeouts())
        && backend::keeps(meant.backends(), found.backend, meant.flags & LEAVE_DRAINING == 0);
    if !stays {
        return u32::from(slot::NONE);
    }
    let entry = Entry {
        seen: template.now,
        ..found
    };
    template.replace(found, entry);
    u32::from(found.backend)
}

/// Writes a template: the client's next connections follow this one. Without room for it the client does not persist, and
/// is served all the same.
#[inline(always)]
pub fn remember(packet: &Packet, meant: &Meant, backend: u16) {
    lbx_persistence_remember(packet, u32::from(meant.number), u32::from(backend));
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_persistence_remember(packet: *const Packet, service: u32, backend: u32) -> u32 {
    // SAFETY: null or a packet of the caller's.
    let (Some(packet), Some(meant)) = (unsafe { packet.as_ref() }, service::by_number(service as u16)) else {
        return 0;
    };
    u32::from(template(packet, &meant).insert(backend as u16, TEMPLATE_NEW))
}

/// A connection of the client has proved to be real: so is its template, and nobody displaces it any more.
#[inline(always)]
pub fn prove(packet: &Packet, meant: &Meant) {
    let mut template = template(packet, meant);
    let found = template.find_by_call();
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
