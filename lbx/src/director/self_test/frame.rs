//! Frames of the self-test: from an address that is reserved for documentation, and of a kind that begins no connection and changes
//! no record. TCP: a SYN+ACK. UDP: an ICMP error about a datagram from the VIP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lbx_common::{
    checksum,
    nic::Nic,
    service::{ICMP, ICMPV6, TCP, UDP},
};

use crate::desired::{Protocol, VirtualService};

/// Port of the client: none listens there.
pub const CLIENT_PORT: u16 = 9;
/// A locally administered MAC address, which no NIC has.
const SOURCE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x4c];
/// Bytes of MAC addresses and EtherType.
const ETHERNET_LEN: usize = 14;
/// EtherTypes of VLAN tags (IEEE 802.1Q, 802.1ad) and of what follows them.
const DOT1Q: u16 = 0x8100;
const DOT1AD: u16 = 0x88a8;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// In a tag of [`Nic`]: it is one of 802.1ad.
const IS_8021AD: u16 = 0x8000;

/// A frame for a service that arrives on a NIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestFrame {
    /// From the destination MAC address on.
    pub bytes: Vec<u8>,
    /// Bytes from the IP header on.
    pub ip_length: u64,
    /// Whose flow it is of.
    pub client: IpAddr,
}

/// The client of frames for a VIP: of TEST-NET-1 or, if that is where the VIP is, of TEST-NET-2 (RFC 5737); of 2001:db8::/32 (RFC 3849).
#[must_use]
pub fn client_of(vip: IpAddr) -> IpAddr {
    match vip {
        IpAddr::V4(vip) if vip.octets()[..3] == [192, 0, 2] => Ipv4Addr::new(198, 51, 100, 254).into(),
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 254).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0xffff, 0, 0, 0, 0xfffe).into(),
    }
}

impl TestFrame {
    /// A frame for a port of a service.
    #[must_use]
    pub fn new(service: VirtualService, port: u16, nic: &Nic) -> Self {
        let (vip, client) = (service.vip, client_of(service.vip));
        let packet = match service.protocol {
            Protocol::Tcp => ip(client, vip, TCP, &syn_ack(port)),
            Protocol::Udp => {
                let quoted = ip(vip, client, UDP, &udp(port));
                let protocol = if vip.is_ipv4() { ICMP } else { ICMPV6 };
                ip(client, vip, protocol, &port_unreachable(vip, &quoted))
            }
        };
        let mut bytes = [nic.mac, SOURCE_MAC].concat();
        for tag in [nic.vlan_tags.outer, nic.vlan_tags.inner] {
            if tag != 0 {
                let ether_type = if tag & IS_8021AD != 0 { DOT1AD } else { DOT1Q };
                bytes.extend([ether_type.to_be_bytes(), (tag & !IS_8021AD).to_be_bytes()].concat());
            }
        }
        bytes.extend(if vip.is_ipv4() { IPV4 } else { IPV6 }.to_be_bytes());
        bytes.extend(&packet);
        Self {
            bytes,
            ip_length: packet.len() as u64,
            client,
        }
    }
}

/// Destination and source MAC address of a frame; none if it is shorter.
#[must_use]
pub fn mac_addresses(frame: &[u8]) -> Option<([u8; 6], [u8; 6])> {
    let header = frame.get(..ETHERNET_LEN)?;
    Some((header[..6].try_into().ok()?, header[6..12].try_into().ok()?))
}

/// RFC 9293 section 3.1: no data, flags SYN and ACK.
fn syn_ack(port: u16) -> Vec<u8> {
    let mut header = [CLIENT_PORT.to_be_bytes(), port.to_be_bytes()].concat();
    header.extend([0; 8]);
    header.extend([5 << 4, 0x12, 0xff, 0xff, 0, 0, 0, 0]);
    header
}

/// RFC 768: no data, from the service's port to the client.
fn udp(port: u16) -> Vec<u8> {
    [port.to_be_bytes(), CLIENT_PORT.to_be_bytes(), [0, 8], [0, 0]].concat()
}

/// RFC 792: type 3, code 3; RFC 4443: type 1, code 4.
fn port_unreachable(vip: IpAddr, quoted: &[u8]) -> Vec<u8> {
    let [kind, code] = if vip.is_ipv4() { [3, 3] } else { [1, 4] };
    [&[kind, code, 0, 0, 0, 0, 0, 0], quoted].concat()
}

/// A packet without options or extension headers (RFC 791, RFC 8200).
fn ip(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    const HOP_LIMIT: u8 = 64;
    const HEADER4: usize = 20;
    let addresses = |source: &[u8], destination: &[u8]| [source, destination].concat();
    match (source, destination) {
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let [high, low] = (payload.len() as u16).to_be_bytes();
            let mut packet = vec![0x60, 0, 0, 0, high, low, protocol, HOP_LIMIT];
            packet.extend(addresses(&source.octets(), &destination.octets()));
            packet.extend(payload);
            packet
        }
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let [high, low] = ((HEADER4 + payload.len()) as u16).to_be_bytes();
            let mut packet = vec![0x45, 0, high, low, 0, 0, 0x40, 0, HOP_LIMIT, protocol, 0, 0];
            packet.extend(addresses(&source.octets(), &destination.octets()));
            let (words, _) = packet.as_chunks();
            let words: Vec<u16> = words.iter().copied().map(u16::from_ne_bytes).collect();
            let sum = checksum::of_sum(checksum::sum_of_words(&words));
            packet[10..12].copy_from_slice(&sum.to_ne_bytes());
            packet.extend(payload);
            packet
        }
        _ => unreachable!("the client's address is of the VIP's family"),
    }
}

#[cfg(test)]
mod tests {
    use lbx_common::backend::VlanTags;

    use super::*;

    fn frame(vip: &str, protocol: Protocol, vlan_tags: VlanTags) -> TestFrame {
        let service = VirtualService {
            vip: vip.parse().unwrap(),
            port: 443,
            protocol,
        };
        let nic = Nic {
            mac: [2, 0, 0, 0, 0, 1],
            roles: 0,
            ifindex: 2,
            vlan_tags,
        };
        TestFrame::new(service, 443, &nic)
    }

    #[test]
    fn a_frame_is_as_long_as_its_headers_say() {
        for (vip, protocol, length) in [
            ("192.168.1.160", Protocol::Tcp, 40),
            ("192.168.1.160", Protocol::Udp, 56),
            ("fd00::160", Protocol::Tcp, 60),
            ("fd00::160", Protocol::Udp, 96),
        ] {
            let frame = frame(vip, protocol, VlanTags::NONE);
            assert_eq!(
                (frame.ip_length, frame.bytes.len()),
                (length, ETHERNET_LEN + length as usize)
            );
            assert_eq!(mac_addresses(&frame.bytes), Some(([2, 0, 0, 0, 0, 1], SOURCE_MAC)));
        }
        assert_eq!(mac_addresses(&[0; 13]), None);
    }

    #[test]
    fn an_ipv4_header_has_its_checksum() {
        let frame = frame("192.168.1.160", Protocol::Tcp, VlanTags::NONE);
        let (words, _) = frame.bytes[ETHERNET_LEN..][..20].as_chunks();
        let words: Vec<u16> = words.iter().copied().map(u16::from_ne_bytes).collect();
        assert_eq!(checksum::of_sum(checksum::sum_of_words(&words)), 0);
    }

    #[test]
    fn tags_are_those_of_the_segment() {
        let tags = VlanTags {
            outer: 0x8000 | 10,
            inner: 20,
        };
        let frame = frame("192.168.1.160", Protocol::Tcp, tags);
        assert_eq!(frame.bytes[12..22], [0x88, 0xa8, 0, 10, 0x81, 0, 0, 20, 0x08, 0]);
        assert_eq!(frame.ip_length, 40);
    }

    #[test]
    fn the_client_is_never_the_vip() {
        for vip in ["192.0.2.254", "198.51.100.254", "203.0.113.1"] {
            let vip = vip.parse().unwrap();
            assert_ne!(client_of(vip), vip);
        }
    }
}
