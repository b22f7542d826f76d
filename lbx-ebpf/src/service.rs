//! Step two: the service a packet is for, and whether this NIC balances it.

use lbx_common::{
    drops::DropReason,
    service::{TCP, UDP},
    slot::NO_BACKEND,
};

use crate::{
    admission, fragment,
    frame::Frame,
    local, lookup,
    packet::Packet,
    service_ref::ServiceRef,
    verdict::{Verdict, VerdictResult},
};

/// The service of a packet. The lookup comes first, so that other traffic costs nothing else.
#[inline(always)]
pub fn find(frame: &Frame<'_>, packet: &Packet) -> VerdictResult<ServiceRef> {
    let Some(vip) = lookup::vip_number_and_flags(packet.vip) else {
        return Err(local::reply::rewrite_reply(frame, packet));
    };
    if packet.is_later_fragment() {
        return of_later_fragment(frame, packet, vip);
    }
    // Port 0 is reserved (RFC 6335 section 6): lookups use it for "all ports", persistence templates for "no port".
    if packet.vip_port == [0; 2] {
        return Err(Verdict::Pass);
    }
    let Some(number) = lookup::service_number(vip, packet.protocol, packet.vip_port) else {
        if packet.is_first_fragment() && admission::arrived_on_client_nic(frame, packet) {
            fragment::record_pass(packet);
        }
        return Err(Verdict::Pass);
    };
    if !admission::arrived_on_client_nic(frame, packet) {
        return Err(Verdict::Pass);
    }
    if !admission::is_valid_source(packet) {
        return Err(Verdict::Drop(DropReason::BadSource));
    }
    ServiceRef::by_number(number).ok_or(Verdict::Drop(DropReason::TableMismatch))
}

/// The service of a fragment without ports: that of its first fragment, or one that takes all ports and needs none.
#[inline(always)]
fn of_later_fragment(frame: &Frame<'_>, packet: &Packet, vip: u64) -> VerdictResult<ServiceRef> {
    const ORPHAN: Verdict = Verdict::Drop(DropReason::OrphanFragment);
    if !admission::arrived_on_client_nic(frame, packet) {
        return Err(Verdict::Pass);
    }
    if !admission::is_valid_source(packet) {
        return Err(Verdict::Drop(DropReason::BadSource));
    }
    let found = lbx_service_of_fragment(packet, vip);
    if found == NOT_FOUND {
        // Anything but TCP and UDP is an extension header here; the protocol behind it is unknown.
        let balanced = matches!(packet.protocol, TCP | UDP);
        return Err(if balanced { ORPHAN } else { Verdict::Pass });
    }
    if found as u16 == NO_BACKEND {
        return Err(Verdict::Pass);
    }
    let service = ServiceRef::by_number(found as u16).ok_or(ORPHAN)?;
    Ok(service.with_fragment_backend((found >> 16) as u16))
}

const NOT_FOUND: u64 = u64::MAX;

/// Service number in bits 0–15, backend of the first fragment in 16–31. A global function: the verifier checks it once, on
/// its own.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_service_of_fragment(packet: *const Packet, vip: u64) -> u64 {
    // SAFETY: null or a packet of the caller's.
    let Some(packet) = (unsafe { packet.as_ref() }) else {
        return NOT_FOUND;
    };
    if let Some(first) = fragment::find_first_fragment(packet) {
        return u64::from(first.service) | u64::from(first.backend) << 16;
    }
    match lookup::all_ports_service(vip, packet.protocol).and_then(ServiceRef::by_number) {
        Some(service) if fragment::forwards_without_first_fragment(service.flags) => {
            u64::from(service.number) | u64::from(NO_BACKEND) << 16
        }
        _ => NOT_FOUND,
    }
}
