//! The kernel programs of lbx. A packet's way is one straight line, a file per step:
//!
//! ```text
//! parse → service → pick → rewrite → transmit
//! ```
//!
//! - [`packet`]: the only raw pointers into a frame
//! - [`parse`]: Ethernet, VLAN, IPv4, IPv6, TCP, UDP, and what ICMP errors quote
//! - [`service`]: which service is meant, and whether this NIC balances it
//! - [`pick`]: slot, record or scheduler: which backend gets it. [`flow`] keeps the records, [`schedule`] chooses for new
//!   connections, [`persistence`] keeps those of a client together, [`quic`] reads connection ids, [`fragment`] lets
//!   fragments follow their first, [`backend`] knows who may get what, [`connections`] counts what they have
//! - [`rewrite`]: the Ethernet header, nothing else
//! - [`transmit`]: out of the same NIC or another
//! - [`verdict`]: what a step may end with; this file alone turns it into an XDP action
//! - [`local`]: what the director itself sends to VIPs and gets back: three more kinds of program
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
mod backend;
mod clock;
mod connections;
mod count;
mod flow;
mod fragment;
mod local;
mod maps;
mod packet;
mod parse;
mod persistence;
mod pick;
mod quic;
mod rewrite;
mod schedule;
mod service;
mod trace;
mod transmit;
mod verdict;

use aya_ebpf::{bindings::xdp_action, programs::XdpContext};

use crate::{
    packet::Frame,
    parse::Packet,
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

/// The programs on what the director itself sends, and on its sockets.
#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::{
        bindings::TC_ACT_UNSPEC,
        macros::{cgroup_sock_addr, classifier},
        programs::{SockAddrContext, TcContext},
    };

    use crate::local::{
        egress,
        socket::{
            self, Ask,
            Family::{self, V4, V6},
        },
    };

    /// Whatever was done to the frame, whoever is next decides about it.
    #[classifier]
    fn lbx_egress(context: TcContext) -> i32 {
        egress::lead(&context);
        TC_ACT_UNSPEC
    }

    /// The only place where an outcome becomes a return code of a socket program.
    #[inline(always)]
    fn ask(context: SockAddrContext, family: Family) -> i32 {
        match socket::ask(&context, family) {
            Ask::Granted => 1,
            Ask::Refused => {
                socket::refuse();
                0
            }
        }
    }

    #[inline(always)]
    fn show(context: SockAddrContext, family: Family) -> i32 {
        socket::show(&context, family);
        1
    }

    #[cgroup_sock_addr(connect4)]
    fn lbx_connect4(context: SockAddrContext) -> i32 {
        ask(context, V4)
    }

    #[cgroup_sock_addr(connect6)]
    fn lbx_connect6(context: SockAddrContext) -> i32 {
        ask(context, V6)
    }

    #[cgroup_sock_addr(sendmsg4)]
    fn lbx_sendmsg4(context: SockAddrContext) -> i32 {
        ask(context, V4)
    }

    #[cgroup_sock_addr(sendmsg6)]
    fn lbx_sendmsg6(context: SockAddrContext) -> i32 {
        ask(context, V6)
    }

    #[cgroup_sock_addr(recvmsg4)]
    fn lbx_recvmsg4(context: SockAddrContext) -> i32 {
        show(context, V4)
    }

    #[cgroup_sock_addr(recvmsg6)]
    fn lbx_recvmsg6(context: SockAddrContext) -> i32 {
        show(context, V6)
    }

    #[cgroup_sock_addr(getpeername4)]
    fn lbx_peername4(context: SockAddrContext) -> i32 {
        show(context, V4)
    }

    #[cgroup_sock_addr(getpeername6)]
    fn lbx_peername6(context: SockAddrContext) -> i32 {
        show(context, V6)
    }
}

/// The packet's way.
#[inline(always)]
fn balance(ctx: &XdpContext) -> Step<Egress> {
    let frame = Frame::of(ctx);
    let mut packet = Packet::default();
    parse::parse(&frame, &mut packet)?;
    let meant = service::find(&frame, &packet)?;
    let choice = pick::pick(&frame, &packet, &meant)?;
    trace::tell(ctx, &packet, &meant, &choice);
    let egress = transmit::towards(&frame, &packet, &choice.hop)?;
    rewrite::ethernet(&frame, &packet, &choice.hop)?;
    fragment::keep(&packet, &meant, &choice);
    count::forwarded(&packet, &meant, &choice);
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
