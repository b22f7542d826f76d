//! A frame laid out as on the wire: lengths and checksums are right unless the frame says otherwise.

use std::net::IpAddr;

use super::{
    ACK, Content, Frame, ICMPV6_PROTOCOL, IPV4, IPV6,
    ip::{Ip, Transport},
};
use crate::mac::Mac;

const TCP_CHECKSUM_AT: usize = 16;
const UDP_CHECKSUM_AT: usize = 6;
const ICMP_CHECKSUM_AT: usize = 2;
const IP_CHECKSUM_AT: usize = 10;

/// Bytes of the two MAC addresses, and of a VLAN tag.
const ADDRESSES: usize = 12;
const TAG: usize = 4;
/// Bytes of an IPv6 header.
const IPV6_HEADER: usize = 40;

impl Frame {
    /// The frame as on the wire.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = ethernet(self.destination, self.source, &self.tags);
        match &self.content {
            Content::Ip(ip) => {
                bytes.extend(if ip.source.is_ipv4() { IPV4 } else { IPV6 }.to_be_bytes());
                bytes.extend(ip.bytes());
            }
            Content::Raw(ether_type, content) => {
                bytes.extend(ether_type.to_be_bytes());
                bytes.extend(content);
            }
        }
        bytes.resize(bytes.len().max(self.shortest), 0);
        if let Some(length) = self.cut {
            assert!(length < bytes.len(), "the frame has only {} bytes", bytes.len());
            bytes.truncate(length);
        }
        bytes
    }

    /// What the director makes of it: the same from its MAC address to a real server's, with these VLAN tags. Padding stays.
    #[must_use]
    pub fn rewritten(&self, director: Mac, server: Mac, tags: &[(u16, u16)]) -> Vec<u8> {
        let mut bytes = ethernet(server, director, tags);
        bytes.extend(&self.bytes()[ADDRESSES + self.tags.len() * TAG..]);
        bytes
    }

    /// Its packet, whole: from the IP header on.
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        self.ip_ref().bytes()
    }

    /// The length of its packet as the IP header has it, lies included.
    #[must_use]
    pub fn packet_length(&self) -> u64 {
        let ip = self.ip_ref();
        let claimed = ip.length.map(usize::from).map(|length| match ip.source {
            IpAddr::V4(_) => length,
            IpAddr::V6(_) => IPV6_HEADER + length,
        });
        claimed.unwrap_or_else(|| ip.bytes().len()) as u64
    }

    fn ip_ref(&self) -> &Ip {
        match &self.content {
            Content::Ip(ip) => ip,
            Content::Raw(..) => panic!("no IP in this frame"),
        }
    }
}

/// Both MAC addresses and the tags.
fn ethernet(destination: Mac, source: Mac, tags: &[(u16, u16)]) -> Vec<u8> {
    let mut bytes = [destination.0, source.0].concat();
    for (ether_type, control) in tags {
        bytes.extend(ether_type.to_be_bytes());
        bytes.extend(control.to_be_bytes());
    }
    bytes
}

impl Ip {
    fn bytes(&self) -> Vec<u8> {
        if self.source.is_ipv4() {
            self.version4()
        } else {
            self.version6()
        }
    }

    fn version4(&self) -> Vec<u8> {
        assert!(self.extensions.is_empty(), "IPv4 has no extension headers");
        let segment = self.segment();
        let header_length = 20 + self.options.len();
        let words = self.header_words.unwrap_or((header_length / 4) as u8);
        let mut header = vec![self.version << 4 | words & 0xf, self.tos];
        header.extend(self.length_of(header_length + segment.len()).to_be_bytes());
        header.extend((self.identification as u16).to_be_bytes());
        header.extend(self.fragment.to_be_bytes());
        header.extend([self.ttl, self.protocol, 0, 0]);
        header.extend(octets(self.source));
        header.extend(octets(self.destination));
        header.extend(&self.options);
        let sum = self.checksum.unwrap_or_else(|| checksum(&[&header]));
        header[IP_CHECKSUM_AT..][..2].copy_from_slice(&sum.to_be_bytes());
        header.extend(segment);
        header
    }

    fn version6(&self) -> Vec<u8> {
        let has_options = !self.options.is_empty() || self.header_words.is_some() || self.checksum.is_some();
        assert!(!has_options && self.fragment == 0, "this is for IPv4 only");
        let kinds = self.extensions.iter().map(super::extension::Extension::kind);
        let mut following = kinds.chain([self.protocol]);
        let first = following.next().unwrap_or(self.protocol);
        let mut behind = Vec::new();
        for (extension, next) in self.extensions.iter().zip(following) {
            behind.extend(extension.bytes(next, self.identification));
        }
        behind.extend(self.segment());
        let mut header = vec![self.version << 4 | self.tos >> 4, self.tos << 4, 0, 0];
        header.extend(self.length_of(behind.len()).to_be_bytes());
        header.extend([first, self.ttl]);
        header.extend(octets(self.source));
        header.extend(octets(self.destination));
        header.extend(behind);
        header
    }

    fn length_of(&self, bytes: usize) -> u16 {
        let length = || u16::try_from(bytes).expect("an IP packet has 64 KiB at most");
        self.length.unwrap_or_else(length)
    }

    /// What is behind the IP header. A first fragment carries the checksum of what it holds itself: nobody puts it
    /// together again.
    fn segment(&self) -> Vec<u8> {
        let mut segment = self.transport.header(self.payload.len());
        segment.extend(&self.payload);
        let length = (segment.len() as u32).to_be_bytes();
        // That of IPv6 has the same sum where the two are written in 32 bits (RFC 8200 section 8.1).
        let pseudo = [
            octets(self.source),
            octets(self.destination),
            vec![0, 0, 0, self.protocol],
            length.to_vec(),
        ]
        .concat();
        let (at, sum) = match self.transport {
            Transport::Tcp { .. } => (TCP_CHECKSUM_AT, checksum(&[&pseudo, &segment])),
            Transport::Udp { .. } => match checksum(&[&pseudo, &segment]) {
                // 0 means that there is none.
                0 => (UDP_CHECKSUM_AT, 0xffff),
                sum => (UDP_CHECKSUM_AT, sum),
            },
            Transport::Icmp { .. } if self.protocol == ICMPV6_PROTOCOL => {
                (ICMP_CHECKSUM_AT, checksum(&[&pseudo, &segment]))
            }
            Transport::Icmp { .. } => (ICMP_CHECKSUM_AT, checksum(&[&segment])),
            Transport::Nothing => return segment,
        };
        let sum = self.transport_checksum.unwrap_or(sum);
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
                numbers,
                window,
                options,
                data_offset,
            } => {
                let words = data_offset.unwrap_or((5 + options.len() / 4) as u8);
                let mut header = ports(*both);
                let (sequence, acknowledged) = numbers.unwrap_or((1, u32::from(flags & ACK != 0)));
                header.extend([sequence, acknowledged].map(u32::to_be_bytes).concat());
                header.extend([words << 4, *flags]);
                header.extend(window.to_be_bytes());
                header.extend([0; 4]);
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

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
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
