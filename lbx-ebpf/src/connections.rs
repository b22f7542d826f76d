//! The number of connections of each backend, derived from the flow records that name it: each change of a record, also one
//! by user space's sweeper, adds the difference.

use lbx_common::{
    flow::{self, FlowEntry},
    load,
};

use crate::{atomic, backend, maps, service_ref::ServiceRef};

/// Accounts for a change of a service's record. The record's backend stays the same.
#[inline(always)]
pub fn update_connection_count(service: u16, before: FlowEntry, after: FlowEntry) {
    let difference = load::increment_of_state(after.state).wrapping_sub(load::increment_of_state(before.state));
    if difference == 0 {
        return;
    }
    let index = if flow::is_connection(before.state) {
        before.backend
    } else {
        after.backend
    };
    lbx_connections_add(u32::from(service), u32::from(index), difference);
}

/// A global function: the verifier checks it once, on its own.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_connections_add(service: u32, index: u32, difference: u64) -> u32 {
    let Some(service) = ServiceRef::by_number(service as u16) else {
        return 0;
    };
    // A removed service has capacity 0: its backend entries may belong to another service by now.
    let Some(backend) = backend::get(service.backend_range(), index as u16) else {
        return 0;
    };
    let Some(load) = maps::backend_load(backend.counter_index) else {
        return 0;
    };
    // SAFETY: only the address is taken.
    atomic::fetch_add(unsafe { &raw mut (*load)[0] }, difference);
    // Marks a backend that has reached its limit even if no new connection looks at it meanwhile.
    check_and_mark_full(backend.counter_index, backend.upper_threshold, backend.lower_threshold).into()
}

/// Whether a backend has reached its connection limit; if so marks it, and it gets no connections until it is below `lower`.
#[inline(always)]
pub fn check_and_mark_full(counter: u32, upper: u32, lower: u32) -> bool {
    if upper == 0 {
        return false;
    }
    let Some(load) = maps::backend_load(counter) else {
        return false;
    };
    // SAFETY: only the addresses are taken.
    let (count, mark) = unsafe { (&raw mut (*load)[0], &raw mut (*load)[1]) };
    let marked = atomic::load(mark) != 0;
    let full = load::BackendLoad::from_word(atomic::load(count)).overloaded(marked, upper, lower);
    if full != marked {
        atomic::store(mark, u64::from(full));
    }
    full
}
