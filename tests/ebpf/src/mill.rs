//! The mill: runs a program on several frames of an array in one test run of the kernel's.
//!
//! A system call per frame takes longer than the frame, and a test run that repeats waits for all CPUs twice. The program
//! under test is called from a function, so that what it returns comes back here.
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
use lbx_tests_ebpf::{COUNT, LONGEST, Progress, ROOM, SHORTEST, Tray};

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;
/// What no program returns: the program under test was not called.
const NOT_CALLED: u32 = u32::MAX;

#[btf_map]
static TESTED: ProgramArray<1> = ProgramArray::new();
#[btf_map]
static TRAYS: Array<Tray, COUNT, MMAPABLE> = Array::new();
#[btf_map]
static PROGRESS: Array<Progress, 1, MMAPABLE> = Array::new();

#[cfg(target_arch = "bpf")]
#[aya_ebpf::macros::xdp(frags)]
fn mill(ctx: XdpContext) -> u32 {
    for _ in 0..MAX_TAIL_CALLS {
        if lbx_mill_grind(ctx.as_ptr().cast()) != DONE {
            break;
        }
    }
    xdp_action::XDP_PASS
}

/// As many as the kernel allows one run (MAX_TAIL_CALL_CNT in linux/bpf.h, 32 before 5.17).
const MAX_TAIL_CALLS: u32 = 32;
/// What [`lbx_mill_grind`] returns after a frame that was run.
const DONE: u32 = 1;

/// Runs the next frame. A function of a name of its own is verified by itself, and not as often as it is called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_mill_grind(context: *mut xdp_md) -> u32 {
    if context.is_null() || grind(context).is_none() {
        return 0;
    }
    DONE
}

/// Runs the next frame; none where there is none, or it could not be run.
#[inline(always)]
fn grind(context: *mut xdp_md) -> Option<()> {
    let progress = PROGRESS.get_ptr_mut(0)?;
    // SAFETY: one test run at a time has these maps, and the kernel vouches for the element.
    let (number, filled) = unsafe {
        (
            (&raw const (*progress).done).read_volatile(),
            (&raw const (*progress).filled).read_volatile(),
        )
    };
    if number >= filled {
        return None;
    }
    let tray = TRAYS.get_ptr_mut(number)?;
    // SAFETY: as above.
    let before = unsafe { (&raw const (*tray).length).read_volatile() };
    if !(SHORTEST as u32..=LONGEST as u32).contains(&before) {
        return None;
    }
    // SAFETY: the context is that of this run; the tray has room for LONGEST bytes.
    let failed = unsafe {
        let there = bpf_xdp_get_buff_len(context) as i32;
        let failed = bpf_xdp_adjust_tail(context, before as i32 - there);
        failed | bpf_xdp_store_bytes(context, 0, (&raw mut (*tray).bytes).cast(), before)
    };
    if failed != 0 {
        return None;
    }
    let action = lbx_mill_tested(context);
    // SAFETY: as above. The verifier knows the bounds of a word that was read as one.
    let after = unsafe {
        (&raw mut (*tray).action).write_volatile(action);
        (&raw mut (*tray).length).write_volatile(bpf_xdp_get_buff_len(context) as u32);
        (&raw const (*tray).length).read_volatile()
    };
    if !(SHORTEST as u32..=ROOM as u32).contains(&after) {
        return None;
    }
    // SAFETY: as above. The start goes back to where it was: only there is room in front of every frame.
    let failed = unsafe {
        let failed = bpf_xdp_load_bytes(context, 0, (&raw mut (*tray).bytes).cast(), after);
        failed | bpf_xdp_adjust_head(context, after as i32 - before as i32)
    };
    if failed != 0 {
        return None;
    }
    // SAFETY: as above.
    unsafe { (&raw mut (*progress).done).write_volatile(number + 1) };
    Some(())
}

/// Calls the program under test: what it returns is returned to whom this function returns.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_mill_tested(context: *mut xdp_md) -> u32 {
    if !context.is_null() {
        // SAFETY: nothing here has a destructor.
        unsafe { TESTED.tail_call(&XdpContext::new(context), 0) };
    }
    // Else the compiler would take it for what every call returns.
    let not_called = NOT_CALLED;
    // SAFETY: a word of this function's own.
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
