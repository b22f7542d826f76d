//! Runs the program under test on several frames of an array in one kernel test run.
//!
//! A system call per frame would take longer than the frame, and each repeated test run waits for all CPUs twice. The
//! program under test is tail-called from a function, so that its action is returned here.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(
    not(target_arch = "bpf"),
    allow(dead_code, unused_imports, reason = "the entry point exists for BPF only")
)]

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_F_MMAPABLE, xdp_action, xdp_md},
    btf_maps::{Array, ProgramArray},
    helpers::generated::{
        bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len, bpf_xdp_load_bytes, bpf_xdp_store_bytes,
    },
    macros::btf_map,
    programs::XdpContext,
};
use lbx_tests_ebpf::{CAPACITY, COUNT, FrameBuffer, MAX_FRAME, MIN_FRAME, Progress};

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;
/// An action that no program returns: the program under test was not called.
const NOT_CALLED: u32 = u32::MAX;

#[btf_map]
static TESTED: ProgramArray<1> = ProgramArray::new();
#[btf_map]
static FRAMES: Array<FrameBuffer, COUNT, MMAPABLE> = Array::new();
#[btf_map]
static PROGRESS: Array<Progress, 1, MMAPABLE> = Array::new();

#[cfg(target_arch = "bpf")]
#[aya_ebpf::macros::xdp(frags)]
fn stress_xdp(ctx: XdpContext) -> u32 {
    for _ in 0..MAX_TAIL_CALLS {
        if lbx_stress_run_next(ctx.as_ptr().cast()) != DONE {
            break;
        }
    }
    xdp_action::XDP_PASS
}

/// Maximum per run in the kernel (MAX_TAIL_CALL_CNT in linux/bpf.h, 32 before 5.17).
const MAX_TAIL_CALLS: u32 = 32;
/// Returned by [`lbx_stress_run_next`] after a frame was run.
const DONE: u32 = 1;

/// Runs the next frame. A global function: the verifier checks it once, not at every call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_stress_run_next(context: *mut xdp_md) -> u32 {
    if context.is_null() || run_next(context).is_none() {
        return 0;
    }
    DONE
}

/// Runs the next frame; none if there is none, or it could not be run.
#[inline(always)]
fn run_next(context: *mut xdp_md) -> Option<()> {
    let progress = PROGRESS.get_ptr_mut(0)?;
    // SAFETY: one test run at a time uses these maps, and the kernel has checked the bounds of the element.
    let (number, filled) = unsafe {
        (
            (&raw const (*progress).done).read_volatile(),
            (&raw const (*progress).filled).read_volatile(),
        )
    };
    if number >= filled {
        return None;
    }
    let buffer = FRAMES.get_ptr_mut(number)?;
    // SAFETY: as above.
    let before = unsafe { (&raw const (*buffer).length).read_volatile() };
    if !(MIN_FRAME as u32..=MAX_FRAME as u32).contains(&before) {
        return None;
    }
    // SAFETY: the context is that of this run; the buffer holds MAX_FRAME bytes.
    let failed = unsafe {
        let current = bpf_xdp_get_buff_len(context) as i32;
        let failed = bpf_xdp_adjust_tail(context, before as i32 - current);
        failed | bpf_xdp_store_bytes(context, 0, (&raw mut (*buffer).bytes).cast(), before)
    };
    if failed != 0 {
        return None;
    }
    let action = lbx_stress_call_tested(context);
    // SAFETY: as above. Reading the length back gives the verifier bounds for one word.
    let after = unsafe {
        (&raw mut (*buffer).action).write_volatile(action);
        (&raw mut (*buffer).length).write_volatile(bpf_xdp_get_buff_len(context) as u32);
        (&raw const (*buffer).length).read_volatile()
    };
    if !(MIN_FRAME as u32..=CAPACITY as u32).contains(&after) {
        return None;
    }
    // SAFETY: as above. Moves the start back: otherwise the headroom would shrink or grow with each frame.
    let failed = unsafe {
        let failed = bpf_xdp_load_bytes(context, 0, (&raw mut (*buffer).bytes).cast(), after);
        failed | bpf_xdp_adjust_head(context, after as i32 - before as i32)
    };
    if failed != 0 {
        return None;
    }
    // SAFETY: as above.
    unsafe { (&raw mut (*progress).done).write_volatile(number + 1) };
    Some(())
}

/// Tail-calls the program under test: its action becomes the return value of this function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_stress_call_tested(context: *mut xdp_md) -> u32 {
    if !context.is_null() {
        // SAFETY: nothing here has a destructor.
        unsafe { TESTED.tail_call(&XdpContext::new(context), 0) };
    }
    // Otherwise the compiler would assume that every call returns this constant.
    let not_called = NOT_CALLED;
    // SAFETY: a local variable.
    unsafe { (&raw const not_called).read_volatile() }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("this program runs in the kernel: `cargo xtask test` builds it");
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
