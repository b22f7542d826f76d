//! The trace of decisions. Loaded with `TRACE` = 0 the verifier removes all of it.

use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::info;

use crate::{maps, parse::Packet, pick::Choice, service::Meant};

/// Tells a decision, if someone asked for it.
#[inline(always)]
pub fn tell(ctx: &XdpContext, packet: &Packet, meant: &Meant, choice: &Choice) {
    if maps::tracing() && maps::trace_filter().is_some_and(|filter| filter.matches(packet.client, meant.number)) {
        record(
            ctx,
            packet,
            meant.number,
            u32::from(choice.index) | u32::from(choice.new) << 16,
            choice.why as u8,
        );
    }
}

/// One line: who, to which service, why, to which backend. User space turns numbers into names. `choice`: backend's index in
/// bits 0–15, whether the flow is new in bit 16. Plain numbers: a place in memory would cost every packet.
#[inline(never)]
fn record(ctx: &XdpContext, packet: &Packet, service: u16, choice: u32, why: u8) {
    info!(
        ctx,
        "client={:i}:{} service={} signal={} why={} backend={} new={} length={}",
        packet.client.octets(),
        u16::from_be_bytes(packet.client_port),
        service,
        packet.signal.code(),
        why,
        choice as u16,
        (choice >> 16) as u8,
        packet.length,
    );
}
