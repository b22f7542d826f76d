//! Step one: the headers. Anything but TCP, UDP and ICMP errors about them passes; malformed packets are dropped, but only
//! those to a VIP.
//!
//! - [`link`]: Ethernet and up to two VLAN tags
//! - [`internet`]: IPv4 with options, IPv6 with extension headers, fragments of both
//! - [`transport`]: TCP, UDP, and what an ICMP error quotes of them
//! - [`outcome`]: what each of them ends with
//! - [`fast_path`]: all headers of the packets that nearly all are, at once

pub mod fast_path;
mod internet;
mod link;
mod outcome;
mod transport;

use self::outcome::{ParseError, ParseResult};
use crate::{
    admission,
    frame::Frame,
    packet::Packet,
    verdict::{Verdict, VerdictResult},
};

/// Parses a frame into a packet.
#[inline(always)]
pub fn parse(frame: &Frame<'_>, packet: &mut Packet) -> VerdictResult<()> {
    match headers(frame, packet) {
        Ok(()) => Ok(()),
        Err(ParseError::Unsupported) => Err(Verdict::Pass),
        Err(ParseError::Malformed(reason)) => Err(admission::malformed_verdict(frame, packet, reason)),
    }
}

#[inline(always)]
fn headers(frame: &Frame<'_>, packet: &mut Packet) -> ParseResult {
    let ether_type = link::parse(frame, packet).ok_or(ParseError::Unsupported)?;
    internet::parse(frame, ether_type, packet)?;
    transport::parse(frame, packet)
}
