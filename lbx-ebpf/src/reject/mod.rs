//! Packets of services that have no eligible backend: answered, so that clients need not wait for a time-out, or dropped.
//!
//! - [`reset`] answers TCP
//! - [`unreachable`] answers UDP
//! - [`header`] writes the headers of either answer
//!
//! An answer goes from the VIP to the client, through the MAC address that the packet came from, with the VLAN tags it came with.
//! No answer to a RST, an ICMP error or a fragment without ports (RFC 1122 section 3.2.2, RFC 4443 section 2.4), nor above
//! [`rate_limit::RATE`].

mod header;
mod reset;
mod unreachable;

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use lbx_common::{
    drops::DropReason,
    rate_limit,
    service::{REJECT, TCP},
};

use crate::{atomic, clock, frame::Frame, maps, packet::Packet, service_ref::ServiceRef, verdict::Verdict};

/// The verdict on a packet that could not be balanced, answered if there is no backend and the service rejects.
#[inline(always)]
pub fn answer_if_empty(frame: &Frame<'_>, packet: &Packet, service: &ServiceRef, verdict: Verdict) -> Verdict {
    if verdict != Verdict::NoBackend || service.flags & REJECT == 0 {
        return verdict;
    }
    match lbx_reject(frame.xdp_md(), packet, u32::from(service.number)) {
        ANSWERED => Verdict::Rejected,
        LIMITED => Verdict::Drop(DropReason::RejectLimit),
        _ => Verdict::NoBackend,
    }
}

const UNANSWERED: u32 = 0;
const ANSWERED: u32 = 1;
const LIMITED: u32 = 2;

/// A global function: the verifier checks it once, on its own, and packets that are balanced never run through it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_reject(xdp_md: *mut xdp_md, packet: *const Packet, service: u32) -> u32 {
    // SAFETY: null or a packet of the caller's.
    let Some(packet) = (unsafe { packet.as_ref() }) else {
        return UNANSWERED;
    };
    // Datagrams are answered whole or by their first fragment; what a fragmented TCP segment holds is not known.
    let answerable = packet.protocol != TCP || packet.more_fragments == 0;
    if packet.flow_event.is_related() || packet.flow_event.is_rst() || !answerable || is_group(packet.source_mac) {
        return UNANSWERED;
    }
    if !is_within_rate(service as u16) {
        return LIMITED;
    }
    let answered = if packet.protocol == TCP {
        lbx_reject_tcp(xdp_md, packet)
    } else {
        lbx_reject_udp(xdp_md, packet)
    };
    if answered != 0 { ANSWERED } else { UNANSWERED }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_reject_tcp(xdp_md: *mut xdp_md, packet: *const Packet) -> u32 {
    // SAFETY: as above.
    let Some(packet) = (unsafe { packet.as_ref() }) else {
        return 0;
    };
    let context = XdpContext::new(xdp_md);
    u32::from(reset::build(&Frame::new(&context), packet).is_some())
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_reject_udp(xdp_md: *mut xdp_md, packet: *const Packet) -> u32 {
    // SAFETY: as above.
    let Some(packet) = (unsafe { packet.as_ref() }) else {
        return 0;
    };
    let context = XdpContext::new(xdp_md);
    u32::from(unreachable::build(&Frame::new(&context), packet).is_some())
}

/// Whether a MAC address is that of a group of hosts (IEEE 802.3 clause 3.2.3): no host sends from one.
#[inline(always)]
fn is_group(mac: crate::frame::Mac) -> bool {
    mac.to_ne_bytes()[0] & 1 != 0
}

/// Takes a token of a service.
#[inline(always)]
fn is_within_rate(service: u16) -> bool {
    const ATTEMPTS: usize = 4;
    let Some(bucket) = maps::reject_limit(service) else {
        return false;
    };
    let now = clock::nanoseconds();
    for _ in 0..ATTEMPTS {
        let before = atomic::load(bucket);
        let Some(after) = rate_limit::take(before, now) else {
            return false;
        };
        if atomic::compare_exchange(bucket, before, after) == before {
            return true;
        }
    }
    false
}
