//! A frame laid out as on the wire: lengths and checksums are right unless the frame says otherwise.

use super::{ACK, Content, Frame, IPV4, Ip, Transport};
use crate::mac::Mac;

const TCP_CHECKSUM_AT: usize = 16;
const UDP_CHECKSUM_AT: usize = 6;
const ICMP_CHECKSUM_AT: usize = 2;
const IP_CHECKSUM_AT: usize = 10;

impl Frame {
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
            }
        }
        bytes.resize(bytes.len().max(self.shortest), 0);
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
        let mut header = vec![self.version << 4 | words & 0xf, self.tos];
        header.extend(self.total_length.unwrap_or(length).to_be_bytes());
        header.extend(self.identification.to_be_bytes());
        header.extend(self.fragment.to_be_bytes());
        header.extend([self.ttl, self.protocol, 0, 0]);
        header.extend(self.source.octets());
        header.extend(self.destination.octets());
        header.extend(&self.options);
        let sum = self.checksum.unwrap_or_else(|| checksum(&[&header]));
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
