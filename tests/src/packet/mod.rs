//! Frames for fixtures, whole and broken.
//!
//! A [`Frame`] describes a frame; [`Frame::bytes`] lays it out with right lengths and checksums. Every lie (a length, an
//! offset, a cut) is told by a method of its own, so that a fixture shows what is wrong with its frame and nothing else is.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::mac::Mac;

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

const TCP_CHECKSUM_AT: usize = 16;
const UDP_CHECKSUM_AT: usize = 6;
const ICMP_CHECKSUM_AT: usize = 2;
const IP_CHECKSUM_AT: usize = 10;

/// An Ethernet frame to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    destination: Mac,
    source: Mac,
    tags: Vec<(u16, u16)>,
    content: Content,
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
    ttl: u8,
    identification: u16,
    /// Offset in units of eight bytes; don't-fragment and more-fragments bits.
    fragment: u16,
    options: Vec<u8>,
    version: u8,
    header_words: Option<u8>,
    total_length: Option<u16>,
    transport: Transport,
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
                ttl: 64,
                identification: 0x4c42,
                fragment: 0,
                options: Vec::new(),
                version: 4,
                header_words: None,
                total_length: None,
                transport,
                payload: Vec::new(),
            }),
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
            cut: None,
        }
    }

    /// A question by ARP who has an address.
    #[must_use]
    pub fn arp_request(from: Ipv4Addr, sought: Ipv4Addr) -> Self {
        let mut content = vec![0, 1, 8, 0, 6, 4, 0, 1];
        content.extend(Mac::of(from).0);
        content.extend(from.octets());
        content.extend([0; 6]);
        content.extend(sought.octets());
        Self::raw(ARP, Mac::of(from), Mac([0xff; 6]), &content)
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

    /// The frame as on the wire.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = [self.destination.0, self.source.0].concat();
        for (ether_type, vlan) in &self.tags {
            bytes.extend(ether_type.to_be_bytes());
            bytes.extend(vlan.to_be_bytes());
        }
        match &self.content {
            Content::Ip(ip) => {
                bytes.extend(IPV4.to_be_bytes());
                bytes.extend(ip.bytes());
            }
            Content::Raw(ether_type, content) => {
                bytes.extend(ether_type.to_be_bytes());
                bytes.extend(content);
                let shortest = 60;
                bytes.resize(bytes.len().max(shortest), 0);
            }
        }
        if let Some(length) = self.cut {
            assert!(length < bytes.len(), "the frame has only {} bytes", bytes.len());
            bytes.truncate(length);
        }
        bytes
    }

    /// What the director makes of it: the same frame from its MAC address to a real server's.
    #[must_use]
    pub fn rewritten(&self, director: Mac, server: Mac) -> Vec<u8> {
        self.clone().sent_by(director).sent_to(server).bytes()
    }
}

impl Ip {
    fn bytes(&self) -> Vec<u8> {
        let segment = self.segment();
        let header_length = 20 + self.options.len();
        let words = self.header_words.unwrap_or((header_length / 4) as u8);
        let length = u16::try_from(header_length + segment.len()).expect("an IPv4 packet has 64 KiB at most");
        let mut header = vec![self.version << 4 | words & 0xf, 0];
        header.extend(self.total_length.unwrap_or(length).to_be_bytes());
        header.extend(self.identification.to_be_bytes());
        header.extend(self.fragment.to_be_bytes());
        header.extend([self.ttl, self.protocol, 0, 0]);
        header.extend(self.source.octets());
        header.extend(self.destination.octets());
        header.extend(&self.options);
        let sum = checksum(&[&header]);
        header[IP_CHECKSUM_AT..][..2].copy_from_slice(&sum.to_be_bytes());
        header.extend(segment);
        header
    }

    /// What is behind the IP header. A first fragment carries the checksum of what it holds itself: nobody puts it
    /// together again.
    fn segment(&self) -> Vec<u8> {
        let mut segment = self.transport.header(self.payload.len());
        segment.extend(&self.payload);
        let length = (segment.len() as u32).to_be_bytes();
        let pseudo = [
            self.source.octets(),
            self.destination.octets(),
            [0, 0, 0, self.protocol],
            length,
        ]
        .concat();
        let (at, sum) = match self.transport {
            Transport::Tcp { .. } => (TCP_CHECKSUM_AT, checksum(&[&pseudo, &segment])),
            Transport::Udp { .. } => match checksum(&[&pseudo, &segment]) {
                // 0 means that there is none.
                0 => (UDP_CHECKSUM_AT, 0xffff),
                sum => (UDP_CHECKSUM_AT, sum),
            },
            Transport::Icmp { .. } => (ICMP_CHECKSUM_AT, checksum(&[&segment])),
            Transport::Nothing => return segment,
        };
        segment[at..][..2].copy_from_slice(&sum.to_be_bytes());
        segment
    }
}

impl Transport {
    /// The header with a checksum of zero.
    fn header(&self, payload: usize) -> Vec<u8> {
        let ports = |(source, destination): (u16, u16)| [source.to_be_bytes(), destination.to_be_bytes()].concat();
        match self {
            Self::Tcp {
                ports: both,
                flags,
                options,
                data_offset,
            } => {
                let words = data_offset.unwrap_or((5 + options.len() / 4) as u8);
                let mut header = ports(*both);
                header.extend([0, 0, 0, 1, 0, 0, 0, if flags & ACK == 0 { 0 } else { 1 }]);
                header.extend([words << 4, *flags, 0xff, 0xff, 0, 0, 0, 0]);
                header.extend(options);
                header
            }
            Self::Udp { ports: both, length } => {
                let length = length.unwrap_or((8 + payload) as u16);
                [ports(*both), length.to_be_bytes().to_vec(), vec![0, 0]].concat()
            }
            Self::Icmp { kind, code, rest } => [&[*kind, *code, 0, 0], rest.as_slice()].concat(),
            Self::Nothing => Vec::new(),
        }
    }
}

/// The Internet checksum (RFC 1071) over the parts, all of even length but the last.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
