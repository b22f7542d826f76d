//! Selects the backend of a new connection. The rules of comparison are in [`lbx_common::load`], where they are tested.

use core::ffi::{c_long, c_void};

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_loop};
use lbx_common::{
    backend::UP,
    load::{self, BackendLoad, LoadScore},
    ring::RingEntry,
    service::{HAS_CONNECTION_LIMITS, HASH_FALLBACK, SCHEDULE_BY_HASH, scheduler},
    slot::{self, Slot},
};

use crate::{atomic, backend, connections, maps, service_ref::ServiceRef};

/// The backend index for a new connection; [`slot::NO_BACKEND`] where no backend is eligible.
#[inline(always)]
pub fn schedule(service: &ServiceRef, slot: Slot) -> u16 {
    // A hashed service without limits needs nothing but the slot.
    if service.flags & SCHEDULE_BY_HASH != 0 && service.flags & HAS_CONNECTION_LIMITS == 0 {
        return slot.current;
    }
    lbx_schedule(u32::from(service.number), u32::from(slot.current)) as u16
}

/// A global function: the verifier checks it once, on its own.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_schedule(service: u32, current: u32) -> u32 {
    let Some(service) = ServiceRef::by_number(service as u16) else {
        return u32::from(slot::NO_BACKEND);
    };
    u32::from(select(&service, current as u16))
}

#[inline(always)]
fn select(service: &ServiceRef, current: u16) -> u16 {
    let (scheduler, _, sorry) = service.scheduling_fields();
    let backends = service.backend_range();
    let (base, len) = service.scheduler_ring_range();
    if service.flags & SCHEDULE_BY_HASH != 0 {
        if eligible(backends, current) {
            return current;
        }
        if service.flags & HASH_FALLBACK == 0 || current == slot::NO_BACKEND {
            return or_sorry(sorry, backends);
        }
    }
    if len == 0 {
        // No ring: no backend is eligible, or the scheduler is being changed. The slot's backend is always valid.
        let eligible = eligible(backends, current);
        return if eligible { current } else { or_sorry(sorry, backends) };
    }
    if scheduler == scheduler::P2C {
        let index = two_choices(base, len, backends);
        if index != slot::NO_BACKEND {
            return index;
        }
    }
    let start = match scheduler {
        scheduler::RR | scheduler::WRR => (maps::next_ring_position(service.number) % u64::from(len)) as u32,
        // Each full backend falls back to another start, so that its connections do not all go to the same one.
        _ if service.flags & SCHEDULE_BY_HASH != 0 => u32::from(current) % len,
        _ => 0,
    };
    let mut walk = Walk {
        base,
        len,
        start,
        backends,
        rule: load::SchedulingRule::of_scheduler(scheduler),
        index: slot::NO_BACKEND,
        best: LoadScore::WORST,
    };
    // SAFETY: the callback takes what it is given here: a number below len, and the walk.
    unsafe { bpf_loop(len, step as *mut c_void, (&raw mut walk).cast(), 0) };
    if walk.index == slot::NO_BACKEND {
        or_sorry(sorry, backends)
    } else {
        walk.index
    }
}

/// Whether the backend of an index may get a new connection.
#[inline(always)]
fn eligible(range: (u32, u32), index: u16) -> bool {
    backend::get(range, index).is_some_and(|backend| {
        backend::state(backend) == UP
            && !connections::check_and_mark_full(
                backend.counter_index,
                backend.upper_threshold,
                backend.lower_threshold,
            )
    })
}

#[inline(always)]
fn or_sorry(sorry: u16, backends: (u32, u32)) -> u16 {
    if eligible(backends, sorry) {
        sorry
    } else {
        slot::NO_BACKEND
    }
}

/// A walk around the ring, and the best candidate so far.
#[repr(C)]
struct Walk {
    base: u32,
    len: u32,
    start: u32,
    backends: (u32, u32),
    rule: load::SchedulingRule,
    index: u16,
    best: LoadScore,
}

/// Visits one ring entry: 1 ends the walk.
#[inline(never)]
extern "C" fn step(iteration: u64, walk: *mut c_void) -> c_long {
    // SAFETY: bpf_loop passes on what it was given.
    let walk = unsafe { &mut *walk.cast::<Walk>() };
    let mut position = walk.start.wrapping_add(iteration as u32);
    if position >= walk.len {
        position = position.wrapping_sub(walk.len);
    }
    let candidate = maps::ring(walk.base.wrapping_add(position));
    if !eligible(walk.backends, candidate.backend_index) {
        return 0;
    }
    let score = walk.rule.score(load_of(walk.backends, candidate), candidate.weight);
    if score.better_than(walk.best) {
        walk.best = score;
        walk.index = candidate.backend_index;
    }
    c_long::from(walk.rule.ends_search(score))
}

#[inline(always)]
fn load_of(backends: (u32, u32), candidate: RingEntry) -> BackendLoad {
    let load =
        backend::get(backends, candidate.backend_index).and_then(|backend| maps::backend_load(backend.counter_index));
    load.map_or(BackendLoad::from_word(0), |load| {
        // SAFETY: only the address is taken.
        BackendLoad::from_word(atomic::load(unsafe { &raw const (*load)[0] }))
    })
}

/// The less loaded of two random candidates; [`slot::NO_BACKEND`] where neither is eligible.
#[inline(never)]
fn two_choices(base: u32, len: u32, backends: (u32, u32)) -> u16 {
    let [first, second] = load::two_positions(random(), len);
    let first = maps::ring(base.wrapping_add(first));
    let second = maps::ring(base.wrapping_add(second));
    if !eligible(backends, first.backend_index) {
        let eligible = eligible(backends, second.backend_index);
        return if eligible {
            second.backend_index
        } else {
            slot::NO_BACKEND
        };
    }
    if !eligible(backends, second.backend_index) {
        return first.backend_index;
    }
    let best = (load_of(backends, first), first.weight);
    let other = (load_of(backends, second), second.weight);
    let second_wins = load::SchedulingRule::WLC.better(other, best);
    if second_wins {
        second.backend_index
    } else {
        first.backend_index
    }
}

#[inline(always)]
fn random() -> u64 {
    // SAFETY: takes no argument and only returns a number.
    let half = || u64::from(unsafe { bpf_get_prandom_u32() });
    half() | half() << 32
}
