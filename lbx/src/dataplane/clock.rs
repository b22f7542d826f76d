//! The flow clock as user space reads it: the same coarse monotonic clock as the program's.

use lbx_common::flow::{TICK_MASK, TICK_SHIFT};
use nix::time::{ClockId, clock_gettime};

/// The present tick.
#[must_use]
pub fn current_tick() -> u32 {
    // The coarse monotonic clock exists on every Linux; without it nothing would ever expire.
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or_else(|_| std::time::Duration::ZERO, Into::into);
    (time.as_nanos() >> TICK_SHIFT) as u32 & TICK_MASK
}
