//! The XDP program of lbx. A packet's way is one straight line, a file per step:
//!
//! ```text
//! parse → service → pick → rewrite → transmit
//! ```
//!
//! - [`packet`]: the only raw pointers into a frame
//! - [`parse`]: Ethernet, IPv4, TCP and UDP headers
//! - [`service`]: which service is meant, and whether this NIC balances it
//! - [`pick`]: slot, record or scheduler: which backend gets it ([`flow`] keeps the records)
//! - [`rewrite`]: the Ethernet header, nothing else
//! - [`transmit`]: out of the same NIC or another
//! - [`verdict`]: what a step may end with; this file alone turns it into an XDP action
//! - [`maps`], [`count`], [`clock`], [`atomic`], [`trace`]: typed access to what the kernel lends
//!
//! The crate also compiles for the host, where clippy and its unit tests run.
#![cfg_attr(
    target_arch = "bpf",
    no_std,
    no_main,
    feature(core_intrinsics),
    allow(internal_features, reason = "atomics")
)]
#![cfg_attr(
    not(target_arch = "bpf"),
    allow(dead_code, reason = "the entry point exists for BPF only")
)]

mod atomic;
mod clock;
mod count;
mod flow;
mod maps;
mod packet;
mod parse;
mod pick;
mod rewrite;
mod service;
mod trace;
mod transmit;
mod verdict;

use aya_ebpf::{bindings::xdp_action, programs::XdpContext};

use crate::{
    packet::Frame,
    transmit::Egress,
    verdict::{Exit, Step},
};

#[cfg(target_arch = "bpf")]
#[aya_ebpf::macros::xdp(frags)]
fn lbx(ctx: XdpContext) -> u32 {
    action(&ctx)
}

/// The only place where an outcome becomes an XDP action.
#[inline(always)]
fn action(ctx: &XdpContext) -> u32 {
    match balance(ctx) {
        Ok(Egress::SameNic) => xdp_action::XDP_TX,
        Ok(Egress::OtherNic) => xdp_action::XDP_REDIRECT,
        Err(Exit::Pass) => xdp_action::XDP_PASS,
        Err(Exit::Drop(reason)) => {
            count::dropped(reason);
            xdp_action::XDP_DROP
        }
    }
}

/// The packet's way.
#[inline(always)]
fn balance(ctx: &XdpContext) -> Step<Egress> {
    let frame = Frame::of(ctx);
    let packet = parse::parse(&frame)?;
    let service = service::find(&frame, &packet)?;
    let choice = pick::pick(&packet, service)?;
    trace::tell(ctx, &packet, service, &choice);
    let egress = transmit::towards(&frame, &packet, &choice)?;
    rewrite::ethernet(&frame, &choice)?;
    count::forwarded(&packet, service, &choice);
    Ok(egress)
}

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("this program runs in the kernel: build it with `cargo xtask build-ebpf`");
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
