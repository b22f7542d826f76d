//! What ought to become of a frame, by the RFCs and by what the director is to do: read plainly, and in nothing the same as
//! the program's parser.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lbx::desired::{PortSet, Protocol, Service};
use lbx_common::drops::DropReason::{self, *};

use super::cluster::VLAN;
use crate::director::OWN_MAC;

/// What ought to become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not the director's business.
    Pass,
    /// It lies about itself, to a VIP.
    Drop(DropReason),
    /// It is for the service of this number.
    Send(usize),
    /// It is a fragment without ports: it follows its first, or is dropped.
    Follow,
    /// An ICMP error that is not quite right: dropped, passed or sent on, as far as it can be read.
    Dubious,
}

/// What a packet carries, read as far as it is possible.
struct Packet<'f> {
    client: IpAddr,
    vip: IpAddr,
    protocol: u8,
    offset: usize,
    more: bool,
    payload: &'f [u8],
}

const TCP: u8 = 6;
const UDP: u8 = 17;

/// What the director of these services ought to do.
pub fn judge(services: &[Service], frame: &[u8]) -> Verdict {
    let Some((tags, ether_type, ip)) = ethernet(frame) else {
        return Verdict::Pass;
    };
    let ours = frame[..6] == OWN_MAC && (tags.is_empty() || tags == [VLAN]);
    let (vip, packet) = match ether_type {
        0x0800 => ipv4(ip),
        0x86dd => ipv6(ip, frame.len() - ip.len()),
        _ => return Verdict::Pass,
    };
    let on_vip = vip.is_some_and(|vip| services.iter().any(|service| service.virtual_service.vip == vip));
    if !ours || !on_vip {
        return Verdict::Pass;
    }
    match packet.and_then(|packet| packet.map_or(Ok(Verdict::Pass), |packet| transport(services, &packet))) {
        Ok(verdict) => verdict,
        Err(reason) => Verdict::Drop(reason),
    }
}

/// VLAN ids that are not 0, EtherType, and what follows.
fn ethernet(frame: &[u8]) -> Option<(Vec<u16>, u16, &[u8])> {
    let mut at = 12;
    let mut tags = Vec::new();
    loop {
        let ether_type = be16(frame, at)?;
        at += 2;
        let tagged = matches!(ether_type, 0x8100 | 0x88a8) && at < 12 + 2 + 8;
        if !tagged {
            return Some((tags, ether_type, &frame[at..]));
        }
        let id = be16(frame, at)? & 0xfff;
        at += 2;
        if id != 0 {
            // A provider's tag is another VLAN than a customer's.
            tags.push(id | if ether_type == 0x88a8 { 0x8000 } else { 0 });
        }
    }
}

/// The destination, and the packet: none if lbx has nothing to do with it.
type Ip<'f> = (Option<IpAddr>, Result<Option<Packet<'f>>, DropReason>);

fn ipv4(ip: &[u8]) -> Ip<'_> {
    if ip.len() < 20 || !matches!(ip[9], 1 | TCP | UDP) {
        return (None, Ok(None));
    }
    let address = |at: usize| IpAddr::V4(Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]));
    let header = usize::from(ip[0] & 0xf) * 4;
    let total = usize::from(ip[2]) << 8 | usize::from(ip[3]);
    let field = usize::from(ip[6]) << 8 | usize::from(ip[7]);
    let offset = (field & 0x1fff) * 8;
    let flaw = if ip[0] >> 4 != 4 {
        Some(IpVersion)
    } else if header < 20 || total < header {
        Some(IpHeaderLength)
    } else if total > ip.len() {
        Some(Truncated)
    } else if offset + total > 65_535 {
        Some(FragmentOverrun)
    } else {
        None
    };
    let packet = flaw.map_or_else(
        || {
            Ok(Some(Packet {
                client: address(12),
                vip: address(16),
                protocol: ip[9],
                offset,
                more: field & 0x2000 != 0,
                payload: &ip[header..total],
            }))
        },
        Err,
    );
    (Some(address(16)), packet)
}

/// An IPv6 packet that begins at `start` of the frame.
fn ipv6(ip: &[u8], start: usize) -> Ip<'_> {
    let address = |at: usize| -> Option<Ipv6Addr> {
        let octets: [u8; 16] = ip.get(at..at + 16)?.try_into().ok()?;
        Some(Ipv6Addr::from(octets))
    };
    let (Some(client), Some(vip)) = (address(8), address(24)) else {
        return (None, Ok(None));
    };
    if ip[0] >> 4 != 6 {
        return (Some(vip.into()), Err(IpVersion));
    }
    if client.to_ipv4_mapped().is_some() {
        return (Some(vip.into()), Err(BadSource));
    }
    let length = usize::from(ip[4]) << 8 | usize::from(ip[5]);
    let read = extensions(ip[6], &ip[40..], length, start + 40).map(|found| {
        found.map(|(protocol, offset, more, at)| Packet {
            client: client.into(),
            vip: vip.into(),
            protocol,
            offset,
            more,
            payload: ip.get(40 + at..40 + length).unwrap_or_default(),
        })
    });
    let checked = match read {
        Ok(Some(_)) if 40 + length > ip.len() => Err(Truncated),
        Ok(Some(packet)) if packet.offset + packet.payload.len() > 65_535 => Err(FragmentOverrun),
        other => other,
    };
    (Some(vip.into()), checked)
}

/// Protocol, fragment's offset, whether more follow, and where the extension headers end.
type Extensions = Result<Option<(u8, usize, bool, usize)>, DropReason>;

/// Reads the extension headers of a payload of `length` bytes, which begins at `start` of the frame. Headers that begin beyond
/// the first 4,096 bytes of a frame are too far.
fn extensions(mut next: u8, bytes: &[u8], length: usize, start: usize) -> Extensions {
    let (mut at, mut offset, mut more) = (0, 0, false);
    for passed in 0.. {
        if offset != 0 || matches!(next, TCP | UDP | 58) {
            return Ok(Some((next, offset, more, at)));
        }
        if !matches!(next, 0 | 43 | 44 | 51 | 60) {
            return Ok(None);
        }
        if passed == 6 || at + 8 > length || start + at > 4095 {
            return Err(ExtensionHeaders);
        }
        let Some(header) = bytes.get(at..at + 8) else {
            return Err(Truncated);
        };
        let size = match next {
            44 => 8,
            51 => (usize::from(header[1]) + 2) * 4,
            _ => (usize::from(header[1]) + 1) * 8,
        };
        if next == 44 {
            let field = usize::from(header[2]) << 8 | usize::from(header[3]);
            offset = (field >> 3) * 8;
            more = field & 1 != 0;
        }
        next = header[0];
        at += size;
        if at > length {
            return Err(ExtensionHeaders);
        }
    }
    unreachable!("the seventh header is too many")
}

fn transport(services: &[Service], packet: &Packet<'_>) -> Result<Verdict, DropReason> {
    let length = packet.payload.len();
    let tiny = |reason| if packet.more { TinyFragment } else { reason };
    let protocol = match packet.protocol {
        TCP => Protocol::Tcp,
        UDP => Protocol::Udp,
        1 if packet.vip.is_ipv4() => return icmp_of_some_length(services, packet),
        58 if packet.vip.is_ipv6() => return icmp_of_some_length(services, packet),
        // What comes behind its extension headers stands in its first fragment.
        0 | 43 | 44 | 51 | 60 if packet.offset != 0 => return Ok(Verdict::Follow),
        _ => return Ok(Verdict::Pass),
    };
    if packet.offset != 0 {
        return Ok(Verdict::Follow);
    }
    if length < if protocol == Protocol::Tcp { 20 } else { 8 } {
        return Err(tiny(ShortHeader));
    }
    if protocol == Protocol::Tcp {
        let header = usize::from(packet.payload[12] >> 4) * 4;
        if header < 20 || header > length {
            return Err(tiny(TcpOffset));
        }
    } else {
        let claimed = usize::from(packet.payload[4]) << 8 | usize::from(packet.payload[5]);
        if claimed < 8 || (claimed > length && !packet.more) {
            return Err(tiny(UdpLength));
        }
    }
    let port = u16::from_be_bytes([packet.payload[2], packet.payload[3]]);
    let Some(service) = service_of(services, packet.vip, protocol, port) else {
        return Ok(Verdict::Pass);
    };
    if !possible(packet.client) || packet.client == packet.vip {
        return Err(BadSource);
    }
    Ok(Verdict::Send(service))
}

/// An ICMP message ends inside its header, or can be read.
fn icmp_of_some_length(services: &[Service], packet: &Packet<'_>) -> Result<Verdict, DropReason> {
    let whole = packet.offset == 0 && !packet.more;
    if whole && packet.payload.len() < 8 {
        return Err(ShortHeader);
    }
    Ok(icmp(services, packet))
}

/// An ICMP message: errors about a flow of ours are for whom the flow is for.
fn icmp(services: &[Service], packet: &Packet<'_>) -> Verdict {
    let four = packet.vip.is_ipv4();
    let Some(&kind) = packet.payload.first() else {
        return Verdict::Dubious;
    };
    let error = if four {
        matches!(kind, 3 | 11 | 12)
    } else {
        matches!(kind, 1..=4)
    };
    if packet.offset != 0 || packet.more || !error {
        return Verdict::Pass;
    }
    let quoted = packet.payload.get(8..).unwrap_or_default();
    // Of what it quotes only the simplest is judged: no options, no extension headers, and as much of TCP or UDP as must be
    // quoted: eight bytes in IPv4 (RFC 792), else the ports.
    let (header, least) = if four { (20, 28) } else { (40, 44) };
    if quoted.len() < least || quoted[0] >> 4 != if four { 4 } else { 6 } || (four && quoted[0] & 0xf != 5) {
        return Verdict::Dubious;
    }
    let (protocol, fragment) = if four {
        (quoted[9], (quoted[6] & 0x1f) | quoted[7])
    } else {
        (quoted[6], 0)
    };
    let total = u16::from_be_bytes([quoted[2], quoted[3]]);
    let address = |at: usize| -> IpAddr {
        if four {
            Ipv4Addr::new(quoted[at], quoted[at + 1], quoted[at + 2], quoted[at + 3]).into()
        } else {
            let octets: [u8; 16] = quoted[at..at + 16].try_into().expect("16 octets");
            Ipv6Addr::from(octets).into()
        }
    };
    let (from, to) = if four {
        (address(12), address(16))
    } else {
        (address(8), address(24))
    };
    let protocol = match protocol {
        TCP => Protocol::Tcp,
        UDP => Protocol::Udp,
        _ => return Verdict::Dubious,
    };
    let mapped = |ip| matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
    if from != packet.vip || fragment != 0 || (four && total < 20) || !possible(to) || mapped(to) || to == from {
        return Verdict::Dubious;
    }
    let port = u16::from_be_bytes([quoted[header], quoted[header + 1]]);
    service_of(services, packet.vip, protocol, port).map_or(Verdict::Pass, Verdict::Send)
}

/// Who serves a port. Nobody serves port 0, which is none (RFC 6335 section 6).
fn service_of(services: &[Service], vip: IpAddr, protocol: Protocol, port: u16) -> Option<usize> {
    if port == 0 {
        return None;
    }
    let of_vip = |service: &Service| {
        let id = service.virtual_service;
        id.vip == vip && id.protocol == protocol
    };
    let has = |service: &Service| match &service.ports {
        PortSet::Ranges(ranges) => ranges.iter().any(|range| range.contains(&port)),
        PortSet::All => false,
    };
    let exact = services.iter().position(|service| of_vip(service) && has(service));
    exact.or_else(|| {
        services
            .iter()
            .position(|service| of_vip(service) && service.ports == PortSet::All)
    })
}

/// Whether a client can have the address.
fn possible(client: IpAddr) -> bool {
    match client {
        IpAddr::V4(ip) => ip.octets()[0] != 0 && !ip.is_loopback() && ip.octets()[0] < 224,
        IpAddr::V6(ip) => !ip.is_multicast() && !ip.is_loopback() && !ip.is_unspecified(),
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}
