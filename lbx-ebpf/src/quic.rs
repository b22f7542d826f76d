//! QUIC connection ids that carry a server id, so that a client whose address changes stays on its backend.
//!
//! The layout is that of draft-ietf-quic-load-balancers section 3 and 4, without encryption: an octet whose upper three
//! bits are the configuration (here 0), then the server id, of two octets in network byte order.

use lbx_common::flow::FlowEvent;

use crate::{
    frame::{Frame, QuicLong, QuicShort, Udp},
    maps,
    packet::Packet,
};

/// Header form bit (RFC 9000 section 17.2): set in long headers.
const LONG: u8 = 0x80;
/// Fixed bit (RFC 9000 section 17): set in every packet.
const FIXED: u8 = 0x40;
/// Packet type of a long header: Initial and 0-RTT carry an id chosen by the client, Handshake one chosen by the server.
const KIND: u8 = 0x30;
/// Version 1 and its Handshake type (RFC 9000 section 17.2), version 2 and its Handshake type (RFC 9369 section 3).
const V1: u32 = 1;
const HANDSHAKE1: u8 = 0x20;
const V2: u32 = 0x6b33_43cf;
const HANDSHAKE2: u8 = 0x30;
/// Configuration bits of the first octet of a connection id.
const CONFIGURATION: u8 = 0xe0;

/// The backend index of the server id in a packet's connection id.
#[inline(never)]
pub fn backend_by_server_id(frame: &Frame<'_>, packet: &Packet, service: u16) -> Option<u16> {
    if packet.flow_event != FlowEvent::DATAGRAM || packet.is_later_fragment() {
        return None;
    }
    let offset = (packet.header_offset & 0x3fff) as usize + size_of::<Udp>();
    let holds = |bytes: usize| packet.remaining_bytes as usize >= size_of::<Udp>() + bytes;
    if !holds(size_of::<QuicShort>()) {
        return None;
    }
    let short: QuicShort = frame.read(offset)?;
    if short.flags & FIXED == 0 {
        return None;
    }
    let (octet, id) = if short.flags & LONG == 0 {
        (short.connection_id_first_octet, short.server_id)
    } else {
        if !holds(size_of::<QuicLong>()) {
            return None;
        }
        let long: QuicLong = frame.read(offset)?;
        let kind = long.flags & KIND;
        let handshake = match u32::from_be_bytes(long.version) {
            V1 => kind == HANDSHAKE1,
            V2 => kind == HANDSHAKE2,
            _ => false,
        };
        if !handshake || long.connection_id_length < 3 {
            return None;
        }
        (long.connection_id_first_octet, long.server_id)
    };
    if octet & CONFIGURATION != 0 {
        return None;
    }
    maps::backend_by_quic_server_id(service, u16::from_be_bytes(id))
}
