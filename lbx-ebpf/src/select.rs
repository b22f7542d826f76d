//! Step three: selects the backend of a packet.
//!
//! The rule: a flow with a record goes to the recorded backend; a new connection goes to the scheduled backend and is
//! recorded unless that is the slot's owner; everything else goes to the owner. In a hashed service outside of any window
//! every slot's current backend is its owner, and nothing is read or written but the slot.

use lbx_common::{
    drops::DropReason,
    flow::{self as record, EMPTY, FlowEntry, FlowEvent},
    hash,
    service::{HASH_CLIENT_ADDRESS, HASH_VIP, ONE_PACKET, PERSISTENT, QUIC, RECORD_ALL, WAS_SCHEDULED_BY_HASH},
    slot::{self, Slot},
    trace::SelectionReason,
};

use crate::{
    backend, clock,
    flow::Flow,
    frame::Frame,
    maps,
    packet::Packet,
    persistence, quic,
    schedule::schedule,
    selection::Selection,
    service_ref::ServiceRef,
    verdict::{Verdict, VerdictResult},
};

/// Selects the backend.
#[inline(always)]
pub fn backend(frame: &Frame<'_>, packet: &Packet, service: &ServiceRef) -> VerdictResult<Selection> {
    const NO_BACKEND: Verdict = Verdict::Drop(DropReason::NoBackend);
    if service.flags & QUIC != 0
        && let Some(index) = quic::backend_by_server_id(frame, packet, service.number)
        && backend::may_have_connections(service.backend_range(), index)
    {
        return resolve(service, index, false, SelectionReason::Quic).ok_or(NO_BACKEND);
    }
    if service.fragment_backend != slot::NO_BACKEND {
        return resolve(service, service.fragment_backend, false, SelectionReason::Fragment).ok_or(NO_BACKEND);
    }
    let slot = slot_of(packet, service).ok_or(Verdict::Drop(DropReason::TableMismatch))?;
    if service.flags & ONE_PACKET != 0 && packet.flow_event.is_related() {
        // The backend that sent the quoted packet is not known.
        return resolve(service, slot.current, false, SelectionReason::Slot).ok_or(NO_BACKEND);
    }
    if service.flags & ONE_PACKET != 0 {
        let index = schedule(service, slot);
        // As in IPVS each datagram is a connection, which ends with it.
        return resolve(service, index, true, SelectionReason::Scheduled).ok_or_else(|| exit_without(index));
    }
    if service.flags & RECORD_ALL == 0 && !slot.has_records {
        let opens = packet.flow_event.opens_connection();
        return resolve(service, slot.current, opens, SelectionReason::Slot)
            .or_else(|| resolve(service, slot.owner, opens, SelectionReason::Owner))
            // All bits of NO_BACKEND are set: it is that only if both are.
            .ok_or_else(|| exit_without(slot.current & slot.owner));
    }
    let SelectedIndex { index, new, reason } = with_records(packet, service, slot);
    resolve(service, index, new, reason).ok_or_else(|| exit_without(index))
}

/// Selects the backend of a packet that changes nothing: its slot is outside of any window, or it has a record that stays as it is.
/// None: [`backend`] decides.
#[inline(always)]
pub fn without_update(packet: &Packet, service: &ServiceRef) -> Option<Selection> {
    if service.flags & (QUIC | ONE_PACKET) != 0 {
        return None;
    }
    let slot = slot_of(packet, service)?;
    if service.flags & RECORD_ALL == 0 && !slot.has_records {
        let opens = packet.flow_event.opens_connection();
        return resolve(service, slot.current, opens, SelectionReason::Slot);
    }
    let mut flow = flow_of(packet, service);
    let found = flow.find();
    stays(found, packet, service, flow.current_tick)
        .then(|| resolve(service, found.backend, false, SelectionReason::Record))
        .flatten()
}

/// The flow of a packet, now.
#[inline(always)]
fn flow_of(packet: &Packet, service: &ServiceRef) -> Flow {
    Flow::new(
        packet.client,
        packet.client_port,
        service.number,
        packet.vip_port,
        clock::current_tick(),
    )
}

/// Whether a record counts for this packet and need not be updated.
#[inline(always)]
fn stays(found: FlowEntry, packet: &Packet, service: &ServiceRef, now: u32) -> bool {
    is_live(found, packet, service, now) && found.after_packet(packet.flow_event, now) == found
}

/// The exit of a packet whose selection is a backend that packets can't be sent to, or [`slot::NO_BACKEND`]. A backend may have failed
/// while the daemon is still assigning its slots to others: such a packet is dropped, and its retransmission finds the other.
#[inline(always)]
fn exit_without(index: u16) -> Verdict {
    if index == slot::NO_BACKEND {
        Verdict::NoBackend
    } else {
        Verdict::Drop(DropReason::NoBackend)
    }
}

/// The slot of a packet, by the fields the service hashes.
#[inline(always)]
fn slot_of(packet: &Packet, service: &ServiceRef) -> Option<Slot> {
    let without_ports = service.flags & (HASH_CLIENT_ADDRESS | HASH_VIP) != 0;
    let address = if service.flags & HASH_VIP != 0 {
        packet.vip
    } else {
        packet.client
    };
    let [client_port, vip_port] = if without_ports {
        [[0; 2]; 2]
    } else {
        [packet.client_port, packet.vip_port]
    };
    let (base, len) = service.slot_range();
    let tuple = hash::tuple_word(address, client_port, vip_port);
    maps::slot(base.wrapping_add(hash::slot(tuple, len)))
}

/// The path of services that record every flow, and of slots that may have records.
#[inline(always)]
fn with_records(packet: &Packet, service: &ServiceRef, slot: Slot) -> SelectedIndex {
    let mut flow = flow_of(packet, service);
    let found = flow.find();
    // Nearly always there is a live record that need not be updated; then no function is called.
    if stays(found, packet, service, flow.current_tick) {
        return SelectedIndex {
            index: found.backend,
            new: false,
            reason: SelectionReason::Record,
        };
    }
    let known = lbx_select_known(packet, &raw const flow, slot.to_word(), found.to_word());
    if known != NEW_FLOW {
        return SelectedIndex::from_word(known);
    }
    SelectedIndex::from_word(lbx_select_new(packet, &raw const flow, slot.to_word(), found.to_word()))
}

/// A selection whose next hop has not been looked up yet. Global functions return it as one word.
#[derive(Clone, Copy)]
struct SelectedIndex {
    index: u16,
    new: bool,
    reason: SelectionReason,
}

/// The word for "a flow begins".
const NEW_FLOW: u64 = 1 << 40;

impl SelectedIndex {
    /// Index in bits 0–15, whether the flow is new in 16, reason in 24–31.
    #[inline(always)]
    fn to_word(self) -> u64 {
        u64::from(self.index) | u64::from(self.new) << 16 | u64::from(self.reason as u8) << 24
    }

    #[inline(always)]
    fn from_word(word: u64) -> Self {
        Self {
            index: word as u16,
            new: word & 1 << 16 != 0,
            reason: SelectionReason::from_code((word >> 24) as u8),
        }
    }
}

// Global functions: the verifier checks each once, on its own, whatever paths lead to it.

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_select_known(packet: *const Packet, flow: *const Flow, slot: u64, found: u64) -> u64 {
    // SAFETY: null or the caller's.
    let (Some(packet), Some(flow)) = (unsafe { (packet.as_ref(), flow.as_ref()) }) else {
        return NO_INDEX;
    };
    match ServiceRef::by_number(flow.service) {
        Some(service) => known(
            packet,
            flow,
            &service,
            Slot::from_word(slot),
            FlowEntry::from_word(found),
        ),
        None => NO_INDEX,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_select_new(packet: *const Packet, flow: *const Flow, slot: u64, found: u64) -> u64 {
    // SAFETY: null or the caller's.
    let (Some(packet), Some(flow)) = (unsafe { (packet.as_ref(), flow.as_ref()) }) else {
        return NO_INDEX;
    };
    match ServiceRef::by_number(flow.service) {
        Some(service) => begin(
            packet,
            flow,
            &service,
            Slot::from_word(slot),
            FlowEntry::from_word(found),
        )
        .to_word(),
        None => NO_INDEX,
    }
}

const NO_INDEX: u64 = slot::NO_BACKEND as u64;

/// The selection for a flow by its record, or by the lack of one. `found` is [`EMPTY`] where there is no record.
#[inline(always)]
fn known(packet: &Packet, flow: &Flow, service: &ServiceRef, slot: Slot, found: FlowEntry) -> u64 {
    if is_live(found, packet, service, flow.current_tick) {
        update(flow, found, packet, service);
        return SelectedIndex {
            index: found.backend,
            new: false,
            reason: SelectionReason::Record,
        }
        .to_word();
    }
    // UDP has no first packet: where every flow is recorded, a datagram without a record begins a flow.
    let all_recorded = service.flags & (RECORD_ALL | WAS_SCHEDULED_BY_HASH) == RECORD_ALL;
    if packet.flow_event.opens_connection() || (all_recorded && packet.flow_event.is_datagram()) {
        return NEW_FLOW;
    }
    let owner = owner(service, slot);
    let recorded = !needs_no_record(service, slot, owner) && record(flow, service, owner, packet.flow_event);
    // If timeouts are raised later, an expired record must not become live again.
    if !recorded && !packet.flow_event.is_related() {
        flow.erase(found);
    }
    SelectedIndex {
        index: owner,
        new: false,
        reason: SelectionReason::Owner,
    }
    .to_word()
}

/// Whether a record counts for this packet.
#[inline(always)]
fn is_live(found: FlowEntry, packet: &Packet, service: &ServiceRef, now: u32) -> bool {
    let over = found.state == EMPTY || (packet.flow_event.opens_connection() && record::is_closing(found.state));
    !over
        && !found.expired(now, &service.timeouts())
        && backend::may_have_connections(service.backend_range(), found.backend)
}

/// The selection for a new flow. If no backend is eligible, none is selected: a draining owner only keeps the connections it
/// has.
#[inline(always)]
fn begin(packet: &Packet, flow: &Flow, service: &ServiceRef, slot: Slot, stale: FlowEntry) -> SelectedIndex {
    let scheduled = persistent_or_scheduled(packet, service, slot);
    let mut selected = SelectedIndex {
        index: scheduled,
        new: true,
        reason: SelectionReason::Scheduled,
    };
    if scheduled == slot::NO_BACKEND {
        return selected;
    }
    let owner = owner(service, slot);
    // The scheduled backend may have failed since: then the owner gets the flow, as it gets every flow without a record.
    if !backend::may_have_connections(service.backend_range(), scheduled) {
        selected.index = owner;
        selected.reason = SelectionReason::Owner;
    }
    if !needs_no_record(service, slot, selected.index) && record(flow, service, selected.index, packet.flow_event) {
        return selected;
    }
    // The owner needs no record. It also gets the flow if the table has no free record.
    flow.erase(stale);
    SelectedIndex {
        index: owner,
        reason: SelectionReason::Owner,
        ..selected
    }
}

/// The backend for a new flow: that of the client's template in a persistent service, or the scheduler's choice.
#[inline(always)]
fn persistent_or_scheduled(packet: &Packet, service: &ServiceRef, slot: Slot) -> u16 {
    if service.flags & PERSISTENT == 0 {
        return schedule(service, slot);
    }
    let persistent = persistence::find_backend(packet, service);
    if persistent != slot::NO_BACKEND {
        return persistent;
    }
    let scheduled = schedule(service, slot);
    let (.., sorry) = service.scheduling_fields();
    // A client must not persist on the sorry server after the others have capacity again.
    if scheduled != slot::NO_BACKEND && scheduled != sorry {
        persistence::insert_template(packet, service, scheduled);
    }
    scheduled
}

/// The backend of a slot's flows without a record. If the owner has failed and the daemon has not assigned a new one yet,
/// that is the slot's current backend.
#[inline(always)]
fn owner(service: &ServiceRef, slot: Slot) -> u16 {
    if backend::may_have_connections(service.backend_range(), slot.owner) {
        slot.owner
    } else {
        slot.current
    }
}

/// Whether a flow to this backend needs no record: the slot has no window and the backend owns it. With a failed owner a
/// record is needed, since the daemon may assign the slot to a third backend.
#[inline(always)]
fn needs_no_record(service: &ServiceRef, slot: Slot, index: u16) -> bool {
    service.flags & RECORD_ALL == 0 && index == slot.owner && slot.current == slot.owner
}

/// Updates the record of a flow, at most once a tick. If another CPU wins the race, it has written the same.
#[inline(always)]
fn update(flow: &Flow, found: FlowEntry, packet: &Packet, service: &ServiceRef) {
    let entry = found.after_packet(packet.flow_event, flow.current_tick);
    if entry == found {
        return;
    }
    let confirmed = record::is_evictable(found.state) && !record::is_evictable(entry.state);
    if flow.replace(found, entry) && confirmed && service.flags & PERSISTENT != 0 {
        persistence::confirm_template(packet, service);
    }
}

/// Writes a record for a flow without one; false where none can be had.
#[inline(always)]
fn record(flow: &Flow, service: &ServiceRef, backend: u16, signal: FlowEvent) -> bool {
    let Some(state) = record::first_state(signal) else {
        return false;
    };
    backend::may_have_connections(service.backend_range(), backend) && flow.insert(backend, state)
}

/// Completes a selection with the next hop, if packets may be sent to the backend.
#[inline(always)]
fn resolve(service: &ServiceRef, index: u16, new: bool, reason: SelectionReason) -> Option<Selection> {
    let next_hop = backend::next_hop(service.backend_range(), index)?;
    Some(Selection {
        next_hop,
        index_in_service: index,
        new_flow: new,
        reason,
    })
}
