//! Step one: the headers. What is not TCP or UDP, nor an ICMP error about them, passes; what lies about itself is dropped,
//! but only on a VIP.
//!
//! - [`link`]: Ethernet and up to two VLAN tags
//! - [`internet`]: IPv4 with options, IPv6 with extension headers, fragments of both
//! - [`transport`]: TCP, UDP, and what an ICMP error quotes of them

mod internet;
mod link;
mod transport;

pub use self::{
    internet::{FARTHEST, IPV4, IPV6},
    link::{SERVICE_VLAN, VLAN},
};

use lbx_common::{address::Address, backend::Tags, drops::DropReason, flow::Signal};

use crate::{
    packet::{Frame, Mac},
    service,
    verdict::{Exit, Step},
};

/// What the later steps need to know of a packet. Ports are as in the packet: network byte order.
///
/// For an ICMP error these are addresses and ports of the packet it is about, seen from the client's side.
#[repr(C)]
#[derive(Default)]
pub struct Packet {
    /// Who sent it.
    pub client: Address,
    /// Where to.
    pub vip: Address,
    /// Destination MAC address.
    pub destination: Mac,
    /// Source MAC address.
    pub source: Mac,
    /// VLAN tags that say something; a priority tag (VLAN id 0) says nothing.
    pub tags: Tags,
    /// VLAN tags there are in the frame.
    pub depth: u32,
    /// Where in the frame the header begins that is read next; in the end that of TCP or UDP.
    pub at: u32,
    /// Bytes of the packet from there on.
    pub left: u32,
    /// Its length from the IP header on.
    pub length: u32,
    /// Identification of the packet that is fragmented.
    pub identification: u32,
    /// Offset of a fragment in units of 8 bytes.
    pub offset: u16,
    /// Client's port.
    pub client_port: [u8; 2],
    /// Service's port.
    pub vip_port: [u8; 2],
    /// TCP or UDP.
    pub protocol: u8,
    /// What it says about its flow.
    pub signal: Signal,
    /// 1 if more fragments follow.
    pub more: u8,
    pad: [u8; 7],
}

impl Packet {
    /// Whether it is a first fragment.
    #[inline(always)]
    pub fn is_first_fragment(&self) -> bool {
        self.more != 0 && self.offset == 0
    }

    /// Whether it is another fragment: its ports are not known.
    #[inline(always)]
    pub fn is_later_fragment(&self) -> bool {
        self.offset != 0
    }
}

/// Why a packet goes no further.
#[derive(Clone, Copy)]
enum Flaw {
    /// It is none of ours.
    Foreign,
    /// It lies about itself.
    Malformed(DropReason),
}

/// The outcome of a step through the headers.
type Headers = Result<(), Flaw>;

/// Parses a frame into a packet.
#[inline(always)]
pub fn parse(frame: &Frame<'_>, packet: &mut Packet) -> Step<()> {
    match headers(frame, packet) {
        Ok(()) => Ok(()),
        Err(Flaw::Foreign) => Err(Exit::Pass),
        Err(Flaw::Malformed(reason)) => Err(service::refuse(frame, packet, reason)),
    }
}

#[inline(always)]
fn headers(frame: &Frame<'_>, packet: &mut Packet) -> Headers {
    let ether_type = link::parse(frame, packet).ok_or(Flaw::Foreign)?;
    internet::parse(frame, ether_type, packet)?;
    transport::parse(frame, packet)
}

// Functions of a name of their own are verified by themselves, once: whatever leads through one header, for those that
// come after it the packet is plain memory. They can return no more than a number. A call costs more than a header, so
// only what is rare is one.

const OK: u32 = 0;
const FOREIGN: u32 = 1;
/// Added to the index of a drop reason.
const MALFORMED: u32 = 2;

#[inline(always)]
fn to_code(headers: Headers) -> u32 {
    match headers {
        Ok(()) => OK,
        Err(Flaw::Foreign) => FOREIGN,
        Err(Flaw::Malformed(reason)) => MALFORMED + reason.index(),
    }
}

#[inline(always)]
fn from_code(code: u32) -> Headers {
    if code == OK {
        return Ok(());
    }
    match DropReason::from_index(code.wrapping_sub(MALFORMED)) {
        Some(reason) => Err(Flaw::Malformed(reason)),
        None => Err(Flaw::Foreign),
    }
}
