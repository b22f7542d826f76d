//! The kernel programs of lbx. A packet takes the steps in this order, one file each:
//!
//! ```text
//! parse → service → select → transmit → rewrite
//! ```
//!
//! The [`fast_path`] takes the same steps for the packets that nearly all are, at a fraction of the cost.
//!
//! - [`parse`]: Ethernet, VLAN, IPv4, IPv6, TCP, UDP, and the packets quoted by ICMP errors
//! - [`service`]: the service a packet is for, and whether this NIC balances it ([`lookup`], [`admission`])
//! - [`select`]: the backend, by slot, record or scheduler. [`flow`] holds the records ([`preference`]), [`schedule`] selects for new
//!   connections, [`persistence`] keeps those of a client together, [`quic`] reads connection ids, [`fragment`] keeps the
//!   fragments of a packet together, [`connections`] counts the connections of backends
//! - [`reject`]: the answer to a packet for which there is no backend: TCP RST or ICMP port unreachable
//! - [`transmit`]: the NIC to send from, the ingress one or another
//! - [`rewrite`]: the Ethernet header, nothing else
//! - [`routed_reply`]: replies from VIPs that real servers send to this host as their gateway
//! - [`local`]: the director's own traffic with VIPs: three more kinds of program
//! - [`lost_frames`]: frames dropped after the verdict; [`host_packets`]: packets for services that reach the host's stack
//! - [`vip_drop`]: VIPs on a NIC that changes its XDP mode
//! - [`count`], [`trace`]: what user space sees of it
//!
//! Below the steps are the types they share, which know nothing of them: [`frame`] and [`socket_buffer`] (the only raw
//! pointers into a frame),
//! [`packet`], [`service_ref`], [`backend`], [`selection`], [`verdict`] (the outcomes of a step; only this file turns them
//! into XDP actions), and typed access to the kernel: [`maps`], [`clock`], [`atomic`].
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

mod admission;
mod atomic;
mod backend;
mod clock;
mod connections;
mod count;
mod fast_path;
mod flow;
mod fragment;
mod frame;
#[cfg_attr(not(target_arch = "bpf"), expect(dead_code, reason = "called by a program"))]
mod host_packets;
mod local;
mod lookup;
#[cfg_attr(not(target_arch = "bpf"), expect(dead_code, reason = "called by programs"))]
mod lost_frames;
mod maps;
mod packet;
mod parse;
mod persistence;
mod preference;
mod quic;
mod reject;
mod rewrite;
mod routed_reply;
mod schedule;
mod select;
mod selection;
mod service;
mod service_ref;
mod socket_buffer;
mod trace;
mod transmit;
mod verdict;
#[cfg_attr(not(target_arch = "bpf"), expect(dead_code, reason = "called by a program"))]
mod vip_drop;

use aya_ebpf::{bindings::xdp_action, programs::XdpContext};
use lbx_common::drops::DropReason;

use crate::{
    frame::Frame,
    packet::Packet,
    transmit::Egress,
    verdict::{Verdict, VerdictResult},
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
        Err(Verdict::Pass) => xdp_action::XDP_PASS,
        Err(Verdict::Drop(reason)) => {
            count::dropped(reason);
            xdp_action::XDP_DROP
        }
        Err(Verdict::NoBackend) => {
            count::dropped(DropReason::NoBackend);
            xdp_action::XDP_DROP
        }
        Err(Verdict::Rejected) => {
            count::dropped(DropReason::Rejected);
            xdp_action::XDP_TX
        }
    }
}

/// The other programs: on socket buffers and on sockets.
#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::{
        bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action},
        macros::{cgroup_sock_addr, classifier, tracepoint, xdp},
        programs::{SockAddrContext, TcContext, TracePointContext, XdpContext},
    };

    use crate::{
        count,
        frame::Frame,
        host_packets,
        local::{
            egress,
            socket::{
                self, Decision,
                Family::{self, V4, V6},
            },
        },
        lost_frames, vip_drop,
    };

    /// Never decides about the frame: that is up to the next program.
    #[classifier]
    fn lbx_egress(context: TcContext) -> i32 {
        egress::steer(&context);
        TC_ACT_UNSPEC
    }

    /// Attached on receive while a NIC has no XDP program.
    #[classifier]
    fn lbx_vip_drop(context: TcContext) -> i32 {
        if vip_drop::is_non_icmp_for_vip(&context) {
            TC_ACT_SHOT
        } else {
            TC_ACT_UNSPEC
        }
    }

    /// Attached on receive, behind the XDP program where there is one. Never decides about the frame.
    #[classifier]
    fn lbx_host_packets(context: TcContext) -> i32 {
        host_packets::count(&context);
        TC_ACT_UNSPEC
    }

    #[tracepoint]
    fn lbx_exception(context: TracePointContext) -> u32 {
        lost_frames::count_exception(&context);
        0
    }

    #[tracepoint]
    fn lbx_redirect_err(context: TracePointContext) -> u32 {
        lost_frames::count_redirect_error(&context);
        0
    }

    /// Never attached: the daemon runs it after a frame of its self-test.
    #[xdp]
    fn lbx_uncount(context: XdpContext) -> u32 {
        count::uncount(&Frame::new(&context));
        xdp_action::XDP_PASS
    }

    /// The only place where an outcome becomes a return code of a socket program.
    #[inline(always)]
    fn connect_hook(context: SockAddrContext, family: Family) -> i32 {
        match socket::connect_hook(&context, family) {
            Decision::Continue => 1,
            Decision::Refuse => {
                socket::return_econnrefused();
                0
            }
        }
    }

    #[inline(always)]
    fn peer_hook(context: SockAddrContext, family: Family) -> i32 {
        socket::peer_hook(&context, family);
        1
    }

    #[cgroup_sock_addr(connect4)]
    fn lbx_connect4(context: SockAddrContext) -> i32 {
        connect_hook(context, V4)
    }

    #[cgroup_sock_addr(connect6)]
    fn lbx_connect6(context: SockAddrContext) -> i32 {
        connect_hook(context, V6)
    }

    #[cgroup_sock_addr(sendmsg4)]
    fn lbx_sendmsg4(context: SockAddrContext) -> i32 {
        connect_hook(context, V4)
    }

    #[cgroup_sock_addr(sendmsg6)]
    fn lbx_sendmsg6(context: SockAddrContext) -> i32 {
        connect_hook(context, V6)
    }

    #[cgroup_sock_addr(recvmsg4)]
    fn lbx_recvmsg4(context: SockAddrContext) -> i32 {
        peer_hook(context, V4)
    }

    #[cgroup_sock_addr(recvmsg6)]
    fn lbx_recvmsg6(context: SockAddrContext) -> i32 {
        peer_hook(context, V6)
    }

    #[cgroup_sock_addr(getpeername4)]
    fn lbx_peername4(context: SockAddrContext) -> i32 {
        peer_hook(context, V4)
    }

    #[cgroup_sock_addr(getpeername6)]
    fn lbx_peername6(context: SockAddrContext) -> i32 {
        peer_hook(context, V6)
    }
}

/// The steps of a packet.
#[inline(always)]
fn balance(ctx: &XdpContext) -> VerdictResult<Egress> {
    let frame = Frame::new(ctx);
    if let Some(outcome) = fast_path::balance(&frame) {
        return outcome;
    }
    let mut packet = Packet::default();
    parse::parse(&frame, &mut packet)?;
    let service = service::find(&frame, &packet)?;
    let selection = select::backend(&frame, &packet, &service)
        .map_err(|verdict| reject::answer_if_empty(&frame, &packet, &service, verdict))?;
    trace::emit(ctx, &packet, &service, &selection);
    let egress = transmit::egress(&frame, &packet, &selection.next_hop)?;
    rewrite::ethernet(&frame, &packet, &selection.next_hop)?;
    fragment::record_selection(&packet, &service, &selection);
    count::forwarded(&packet, &service, &selection);
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
