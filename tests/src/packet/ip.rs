//! What is in a frame: an IP packet of either family.

use std::net::IpAddr;

use super::{Content, Frame, extension::Extension};

/// An IP packet. What is `None` is computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ip {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// What it carries, behind all extension headers.
    pub protocol: u8,
    /// Type of service, or traffic class.
    pub tos: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// IPv4 has the lower 16 bits.
    pub identification: u32,
    /// IPv4: offset in units of eight bytes; don't-fragment and more-fragments bits.
    pub fragment: u16,
    /// IPv4.
    pub options: Vec<u8>,
    /// IPv6.
    pub extensions: Vec<Extension>,
    pub version: u8,
    pub header_words: Option<u8>,
    /// IPv4: of all; IPv6: of what follows the header.
    pub length: Option<u16>,
    pub checksum: Option<u16>,
    pub transport: Transport,
    pub transport_checksum: Option<u16>,
    pub payload: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp {
        ports: (u16, u16),
        flags: u8,
        /// Sequence and acknowledgment number; computed if there are none.
        numbers: Option<(u32, u32)>,
        window: u16,
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

impl Ip {
    pub fn new(source: IpAddr, destination: IpAddr, protocol: u8, transport: Transport) -> Self {
        assert!(
            source.is_ipv4() == destination.is_ipv4(),
            "{source} and {destination} are of two families"
        );
        Self {
            source,
            destination,
            protocol,
            tos: 0,
            ttl: 64,
            identification: 0x4c42,
            fragment: 0,
            options: Vec::new(),
            extensions: Vec::new(),
            version: if source.is_ipv4() { 4 } else { 6 },
            header_words: None,
            length: None,
            checksum: None,
            transport,
            transport_checksum: None,
            payload: Vec::new(),
        }
    }
}

impl Frame {
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

    /// The same with a TCP sequence and acknowledgment number.
    #[must_use]
    pub fn numbered(self, sequence: u32, acknowledged: u32) -> Self {
        self.with_transport(|transport| match transport {
            Transport::Tcp { numbers, .. } => *numbers = Some((sequence, acknowledged)),
            _ => panic!("only TCP has these numbers"),
        })
    }

    /// The same with a TCP window.
    #[must_use]
    pub fn window(self, bytes: u16) -> Self {
        self.with_transport(|transport| match transport {
            Transport::Tcp { window, .. } => *window = bytes,
            _ => panic!("only TCP has a window"),
        })
    }

    /// The same with a time to live or hop limit.
    #[must_use]
    pub fn ttl(self, ttl: u8) -> Self {
        self.with_ip(|ip| ip.ttl = ttl)
    }

    /// The same with a type of service or traffic class.
    #[must_use]
    pub fn tos(self, tos: u8) -> Self {
        self.with_ip(|ip| ip.tos = tos)
    }

    /// The same with an identification, of which IPv4 has the lower 16 bits and IPv6 has one in fragments only.
    #[must_use]
    pub fn identified(self, identification: u32) -> Self {
        self.with_ip(|ip| ip.identification = identification)
    }

    /// The same, not to be fragmented: IPv4.
    #[must_use]
    pub fn dont_fragment(self) -> Self {
        self.with_ip(|ip| ip.fragment |= DONT_FRAGMENT)
    }

    /// The same as a fragment: at an offset in units of eight bytes, the last one or not. In IPv6 that is one more extension
    /// header: what is added later is part of what was fragmented.
    #[must_use]
    pub fn fragment(self, offset: u16, more: bool) -> Self {
        assert!(offset < MORE_FRAGMENTS, "the offset has 13 bits");
        self.with_ip(|ip| {
            if ip.source.is_ipv4() {
                ip.fragment = offset | if more { MORE_FRAGMENTS } else { 0 };
            } else {
                ip.extensions.push(Extension::Fragment { offset, more });
            }
        })
    }

    /// A lie: another IP version.
    #[must_use]
    pub fn lying_version(self, version: u8) -> Self {
        self.with_ip(|ip| ip.version = version)
    }

    /// A lie: another length of the IPv4 header, in words.
    #[must_use]
    pub fn lying_header_words(self, words: u8) -> Self {
        self.with_ip(|ip| ip.header_words = Some(words))
    }

    /// A lie: another length in the IP header: of an IPv4 packet, or of what follows the header of an IPv6 packet.
    #[must_use]
    pub fn lying_total_length(self, length: u16) -> Self {
        self.with_ip(|ip| ip.length = Some(length))
    }

    /// A lie: another checksum of the IPv4 header.
    #[must_use]
    pub fn lying_ip_checksum(self, checksum: u16) -> Self {
        self.with_ip(|ip| ip.checksum = Some(checksum))
    }

    /// Another checksum behind the IP header: a lie, unless it is 0 (none) in UDP over IPv4.
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

    pub(super) fn with_ip(mut self, change: impl FnOnce(&mut Ip)) -> Self {
        match &mut self.content {
            Content::Ip(ip) => change(ip),
            Content::Raw(..) => panic!("no IP in this frame"),
        }
        self
    }

    fn with_transport(self, change: impl FnOnce(&mut Transport)) -> Self {
        self.with_ip(|ip| change(&mut ip.transport))
    }
}
