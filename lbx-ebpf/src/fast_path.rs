//! The fast path, for the packets that nearly all are ([`parse::fast_path`]) where they change nothing but counters: the slot is
//! outside of any window or the record stays as it is, and the real server is reached by the ingress NIC without VLAN tags.
//!
//! It takes the same steps as the general path, over the same tables; but no packet is put together in memory. Whatever is not so is
//! left to the general path, which begins anew.

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use lbx_common::service::UDP;

use crate::{
    admission, count,
    frame::Frame,
    lookup, maps,
    packet::Packet,
    parse, rewrite, routed_reply, select,
    service_ref::ServiceRef,
    transmit::Egress,
    verdict::{Verdict, VerdictResult},
};

/// The outcome of a frame; none: the general path decides.
#[inline(always)]
pub fn balance(frame: &Frame<'_>) -> Option<VerdictResult<Egress>> {
    if maps::trace_enabled() {
        return None;
    }
    // Not one call for both: for IPv4 half of each address is a constant.
    if let Some(packet) = parse::fast_path::ipv4(frame) {
        return forward(frame, &packet);
    }
    from_code(lbx_fast_path6(frame.xdp_md()))
}

/// IPv6. A global function: the verifier checks it once, on its own.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_fast_path6(xdp_md: *mut xdp_md) -> u32 {
    let context = XdpContext::new(xdp_md);
    let frame = Frame::new(&context);
    match parse::fast_path::ipv6(&frame).and_then(|packet| forward(&frame, &packet)) {
        Some(Ok(_)) => SENT,
        Some(Err(_)) => PASSED,
        None => UNDECIDED,
    }
}

const UNDECIDED: u32 = 0;
const PASSED: u32 = 1;
const SENT: u32 = 2;

/// The outcome of a code: the fast path only passes and sends.
#[inline(always)]
fn from_code(code: u32) -> Option<VerdictResult<Egress>> {
    match code {
        SENT => Some(Ok(Egress::SameNic)),
        PASSED => Some(Err(Verdict::Pass)),
        _ => None,
    }
}

#[inline(always)]
fn forward(frame: &Frame<'_>, packet: &Packet) -> Option<VerdictResult<Egress>> {
    let Some(vip) = lookup::vip_number_and_flags(packet.vip) else {
        let is_others = !maps::has_sessions(packet.protocol == UDP, packet.vip_port) && !routed_reply::may_be(packet);
        return is_others.then_some(Err(Verdict::Pass));
    };
    let number = lookup::service_number_of_port(vip, packet.protocol, packet.vip_port)?;
    if packet.vip_port == [0; 2]
        || admission::arrived_on_known_client_nic(frame, packet) != Some(true)
        || !admission::is_valid_source(packet)
    {
        return None;
    }
    let service = ServiceRef::by_number(number)?;
    let selection = select::without_update(packet, &service)?;
    let next_hop = &selection.next_hop;
    if next_hop.vlan_tags != 0 || next_hop.ifindex != frame.ingress_ifindex() || next_hop.mac == packet.source_mac {
        return None;
    }
    rewrite::ethernet(frame, packet, next_hop).ok()?;
    count::forwarded(packet, &service, &selection);
    Some(Ok(Egress::SameNic))
}
