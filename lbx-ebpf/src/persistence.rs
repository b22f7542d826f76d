//! Persistence: a template record names the backend of all connections of a client, or of a network of clients.

use lbx_common::{
    backend as state,
    flow::{EMPTY, FlowEntry, TEMPLATE, TEMPLATE_NEW},
    service::EXPIRE_QUIESCENT_TEMPLATE,
    slot,
};

use crate::{backend, clock, flow::Flow, packet::Packet, service_ref::ServiceRef};

/// The backend index that a client's template names; [`slot::NO_BACKEND`] where it has none.
#[inline(always)]
pub fn find_backend(packet: &Packet, service: &ServiceRef) -> u16 {
    lbx_persistence_find(packet, u32::from(service.number)) as u16
}

// Global functions: the verifier checks each once, on its own, and their stack is free again when the next one runs.

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_persistence_find(packet: *const Packet, service: u32) -> u32 {
    // SAFETY: null or a packet of the caller's.
    let (Some(packet), Some(service)) = (unsafe { packet.as_ref() }, ServiceRef::by_number(service as u16)) else {
        return u32::from(slot::NO_BACKEND);
    };
    let mut template = template(packet, &service);
    let found = template.find_out_of_line();
    let valid = found.state != EMPTY
        && !found.expired(template.current_tick, &service.timeouts())
        && may_return(
            service.backend_range(),
            found.backend,
            service.flags & EXPIRE_QUIESCENT_TEMPLATE == 0,
        );
    if !valid {
        return u32::from(slot::NO_BACKEND);
    }
    template.replace(found, found.seen_at(template.current_tick));
    u32::from(found.backend)
}

/// Writes a template, so that the client's next connections go to the same backend. If there is no free record, the client
/// is balanced without persistence.
#[inline(always)]
pub fn insert_template(packet: &Packet, service: &ServiceRef, backend: u16) {
    lbx_persistence_record(packet, u32::from(service.number), u32::from(backend));
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_persistence_record(packet: *const Packet, service: u32, backend: u32) -> u32 {
    // SAFETY: null or a packet of the caller's.
    let (Some(packet), Some(service)) = (unsafe { packet.as_ref() }, ServiceRef::by_number(service as u16)) else {
        return 0;
    };
    u32::from(template(packet, &service).insert(backend as u16, TEMPLATE_NEW))
}

/// Confirms the client's template once one of its connections is established: it can't be displaced any more.
#[inline(always)]
pub fn confirm_template(packet: &Packet, service: &ServiceRef) {
    let mut template = template(packet, service);
    let found = template.find_out_of_line();
    if found.state != EMPTY {
        let entry = FlowEntry {
            state: TEMPLATE,
            ..found.seen_at(template.current_tick)
        };
        template.replace(found, entry);
    }
}

#[inline(always)]
fn template(packet: &Packet, service: &ServiceRef) -> Flow {
    let (_, prefix, _) = service.scheduling_fields();
    Flow::template(
        packet.client.masked(u32::from(prefix)),
        service.number,
        clock::current_tick(),
    )
}

/// Whether a persistent client may open new connections to the backend of an index; `draining`: even if that drains.
#[inline(always)]
fn may_return(range: (u32, u32), index: u16, draining: bool) -> bool {
    backend::get(range, index).is_some_and(|backend| {
        let current = backend::state(backend);
        current == state::UP || (draining && current == state::DRAINING)
    })
}
