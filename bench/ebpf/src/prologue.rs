//! The prologue of every measurement, and the two smallest programs it calls.
//!
//! A test run repeats the program on the same packet. The prologue turns it into a packet of another flow, in place, and calls
//! the program under test: a million flows in one system call.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(
    not(target_arch = "bpf"),
    allow(dead_code, unused_imports, reason = "the entry points exist for BPF only")
)]

mod frame;

use aya_ebpf::{
    Global,
    bindings::xdp_action,
    btf_maps::{Array, ProgramArray},
    macros::btf_map,
    programs::XdpContext,
};
use lbx_bench_common::flow::{self, Flow};

use crate::frame::Frame;

#[btf_map]
static SLOT: ProgramArray<1> = ProgramArray::new();
#[btf_map]
static COUNTER: Array<u64, 1> = Array::new();

#[unsafe(no_mangle)]
static FLOWS: Global<u32> = Global::new(1);
#[unsafe(no_mangle)]
static SERVICES: Global<u32> = Global::new(1);
#[unsafe(no_mangle)]
static IN_TURN: Global<u8> = Global::new(0);
#[unsafe(no_mangle)]
static IP_VERSION: Global<u8> = Global::new(4);
#[unsafe(no_mangle)]
static IP_AT: Global<u8> = Global::new(14);
#[unsafe(no_mangle)]
static HEAD: Global<[u64; 2]> = Global::new([0; 2]);
#[unsafe(no_mangle)]
static VIP: Global<u64> = Global::new(0);

#[cfg(target_arch = "bpf")]
#[aya_ebpf::macros::xdp(frags)]
fn prologue(ctx: XdpContext) -> u32 {
    if rebuild(Frame::of(&ctx)).is_some() {
        // SAFETY: nothing here has a destructor.
        unsafe { SLOT.tail_call(&ctx, 0) };
    }
    xdp_action::XDP_ABORTED
}

#[cfg(target_arch = "bpf")]
#[aya_ebpf::macros::xdp(frags)]
fn bare(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_TX
}

#[cfg(target_arch = "bpf")]
#[aya_ebpf::macros::xdp(frags)]
fn floor(ctx: XdpContext) -> u32 {
    match swap(Frame::of(&ctx)) {
        Some(()) => xdp_action::XDP_TX,
        None => xdp_action::XDP_DROP,
    }
}

/// Turns the frame into one of the next flow, with the original Ethernet header.
#[inline(always)]
fn rebuild(frame: Frame) -> Option<()> {
    let number = next()?;
    let flow = Flow::of(number, SERVICES.load());
    let ip_at = usize::from(IP_AT.load());
    let [first, second] = HEAD.load();
    let head = frame.window::<16>(0)?;
    head.store64::<0>(first);
    // Writes only what programs change: reading a word that was written in part would stall on the processor's store buffer,
    // which does not happen with real packets.
    head.store32::<8>(second as u32);
    if ip_at > 14 {
        head.store32::<12>((second >> 32) as u32);
    }
    if IP_VERSION.load() == 4 {
        let ip = frame.window::<24>(ip_at)?;
        let vip = VIP.load() + u64::from(flow.vip << 24);
        ip.store64::<12>(u64::from(flow.client) | vip << 32);
        ip.store32::<20>(flow.ports);
    } else {
        let ip = frame.window::<44>(ip_at)?;
        ip.store64::<16>(u64::from(flow.client) << 32);
        ip.store64::<32>(VIP.load() + (u64::from(flow.vip) << 56));
        ip.store32::<40>(flow.ports);
    }
    Some(())
}

/// The number of the next packet's flow.
#[inline(always)]
fn next() -> Option<u32> {
    let counter = COUNTER.get_ptr_mut(0)?;
    // SAFETY: one test run at a time, on one CPU.
    let packet = unsafe {
        let packet = *counter;
        *counter = packet + 1;
        packet
    };
    Some(if IN_TURN.load() == 0 {
        flow::random(packet, FLOWS.load())
    } else {
        // The host runs as many packets as there are flows, from 0 on.
        packet as u32
    })
}

/// Swaps the MAC addresses, so that the frame goes back to its sender.
#[inline(always)]
fn swap(frame: Frame) -> Option<()> {
    let head = frame.window::<14>(0)?;
    let (destination, destination_rest) = (head.load32::<0>(), head.load16::<4>());
    let (source, source_rest) = (head.load16::<6>(), head.load32::<8>());
    head.store16::<0>(source);
    head.store32::<2>(source_rest);
    head.store32::<6>(destination);
    head.store16::<10>(destination_rest);
    Some(())
}

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("these programs run in the kernel: `cargo xtask bench program` builds them");
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
