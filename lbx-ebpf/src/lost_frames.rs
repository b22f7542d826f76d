//! Frames that the kernel or a driver drops after the verdict, counted on tracepoints that fire for such frames alone: a frame that is
//! sent costs nothing.

use aya_ebpf::programs::TracePointContext;
use lbx_common::lost_frames::LostFrameKind;

use crate::maps;

/// The fields that `xdp_exception` and `xdp_redirect_err` have in common, and their offsets (include/trace/events/xdp.h; the first
/// eight bytes are those of every tracepoint).
const PROGRAM: usize = 8;
const ACTION: usize = 12;
const INTERFACE: usize = 16;
/// Of `xdp_redirect_err` alone.
const ERROR: usize = 20;
const TARGET: usize = 24;

/// Counts a frame that a driver could not send, or whose program failed.
#[inline(always)]
pub fn count_exception(context: &TracePointContext) {
    count(context, 0, 0);
}

/// Counts a frame that could not be redirected.
#[inline(always)]
pub fn count_redirect_error(context: &TracePointContext) {
    let error = read(context, ERROR) as i32;
    count(context, error.unsigned_abs(), read(context, TARGET));
}

#[inline(always)]
fn count(context: &TracePointContext, errno: u32, target_ifindex: u32) {
    maps::add_lost_frame(&LostFrameKind {
        program: read(context, PROGRAM),
        ifindex: read(context, INTERFACE),
        action: read(context, ACTION),
        target_ifindex,
        errno,
    });
}

#[inline(always)]
fn read(context: &TracePointContext, offset: usize) -> u32 {
    // SAFETY: the fields of these tracepoints are words at these offsets.
    unsafe { context.read_at(offset) }.unwrap_or(0)
}
