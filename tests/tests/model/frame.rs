//! Frames of clients, of both families, and what a director makes of them.
//!
//! Checksums are left out: a director has none to look at. Those are the packet fixtures' business.

use std::net::IpAddr;

use lbx::tables::NextHop;

/// The director's MAC address.
pub const DIRECTOR: [u8; 6] = [2, 0, 0, 0, 0xff, 0xff];
/// The MAC address that all clients' frames come from.
const ROUTER: [u8; 6] = [2, 0, 0, 0, 0xff, 0xfe];

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const FRAGMENT: u8 = 44;
const ETHERNET: usize = 14;
const MACS: usize = 12;
const VLAN: [u8; 2] = [0x81, 0];

/// A frame, and the length of the packet in it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// As on the wire.
    pub bytes: Vec<u8>,
    /// From the IP header on.
    pub length: u64,
}

/// A client's end and the service's.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The client's address.
    pub client: IpAddr,
    /// Its port.
    pub client_port: u16,
    /// The VIP.
    pub vip: IpAddr,
    /// The service's port.
    pub vip_port: u16,
}

/// A fragment of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Fragment {
    /// Of which.
    pub id: u32,
    /// In units of eight bytes; only 0 has more fragments to follow.
    pub offset: u16,
}

impl Ends {
    /// A TCP segment.
    pub fn tcp(&self, flags: u8, payload: usize, fragment: Option<Fragment>) -> Frame {
        let ports = [self.client_port.to_be_bytes(), self.vip_port.to_be_bytes()].concat();
        let rest = [0, 0, 0, 1, 0, 0, 0, 1, 5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0];
        let segment = [ports, rest.to_vec(), vec![b'x'; payload]].concat();
        ip(self.client, self.vip, TCP, &segment, fragment)
    }

    /// A UDP datagram.
    pub fn udp(&self, payload: usize, fragment: Option<Fragment>) -> Frame {
        let length = 8 + payload as u16;
        let words = [self.client_port, self.vip_port, length, 0];
        let mut datagram = words.map(u16::to_be_bytes).concat();
        datagram.resize(usize::from(length), b'x');
        ip(self.client, self.vip, UDP, &datagram, fragment)
    }

    /// A fragment that is not the first of its packet.
    pub fn later_fragment(&self, protocol: u8, id: u32) -> Frame {
        let fragment = Fragment { id, offset: 3 };
        ip(self.client, self.vip, protocol, &[b'x'; 16], Some(fragment))
    }

    /// A router's word that a packet from the VIP to the client does not fit.
    pub fn too_big(&self, protocol: u8) -> Frame {
        let ports = [self.vip_port.to_be_bytes(), self.client_port.to_be_bytes()].concat();
        let start = [ports, vec![0; 4]].concat();
        let (router, message, kind) = match self.vip {
            IpAddr::V4(_) => (IpAddr::from([203, 0, 113, 254]), ICMP, [3, 4, 0, 0]),
            IpAddr::V6(_) => (IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 0xfe]), ICMPV6, [2, 0, 0, 0]),
        };
        let quoted = ip(self.vip, self.client, protocol, &start, None);
        let body = [&kind[..], &[0, 0, 5, 0], &quoted.bytes[ETHERNET..]].concat();
        ip(router, self.vip, message, &body, None)
    }
}

impl Frame {
    /// The frame as a director sends it on: another Ethernet header, everything else as it was.
    pub fn towards(&self, hop: &NextHop) -> Vec<u8> {
        let mut bytes = [hop.mac, hop.source].concat();
        for tag in hop.vlan_tags.into_iter().filter(|&tag| tag != 0) {
            bytes.extend(VLAN);
            bytes.extend(tag.to_be_bytes());
        }
        bytes.extend(&self.bytes[MACS..]);
        bytes
    }
}

fn ip(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8], fragment: Option<Fragment>) -> Frame {
    let (ether_type, packet) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ([8, 0], ipv4(from.octets(), to.octets(), protocol, payload, fragment)),
        (IpAddr::V6(from), IpAddr::V6(to)) => (
            [0x86, 0xdd],
            ipv6(from.octets(), to.octets(), protocol, payload, fragment),
        ),
        _ => panic!("{from} and {to} are of two families"),
    };
    Frame {
        length: packet.len() as u64,
        bytes: [&DIRECTOR[..], &ROUTER, &ether_type, &packet].concat(),
    }
}

fn ipv4(from: [u8; 4], to: [u8; 4], protocol: u8, payload: &[u8], fragment: Option<Fragment>) -> Vec<u8> {
    let length = 20 + payload.len() as u16;
    let (id, place) = fragment.map_or((0, 0), |part| (part.id as u16, part.offset | more(part) << 13));
    let mut packet = vec![0x45, 0];
    packet.extend([length, id, place].map(u16::to_be_bytes).concat());
    packet.extend([64, protocol, 0, 0]);
    [&packet, &from[..], &to, payload].concat()
}

fn ipv6(from: [u8; 16], to: [u8; 16], protocol: u8, payload: &[u8], fragment: Option<Fragment>) -> Vec<u8> {
    let extension = fragment.map_or(Vec::new(), |part| {
        let place = (part.offset << 3 | more(part)).to_be_bytes();
        [&[protocol, 0], &place[..], &part.id.to_be_bytes()].concat()
    });
    let next = if fragment.is_some() { FRAGMENT } else { protocol };
    let [a, b] = ((extension.len() + payload.len()) as u16).to_be_bytes();
    [&[0x60, 0, 0, 0, a, b, next, 64], &from[..], &to, &extension, payload].concat()
}

fn more(fragment: Fragment) -> u16 {
    u16::from(fragment.offset == 0)
}
