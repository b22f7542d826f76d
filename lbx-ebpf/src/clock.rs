//! The flow clock.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use lbx_common::flow::{TICK_MASK, TICK_SHIFT};

use crate::maps;

/// The current tick. The coarse clock is a memory read; the exact one costs more than the rest of the program.
#[inline(always)]
pub fn current_tick() -> u32 {
    (nanoseconds() >> TICK_SHIFT) as u32 & TICK_MASK
}

/// The time in nanoseconds, as exact as the kernel's timer interrupt.
#[inline(always)]
pub fn nanoseconds() -> u64 {
    match maps::test_clock_ns() {
        Some(ns) => ns,
        // SAFETY: takes no argument and only returns a number.
        None => unsafe { bpf_ktime_get_coarse_ns() },
    }
}
