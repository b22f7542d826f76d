//! Frames for fixtures, whole and broken.
//!
//! A [`Frame`] describes a frame; [`Frame::bytes`] lays it out with right lengths and checksums. Every lie (a length, an
//! offset, a cut) is told by a method of its own, so that a fixture shows what is wrong with its frame and nothing else is.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::mac::Mac;

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

/// The IPv4 packet in it. What is `None` is computed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ip {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    tos: u8,
    ttl: u8,
    identification: u16,
    /// Offset in units of eight bytes; don't-fragment and more-fragments bits.
    fragment: u16,
    options: Vec<u8>,
    version: u8,
    header_words: Option<u8>,
    total_length: Option<u16>,
    checksum: Option<u16>,
    transport: Transport,
    transport_checksum: Option<u16>,
    payload: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Transport {
    Tcp {
        ports: (u16, u16),
        flags: u8,
        options: Vec<u8>,
        data_offset: Option<u8>,
    },
    Udp {
        ports: (u16, u16),
        length: Option<u16>,
    },
    Icmp {
        kind: u8,
        code: u8,
        rest: [u8; 4],
    },
    /// The payload is all there is, as in a fragment that is not the first.
    Nothing,
}

const MORE_FRAGMENTS: u16 = 1 << 13;
const DONT_FRAGMENT: u16 = 1 << 14;

/// The shortest frame Ethernet has, without its check sequence.
const SHORTEST: usize = 60;

impl Frame {
    fn ip(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, transport: Transport) -> Self {
        Self {
            destination: Mac::of(destination),
            source: Mac::of(source),
            tags: Vec::new(),
            content: Content::Ip(Ip {
                source,
                destination,
                protocol,
                tos: 0,
                ttl: 64,
                identification: 0x4c42,
                fragment: 0,
                options: Vec::new(),
                version: 4,
                header_words: None,
                total_length: None,
                checksum: None,
                transport,
                transport_checksum: None,
                payload: Vec::new(),
            }),
            shortest: 0,
            cut: None,
        }
    }

    /// A TCP segment without payload, with these flags, between the hosts of the lab with these addresses.
    #[must_use]
    pub fn tcp(from: SocketAddrV4, to: SocketAddrV4, flags: u8) -> Self {
        let transport = Transport::Tcp {
            ports: (from.port(), to.port()),
            flags,
            options: Vec::new(),
            data_offset: None,
        };
        Self::ip(*from.ip(), *to.ip(), TCP_PROTOCOL, transport)
    }

    /// An empty UDP datagram.
    #[must_use]
    pub fn udp(from: SocketAddrV4, to: SocketAddrV4) -> Self {
        let transport = Transport::Udp {
            ports: (from.port(), to.port()),
            length: None,
        };
        Self::ip(*from.ip(), *to.ip(), UDP_PROTOCOL, transport)
    }

    /// An ICMP message of a type and a code; `rest` is the second word of its header.
    #[must_use]
    pub fn icmp(from: Ipv4Addr, to: Ipv4Addr, kind: u8, code: u8, rest: [u8; 4]) -> Self {
        Self::ip(from, to, ICMP_PROTOCOL, Transport::Icmp { kind, code, rest })
    }

    /// A later fragment, or a packet of a protocol without ports: nothing but payload behind the IP header.
    #[must_use]
    pub fn protocol(from: Ipv4Addr, to: Ipv4Addr, protocol: u8) -> Self {
        Self::ip(from, to, protocol, Transport::Nothing)
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

    /// The same in a VLAN; the first tag added is the outermost.
    #[must_use]
    pub fn tagged(mut self, ether_type: u16, vlan: u16) -> Self {
        self.tags.push((ether_type, vlan));
        self
    }

    /// The same, filled up with zeros to the shortest frame Ethernet has.
    #[must_use]
    pub fn padded(mut self) -> Self {
        self.shortest = SHORTEST;
        self
    }

    /// The same with a payload.
    #[must_use]
    pub fn payload(self, payload: &[u8]) -> Self {
        self.with_ip(|ip| ip.payload = payload.to_vec())
    }

    /// The same with IPv4 options, a multiple of four bytes.
    #[must_use]
    pub fn ip_options(self, options: &[u8]) -> Self {
        assert!(
            options.len().is_multiple_of(4) && options.len() <= 40,
            "IPv4 options come in words"
        );
        self.with_ip(|ip| ip.options = options.to_vec())
    }

    /// The same with TCP options, a multiple of four bytes.
    #[must_use]
    pub fn tcp_options(self, list: &[u8]) -> Self {
        assert!(
            list.len().is_multiple_of(4) && list.len() <= 40,
            "TCP options come in words"
        );
        self.with_transport(|transport| match transport {
            Transport::Tcp { options, .. } => *options = list.to_vec(),
            _ => panic!("only TCP has these options"),
        })
    }

    /// The same with a time to live.
    #[must_use]
    pub fn ttl(self, ttl: u8) -> Self {
        self.with_ip(|ip| ip.ttl = ttl)
    }

    /// The same with a type of service.
    #[must_use]
    pub fn tos(self, tos: u8) -> Self {
        self.with_ip(|ip| ip.tos = tos)
    }

    /// The same, not to be fragmented.
    #[must_use]
    pub fn dont_fragment(self) -> Self {
        self.with_ip(|ip| ip.fragment |= DONT_FRAGMENT)
    }

    /// The same as a fragment: at an offset in units of eight bytes, the last one or not.
    #[must_use]
    pub fn fragment(self, offset: u16, more: bool) -> Self {
        assert!(offset < MORE_FRAGMENTS, "the offset has 13 bits");
        self.with_ip(|ip| ip.fragment = offset | if more { MORE_FRAGMENTS } else { 0 })
    }

    /// A lie: another IP version.
    #[must_use]
    pub fn lying_version(self, version: u8) -> Self {
        self.with_ip(|ip| ip.version = version)
    }

    /// A lie: another length of the IP header, in words.
    #[must_use]
    pub fn lying_header_words(self, words: u8) -> Self {
        self.with_ip(|ip| ip.header_words = Some(words))
    }

    /// A lie: another total length of the IP packet.
    #[must_use]
    pub fn lying_total_length(self, length: u16) -> Self {
        self.with_ip(|ip| ip.total_length = Some(length))
    }

    /// A lie: another checksum of the IP header.
    #[must_use]
    pub fn lying_ip_checksum(self, checksum: u16) -> Self {
        self.with_ip(|ip| ip.checksum = Some(checksum))
    }

    /// Another checksum behind the IP header: a lie, unless it is 0 (none) in UDP.
    #[must_use]
    pub fn with_checksum(self, checksum: u16) -> Self {
        self.with_ip(|ip| ip.transport_checksum = Some(checksum))
    }

    /// A lie: another length of the TCP header, in words.
    #[must_use]
    pub fn lying_data_offset(self, words: u8) -> Self {
        self.with_transport(|transport| match transport {
            Transport::Tcp { data_offset, .. } => *data_offset = Some(words),
            _ => panic!("only TCP has a data offset"),
        })
    }

    /// A lie: another length of the UDP datagram.
    #[must_use]
    pub fn lying_udp_length(self, claimed: u16) -> Self {
        self.with_transport(|transport| match transport {
            Transport::Udp { length, .. } => *length = Some(claimed),
            _ => panic!("only UDP has a length"),
        })
    }

    /// The same cut off after that many bytes, tags and MAC addresses included.
    #[must_use]
    pub fn cut_to(mut self, length: usize) -> Self {
        self.cut = Some(length);
        self
    }

    fn with_ip(mut self, change: impl FnOnce(&mut Ip)) -> Self {
        match &mut self.content {
            Content::Ip(ip) => change(ip),
            Content::Raw(..) => panic!("no IPv4 in this frame"),
        }
        self
    }

    fn with_transport(self, change: impl FnOnce(&mut Transport)) -> Self {
        self.with_ip(|ip| change(&mut ip.transport))
    }
}
