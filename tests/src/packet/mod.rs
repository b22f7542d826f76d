//! Frames for fixtures, whole and broken.
//!
//! A [`Frame`] describes a frame; [`Frame::bytes`] lays it out with right lengths and checksums. Every lie (a length, an
//! offset, a cut) is told by a method of its own, so that a fixture shows what is wrong with its frame and nothing else is.
//!
//! - this file: frames, their addresses and VLAN tags
//! - `ip`: what they carry
//! - [`extension`]: IPv6 extension headers
//! - `layout`: bytes

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use self::ip::{Ip, Transport};
use crate::mac::Mac;

pub mod extension;
mod ip;
mod layout;

/// Ethernet type of IPv4.
pub const IPV4: u16 = 0x0800;
/// Ethernet type of ARP.
pub const ARP: u16 = 0x0806;
/// Ethernet type of IPv6.
pub const IPV6: u16 = 0x86dd;
/// Ethernet type of a VLAN tag (802.1Q).
pub const VLAN: u16 = 0x8100;
/// Ethernet type of an outer VLAN tag (802.1ad).
pub const SERVICE_VLAN: u16 = 0x88a8;

/// TCP flag FIN.
pub const FIN: u8 = 1;
/// TCP flag SYN.
pub const SYN: u8 = 1 << 1;
/// TCP flag RST.
pub const RST: u8 = 1 << 2;
/// TCP flag PSH.
pub const PSH: u8 = 1 << 3;
/// TCP flag ACK.
pub const ACK: u8 = 1 << 4;

const ICMP_PROTOCOL: u8 = 1;
const TCP_PROTOCOL: u8 = 6;
const UDP_PROTOCOL: u8 = 17;
const ICMPV6_PROTOCOL: u8 = 58;

/// An Ethernet frame to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    destination: Mac,
    source: Mac,
    tags: Vec<(u16, u16)>,
    content: Content,
    /// Its length at least: zeros fill what is missing.
    shortest: usize,
    /// How many bytes are left of it, if it was cut.
    cut: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Ip(Ip),
    Raw(u16, Vec<u8>),
}

/// The shortest frame Ethernet has, without its check sequence.
const SHORTEST: usize = 60;

impl Frame {
    fn ip(source: IpAddr, destination: IpAddr, protocol: u8, transport: Transport) -> Self {
        Self {
            destination: Mac::of(destination),
            source: Mac::of(source),
            tags: Vec::new(),
            content: Content::Ip(Ip::new(source, destination, protocol, transport)),
            shortest: 0,
            cut: None,
        }
    }

    /// A TCP segment without payload, with these flags, between the hosts of the lab with these addresses.
    #[must_use]
    pub fn tcp(from: impl Into<SocketAddr>, to: impl Into<SocketAddr>, flags: u8) -> Self {
        let (from, to) = (from.into(), to.into());
        let transport = Transport::Tcp {
            ports: (from.port(), to.port()),
            flags,
            numbers: None,
            window: u16::MAX,
            options: Vec::new(),
            data_offset: None,
        };
        Self::ip(from.ip(), to.ip(), TCP_PROTOCOL, transport)
    }

    /// An empty UDP datagram.
    #[must_use]
    pub fn udp(from: impl Into<SocketAddr>, to: impl Into<SocketAddr>) -> Self {
        let (from, to) = (from.into(), to.into());
        let transport = Transport::Udp {
            ports: (from.port(), to.port()),
            length: None,
        };
        Self::ip(from.ip(), to.ip(), UDP_PROTOCOL, transport)
    }

    /// An ICMP or ICMPv6 message of a type and a code; `rest` is the second word of its header.
    #[must_use]
    pub fn icmp(from: impl Into<IpAddr>, to: impl Into<IpAddr>, kind: u8, code: u8, rest: [u8; 4]) -> Self {
        let (from, to) = (from.into(), to.into());
        let protocol = if to.is_ipv4() { ICMP_PROTOCOL } else { ICMPV6_PROTOCOL };
        Self::ip(from, to, protocol, Transport::Icmp { kind, code, rest })
    }

    /// A later fragment, or a packet of a protocol without ports: nothing but payload behind the IP header.
    #[must_use]
    pub fn protocol(from: impl Into<IpAddr>, to: impl Into<IpAddr>, protocol: u8) -> Self {
        Self::ip(from.into(), to.into(), protocol, Transport::Nothing)
    }

    /// A frame of another Ethernet type, padded to the shortest frame Ethernet has.
    #[must_use]
    pub fn raw(ether_type: u16, from: Mac, to: Mac, content: &[u8]) -> Self {
        Self {
            destination: to,
            source: from,
            tags: Vec::new(),
            content: Content::Raw(ether_type, content.to_vec()),
            shortest: SHORTEST,
            cut: None,
        }
    }

    /// A question by ARP who has an address.
    #[must_use]
    pub fn arp_request(from: Ipv4Addr, sought: Ipv4Addr) -> Self {
        Self::arp(1, from, Mac([0; 6]), sought).sent_to(Mac::BROADCAST)
    }

    /// An answer by ARP: who asked for `from` learns its MAC address.
    #[must_use]
    pub fn arp_reply(from: Ipv4Addr, asker: Ipv4Addr) -> Self {
        Self::arp(2, from, Mac::of(asker), asker)
    }

    fn arp(operation: u8, from: Ipv4Addr, target: Mac, target_address: Ipv4Addr) -> Self {
        let mut content = vec![0, 1, 8, 0, 6, 4, 0, operation];
        content.extend(Mac::of(from).0);
        content.extend(from.octets());
        content.extend(target.0);
        content.extend(target_address.octets());
        Self::raw(ARP, Mac::of(from), target, &content)
    }

    /// The same, to another MAC address.
    #[must_use]
    pub fn sent_to(mut self, destination: Mac) -> Self {
        self.destination = destination;
        self
    }

    /// The same, from another MAC address.
    #[must_use]
    pub fn sent_by(mut self, source: Mac) -> Self {
        self.source = source;
        self
    }

    /// The same in a VLAN, by the EtherType and the control information of a tag (IEEE 802.1Q clause 9: priority in the upper
    /// four bits, then the VLAN id); the first tag added is the outermost.
    #[must_use]
    pub fn tagged(mut self, ether_type: u16, control: u16) -> Self {
        self.tags.push((ether_type, control));
        self
    }

    /// The same, filled up with zeros to the shortest frame Ethernet has.
    #[must_use]
    pub fn padded(mut self) -> Self {
        self.shortest = SHORTEST;
        self
    }

    /// The same cut off after that many bytes, tags and MAC addresses included.
    #[must_use]
    pub fn cut_to(mut self, length: usize) -> Self {
        self.cut = Some(length);
        self
    }

    /// Its VLAN tags, the outermost first: EtherType and control information.
    #[must_use]
    pub fn tags(&self) -> &[(u16, u16)] {
        &self.tags
    }
}
