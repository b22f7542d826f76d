//! The layouts of headers, and EtherTypes. Fields of more than a byte are in network byte order.

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of a customer VLAN tag (IEEE 802.1Q).
pub const VLAN: u16 = 0x8100;
/// EtherType of a service VLAN tag (IEEE 802.1ad).
pub const SERVICE_VLAN: u16 = 0x88a8;
/// Plain bytes that may be read from a frame.
///
/// # Safety
/// Valid for every bit pattern.
pub unsafe trait Header: Copy {}

/// Ethernet II (IEEE 802.3 clause 3.2.6).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ethernet {
    /// Destination MAC address.
    pub destination: [u16; 3],
    /// Source MAC address.
    pub source: [u16; 3],
    /// EtherType, network byte order.
    pub ether_type: u16,
}

/// IPv4 without options (RFC 791 section 3.1). Fields are as in the packet: network byte order.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv4 {
    /// Version in the upper half, header length in words in the lower.
    pub version_ihl: u8,
    /// Type of service.
    pub tos: u8,
    /// Length of header and payload.
    pub total_length: [u8; 2],
    /// Identification.
    pub identification: [u8; 2],
    /// Flags in the upper three bits, fragment offset.
    pub flags_and_fragment_offset: [u8; 2],
    /// Time to live.
    pub ttl: u8,
    /// Protocol.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: [u8; 2],
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
}

/// TCP without options (RFC 9293 section 3.1).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Tcp {
    /// Source port.
    pub source: [u8; 2],
    /// Destination port.
    pub destination: [u8; 2],
    /// Sequence and acknowledgment numbers.
    pub sequence_and_acknowledgment: [u8; 8],
    /// Header length in words in the upper half.
    pub data_offset: u8,
    /// Flags.
    pub flags: u8,
    /// Window, checksum, urgent pointer.
    pub window_checksum_urgent: [u8; 6],
}

/// UDP (RFC 768).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Udp {
    /// Source port.
    pub source: [u8; 2],
    /// Destination port.
    pub destination: [u8; 2],
    /// Length of header and payload.
    pub length: [u8; 2],
    /// Checksum.
    pub checksum: [u8; 2],
}

/// A VLAN tag after the addresses (IEEE 802.1Q clause 9.3), network byte order.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct VlanTag {
    /// Priority in the upper three bits, drop eligible in the fourth, VLAN id.
    pub tci: u16,
    /// EtherType of what follows.
    pub ether_type: u16,
}

/// IPv6 (RFC 8200 section 3). Fields are as in the packet: network byte order.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv6 {
    /// Version in the upper four bits, traffic class, flow label.
    pub version_class_flow: [u8; 4],
    /// Length of what follows this header.
    pub payload_length: [u8; 2],
    /// What follows this header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
}

/// The start of an IPv6 extension header (RFC 8200 section 4), and all of a fragment header (section 4.5).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv6ExtensionHeader {
    /// What follows this header.
    pub next_header: u8,
    /// Its length in a unit of its kind; reserved in a fragment header.
    pub header_extension_length: u8,
    /// Fragment offset in the upper 13 bits, more-fragments flag in the lowest.
    pub fragment_offset_and_more: [u8; 2],
    /// Identification of the fragmented packet.
    pub identification: [u8; 4],
}

/// ICMP and ICMPv6 (RFC 792, RFC 4443 section 2.1), up to the packet an error quotes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum.
    pub checksum: [u8; 2],
    /// Depends on the type.
    pub rest_of_header: [u8; 4],
}

/// The ports that TCP and UDP begin with.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TransportPorts {
    /// Source port.
    pub source: [u8; 2],
    /// Destination port.
    pub destination: [u8; 2],
}

/// A QUIC short header up to the server id (RFC 9000 section 17.3; draft-ietf-quic-load-balancers section 3).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct QuicShort {
    /// Header form, fixed bit and protected bits.
    pub flags: u8,
    /// First octet of the connection id.
    pub connection_id_first_octet: u8,
    /// Server id.
    pub server_id: [u8; 2],
}

/// A QUIC long header up to the server id (RFC 9000 section 17.2).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct QuicLong {
    /// Form, fixed bit, type.
    pub flags: u8,
    /// Version.
    pub version: [u8; 4],
    /// Length of the destination connection id.
    pub connection_id_length: u8,
    /// First octet of that.
    pub connection_id_first_octet: u8,
    /// Server id.
    pub server_id: [u8; 2],
}

// SAFETY: every bit pattern is a number.
unsafe impl Header for [u8; 2] {}
// SAFETY: as above.
unsafe impl Header for u16 {}
// SAFETY: integers and arrays of them.
unsafe impl Header for Ethernet {}
// SAFETY: as above.
unsafe impl Header for Ipv4 {}
// SAFETY: as above.
unsafe impl Header for Tcp {}
// SAFETY: as above.
unsafe impl Header for Udp {}

// SAFETY: as above.
unsafe impl Header for VlanTag {}
// SAFETY: as above.
unsafe impl Header for Ipv6 {}
// SAFETY: as above.
unsafe impl Header for Ipv6ExtensionHeader {}
// SAFETY: as above.
unsafe impl Header for Icmp {}
// SAFETY: as above.
unsafe impl Header for TransportPorts {}
// SAFETY: as above.
unsafe impl Header for QuicShort {}
// SAFETY: as above.
unsafe impl Header for QuicLong {}

const _: () = assert!(size_of::<Ethernet>() == 14 && size_of::<VlanTag>() == 4);
const _: () = assert!(size_of::<Ipv4>() == 20 && size_of::<Ipv6>() == 40 && size_of::<Ipv6ExtensionHeader>() == 8);
const _: () = assert!(size_of::<Tcp>() == 20 && size_of::<Udp>() == 8 && size_of::<Icmp>() == 8);
