//! IPv4 packets laid out: lengths and checksums.

use std::net::Ipv4Addr;

use super::ACK;

const TCP_CHECKSUM_AT: usize = 16;
const UDP_CHECKSUM_AT: usize = 6;
const ICMP_CHECKSUM_AT: usize = 2;
const IP_CHECKSUM_AT: usize = 10;

/// The IPv4 packet in a frame. What is `None` is computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ip {
    pub(super) source: Ipv4Addr,
    pub(super) destination: Ipv4Addr,
    pub(super) protocol: u8,
    pub(super) ttl: u8,
    pub(super) identification: u16,
    /// Offset in units of eight bytes; don't-fragment and more-fragments bits.
    pub(super) fragment: u16,
    pub(super) options: Vec<u8>,
    pub(super) version: u8,
    pub(super) header_words: Option<u8>,
    pub(super) total_length: Option<u16>,
    pub(super) transport: Transport,
    pub(super) payload: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Transport {
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

impl Ip {
    /// The packet as on the wire.
    pub(super) fn bytes(&self) -> Vec<u8> {
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
