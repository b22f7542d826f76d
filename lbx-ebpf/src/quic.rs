//! QUIC connection ids that name their server, so that a client that changes its address stays where it is.
//!
//! The layout is that of draft-ietf-quic-load-balancers section 3 and 4, without encryption: an octet whose upper three
//! bits are the configuration (here 0), then the server id, of two octets in network byte order.

use lbx_common::flow::Signal;

use crate::{
    maps,
    packet::{Frame, QuicLong, QuicShort, Udp},
    parse::Packet,
};

/// Header form bit (RFC 9000 section 17.2): set in long headers.
const LONG: u8 = 0x80;
/// Fixed bit (RFC 9000 section 17): set in every packet.
const FIXED: u8 = 0x40;
/// Packet type of a long header: Initial and 0-RTT carry an id of the client's choice.
const KIND: u8 = 0x30;
const HANDSHAKE: u8 = 0x20;
/// Configuration bits of the first octet of a connection id.
const CONFIGURATION: u8 = 0xe0;

/// The backend index that a packet's connection id names.
#[inline(never)]
pub fn server(frame: &Frame<'_>, packet: &Packet, service: u16) -> Option<u16> {
    if packet.signal != Signal::DATAGRAM || packet.is_later_fragment() {
        return None;
    }
    let at = (packet.at & 0x3fff) as usize + size_of::<Udp>();
    let short: QuicShort = frame.read(at)?;
    if short.flags & FIXED == 0 {
        return None;
    }
    let (octet, id) = if short.flags & LONG == 0 {
        (short.connection_id, short.server_id)
    } else {
        let long: QuicLong = frame.read(at)?;
        if long.flags & KIND != HANDSHAKE || usize::from(long.length) < 3 {
            return None;
        }
        (long.connection_id, long.server_id)
    };
    if octet & CONFIGURATION != 0 {
        return None;
    }
    maps::quic(service, u16::from_be_bytes(id))
}
