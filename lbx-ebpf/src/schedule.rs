//! Who gets a new connection. The rules of comparison are in [`lbx_common::load`], where they are tested.

use core::ffi::{c_long, c_void};

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_loop};
use lbx_common::{
    load::{self, Load, Score},
    ring::Turn,
    service::{FALLBACK, HASHES, LIMITED, scheduler},
    slot::{self, Slot},
};

use crate::{
    atomic, backend, maps,
    service::{self, Meant},
};

/// The backend index for a new connection; [`slot::NONE`] where nobody takes one.
#[inline(always)]
pub fn schedule(meant: &Meant, slot: Slot) -> u16 {
    // At rest there is nothing to look at but the slot.
    if meant.flags & HASHES != 0 && meant.flags & LIMITED == 0 {
        return slot.current;
    }
    lbx_schedule(u32::from(meant.number), u32::from(slot.current)) as u16
}

/// A function of a name of its own is verified by itself, once, whoever calls it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_schedule(service: u32, current: u32) -> u32 {
    let Some(meant) = service::by_number(service as u16) else {
        return u32::from(slot::NONE);
    };
    u32::from(choose(&meant, current as u16))
}

#[inline(always)]
fn choose(meant: &Meant, current: u16) -> u16 {
    let (scheduler, _, sorry) = meant.scheduling();
    let backends = meant.backends();
    let (base, len) = meant.ring();
    if meant.flags & HASHES != 0 {
        if backend::takes(backends, current) {
            return current;
        }
        if meant.flags & FALLBACK == 0 || current == slot::NONE {
            return or_sorry(sorry, backends);
        }
    }
    if len == 0 {
        // Nobody is there to walk, or a change of scheduler is under way: the hash is always right.
        let takes = backend::takes(backends, current);
        return if takes { current } else { or_sorry(sorry, backends) };
    }
    if scheduler == scheduler::P2C {
        let index = two_choices(base, len, backends);
        if index != slot::NONE {
            return index;
        }
    }
    let start = match scheduler {
        scheduler::RR | scheduler::WRR => (maps::next_turn(meant.number) % u64::from(len)) as u32,
        // From where the one that is full would be, everyone on its own way.
        _ if meant.flags & HASHES != 0 => u32::from(current) % len,
        _ => 0,
    };
    let mut walk = Walk {
        base,
        len,
        start,
        backends,
        rule: load::Rule::of_scheduler(scheduler),
        index: slot::NONE,
        best: Score::NOBODY,
    };
    // SAFETY: the callback takes what it is given here: a number below len, and the walk.
    unsafe { bpf_loop(len, step as *mut c_void, (&raw mut walk).cast(), 0) };
    if walk.index == slot::NONE {
        or_sorry(sorry, backends)
    } else {
        walk.index
    }
}

#[inline(always)]
fn or_sorry(sorry: u16, backends: (u32, u32)) -> u16 {
    if backend::takes(backends, sorry) {
        sorry
    } else {
        slot::NONE
    }
}

/// A walk around the ring, and the best so far.
#[repr(C)]
struct Walk {
    base: u32,
    len: u32,
    start: u32,
    backends: (u32, u32),
    rule: load::Rule,
    index: u16,
    best: Score,
}

/// One turn: 1 ends the walk.
#[inline(never)]
extern "C" fn step(turn: u64, walk: *mut c_void) -> c_long {
    // SAFETY: bpf_loop hands on what it was given.
    let walk = unsafe { &mut *walk.cast::<Walk>() };
    let mut place = walk.start.wrapping_add(turn as u32);
    if place >= walk.len {
        place = place.wrapping_sub(walk.len);
    }
    let turn = maps::ring(walk.base.wrapping_add(place));
    if !backend::takes(walk.backends, turn.index) {
        return 0;
    }
    let score = walk.rule.score(load_of(walk.backends, turn), turn.weight);
    if score.better_than(walk.best) {
        walk.best = score;
        walk.index = turn.index;
    }
    c_long::from(walk.rule.ends(score))
}

#[inline(always)]
fn load_of(backends: (u32, u32), turn: Turn) -> Load {
    let load = backend::place(backends, turn.index).and_then(|backend| maps::load(backend.counter));
    load.map_or(Load::from_word(0), |load| {
        // SAFETY: only the address is taken.
        Load::from_word(atomic::load(unsafe { &raw const (*load)[0] }))
    })
}

/// The less loaded of two that chance has named; [`slot::NONE`] where neither takes a connection.
#[inline(never)]
fn two_choices(base: u32, len: u32, backends: (u32, u32)) -> u16 {
    let [first, second] = load::two(random(), len);
    let first = maps::ring(base.wrapping_add(first));
    let second = maps::ring(base.wrapping_add(second));
    if !backend::takes(backends, first.index) {
        let takes = backend::takes(backends, second.index);
        return if takes { second.index } else { slot::NONE };
    }
    if !backend::takes(backends, second.index) {
        return first.index;
    }
    let best = (load_of(backends, first), first.weight);
    let other = (load_of(backends, second), second.weight);
    let second_wins = load::Rule::WLC.better(other, best);
    if second_wins { second.index } else { first.index }
}

#[inline(always)]
fn random() -> u64 {
    // SAFETY: takes nothing and touches nothing.
    let half = || u64::from(unsafe { bpf_get_prandom_u32() });
    half() | half() << 32
}
