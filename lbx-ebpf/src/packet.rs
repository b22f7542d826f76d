//! What parsing has found out about a packet: all that the later steps need.

use lbx_common::{address::Address, backend::VlanTags, flow::FlowEvent};

use crate::frame::{Ethernet, Mac, VlanTag};

/// A parsed packet. Ports are as in the packet: network byte order.
///
/// For an ICMP error these are addresses and ports of the quoted packet, seen from the client's side.
#[repr(C)]
#[derive(Default)]
pub struct Packet {
    /// Source address.
    pub client: Address,
    /// Destination address.
    pub vip: Address,
    /// Destination MAC address.
    pub destination_mac: Mac,
    /// Source MAC address.
    pub source_mac: Mac,
    /// VLAN tags with a VLAN id; priority tags (VLAN id 0) are not among them.
    pub vlan_tags: VlanTags,
    /// Number of VLAN tags in the frame, priority tags included.
    pub tag_count: u32,
    /// Offset in the frame of the next header to be read; in the end that of the TCP or UDP header.
    pub header_offset: u32,
    /// Bytes of the packet from there on.
    pub remaining_bytes: u32,
    /// Length from the IP header on.
    pub ip_length: u32,
    /// Identification of the fragmented packet.
    pub identification: u32,
    /// Fragment offset in units of 8 bytes.
    pub fragment_offset: u16,
    /// Client's port.
    pub client_port: [u8; 2],
    /// Service's port.
    pub vip_port: [u8; 2],
    /// TCP or UDP.
    pub protocol: u8,
    /// What it means for the state of its flow.
    pub flow_event: FlowEvent,
    /// 1 if more fragments follow.
    pub more_fragments: u8,
    /// Always zero.
    pub pad: [u8; 7],
}

impl Packet {
    /// Offset in the frame of the IP header; none if a caller of a global function could not have parsed such a packet.
    #[inline(always)]
    pub fn network_offset(&self) -> Option<usize> {
        (self.tag_count <= 2).then(|| size_of::<Ethernet>() + self.tag_count as usize * size_of::<VlanTag>())
    }

    /// Whether it is a first fragment.
    #[inline(always)]
    pub fn is_first_fragment(&self) -> bool {
        self.more_fragments != 0 && self.fragment_offset == 0
    }

    /// Whether it is a later fragment: its ports are not known.
    #[inline(always)]
    pub fn is_later_fragment(&self) -> bool {
        self.fragment_offset != 0
    }
}
