//! The trace of decisions. Loaded with `TRACE` = 0 the verifier removes all of it.

use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::info;
use lbx_common::service::Service;

use crate::{maps, parse::Packet, pick::Choice};

/// Tells a decision, if someone asked for it.
#[inline(always)]
pub fn tell(ctx: &XdpContext, packet: &Packet, service: &Service, choice: &Choice) {
    if maps::tracing() && maps::trace_filter().is_some_and(|filter| filter.matches(packet.client, service.number)) {
        record(ctx, packet, service, choice);
    }
}

/// One line: who, to which service, why, to which backend. User space turns numbers into names.
#[inline(never)]
fn record(ctx: &XdpContext, packet: &Packet, service: &Service, choice: &Choice) {
    info!(
        ctx,
        "client={:i}:{} service={} signal={} why={} backend={} new={} length={}",
        packet.client,
        u16::from_be_bytes(packet.client_port),
        service.number,
        packet.signal as u8,
        choice.why as u8,
        choice.index,
        choice.new as u8,
        packet.length,
    );
}
