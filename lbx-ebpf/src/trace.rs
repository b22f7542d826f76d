//! The decision trace. When the program is loaded with `TRACE` = 0, the verifier removes all of it.

use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::info;

use crate::{maps, packet::Packet, selection::Selection, service_ref::ServiceRef};

/// Emits a decision if a trace is running and its filter matches.
#[inline(always)]
pub fn emit(ctx: &XdpContext, packet: &Packet, service: &ServiceRef, selection: &Selection) {
    if maps::trace_enabled() && maps::trace_filter().is_some_and(|filter| filter.matches(packet.client, service.number))
    {
        record(
            ctx,
            packet,
            service.number,
            u32::from(selection.index_in_service) | u32::from(selection.new_flow) << 16,
            selection.reason as u8,
        );
    }
}

/// One line per decision, numbers only: user space turns them into names. `selected` has the backend's index in bits 0–15
/// and whether the flow is new in bit 16; a struct on the stack would cost every packet.
#[inline(never)]
fn record(ctx: &XdpContext, packet: &Packet, service: u16, selected: u32, reason: u8) {
    info!(
        ctx,
        "client={:i} port={} service={} signal={} reason={} backend={} new={} length={}",
        packet.client.octets(),
        u16::from_be_bytes(packet.client_port),
        service,
        packet.flow_event.code(),
        reason,
        selected as u16,
        (selected >> 16) as u8,
        packet.ip_length,
    );
}
