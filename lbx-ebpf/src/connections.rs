//! How many connections each backend has, counted from the records it is named in: whoever changes a record, the sweeper of
//! user space too, adds the difference.

use lbx_common::{
    flow::{self, Entry},
    load,
};

use crate::{atomic, backend, maps, service};

/// Counts the change of a record of a service. Its backend does not change with it.
#[inline(always)]
pub fn changed(service: u16, before: Entry, after: Entry) {
    let difference = load::of_state(after.state).wrapping_sub(load::of_state(before.state));
    if difference == 0 {
        return;
    }
    let index = if flow::counts(before.state) {
        before.backend
    } else {
        after.backend
    };
    lbx_connections_add(u32::from(service), u32::from(index), difference);
}

/// A function of a name of its own is verified by itself, once, whoever calls it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_connections_add(service: u32, index: u32, difference: u64) -> u32 {
    let Some(meant) = service::by_number(service as u16) else {
        return 0;
    };
    // A service that is no longer has room for none: its places may be another's.
    let Some(backend) = backend::place(meant.backends(), index as u16) else {
        return 0;
    };
    let Some(load) = maps::load(backend.counter) else {
        return 0;
    };
    // SAFETY: only the address is taken.
    atomic::fetch_add(unsafe { &raw mut (*load)[0] }, difference);
    // Whoever has reached its limit is full, even if nobody asks while it is.
    full(backend.counter, backend.upper, backend.lower).into()
}

/// Whether a backend has as many connections as it may have; marks it, so that it gets none until it has `lower`.
#[inline(always)]
pub fn full(counter: u32, upper: u32, lower: u32) -> bool {
    if upper == 0 {
        return false;
    }
    let Some(load) = maps::load(counter) else {
        return false;
    };
    // SAFETY: only the addresses are taken.
    let (count, mark) = unsafe { (&raw mut (*load)[0], &raw mut (*load)[1]) };
    let marked = atomic::load(mark) != 0;
    let now = load::Load::from_word(atomic::load(count)).overloaded(marked, upper, lower);
    if now != marked {
        atomic::store(mark, u64::from(now));
    }
    now
}
