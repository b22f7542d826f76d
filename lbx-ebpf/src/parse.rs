//! Step one: the headers. What is not IPv4 TCP or UDP passes; what lies about itself is dropped, but only on a VIP.

use lbx_common::{
    drops::DropReason,
    flow::Signal,
    service::{TCP, UDP},
};

use crate::{
    packet::{Ethernet, Frame, Ipv4, Mac, Tcp, Udp},
    service,
    verdict::{Exit, Step},
};

/// What the later steps need to know of a packet. Addresses and ports are as in the packet: network byte order.
pub struct Packet {
    /// Destination MAC address.
    pub destination: Mac,
    /// Source MAC address.
    pub source: Mac,
    /// Who sent it.
    pub client: [u8; 4],
    /// Where to.
    pub vip: [u8; 4],
    /// Client's port.
    pub client_port: [u8; 2],
    /// Service's port.
    pub vip_port: [u8; 2],
    /// [`TCP`] or [`UDP`].
    pub protocol: u8,
    /// What it says about its flow.
    pub signal: Signal,
    /// Its length from the IP header on.
    pub length: u16,
}

/// EtherType of IPv4.
const IPV4: u16 = 0x0800;
/// More-fragments flag and fragment offset (RFC 791 section 3.1).
const FRAGMENT: u16 = 0x3fff;

/// Parses a frame.
#[inline(always)]
pub fn parse(frame: &Frame) -> Step<Packet> {
    let ethernet: Ethernet = frame.read(0).ok_or(Exit::Pass)?;
    if ethernet.ether_type != IPV4.to_be() {
        return Err(Exit::Pass);
    }
    let ip: Ipv4 = frame.read(size_of::<Ethernet>()).ok_or(Exit::Pass)?;
    if ip.protocol != TCP && ip.protocol != UDP {
        return Err(Exit::Pass);
    }
    match transport(frame, &ip) {
        Ok(transport) => Ok(Packet {
            destination: ethernet.destination,
            source: ethernet.source,
            client: ip.source,
            vip: ip.destination,
            client_port: transport.source,
            vip_port: transport.destination,
            protocol: ip.protocol,
            signal: transport.signal,
            length: u16::from_be_bytes(ip.total_length),
        }),
        Err(reason) => Err(service::refuse(frame, ethernet.destination, ip.destination, reason)),
    }
}

/// What TCP and UDP have in common.
struct Transport {
    source: [u8; 2],
    destination: [u8; 2],
    signal: Signal,
}

/// The transport header, once the IP header has proved sound.
#[inline(always)]
fn transport(frame: &Frame, ip: &Ipv4) -> Result<Transport, DropReason> {
    let header = usize::from(ip.version_ihl & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes(ip.total_length));
    if ip.version_ihl >> 4 != 4 || header < size_of::<Ipv4>() || total < header {
        return Err(DropReason::BadHeader);
    }
    if !frame.holds(size_of::<Ethernet>() + total) {
        return Err(DropReason::Truncated);
    }
    if u16::from_be_bytes(ip.fragment) & FRAGMENT != 0 {
        return Err(DropReason::Fragment);
    }
    let payload = total - header;
    let at = size_of::<Ethernet>() + header;
    if ip.protocol == TCP {
        tcp(frame, at, payload)
    } else {
        udp(frame, at, payload)
    }
}

/// A TCP header at `at`, in `payload` bytes of IP payload.
#[inline(always)]
fn tcp(frame: &Frame, at: usize, payload: usize) -> Result<Transport, DropReason> {
    let tcp: Tcp = frame.read(at).ok_or(DropReason::Truncated)?;
    let header = usize::from(tcp.offset >> 4) * 4;
    if header < size_of::<Tcp>() || header > payload {
        return Err(DropReason::BadHeader);
    }
    Ok(Transport {
        source: tcp.source,
        destination: tcp.destination,
        signal: Signal::of_tcp_flags(tcp.flags),
    })
}

/// A UDP header at `at`, in `payload` bytes of IP payload.
#[inline(always)]
fn udp(frame: &Frame, at: usize, payload: usize) -> Result<Transport, DropReason> {
    let udp: Udp = frame.read(at).ok_or(DropReason::Truncated)?;
    let length = usize::from(u16::from_be_bytes(udp.length));
    if length < size_of::<Udp>() || length > payload {
        return Err(DropReason::BadHeader);
    }
    Ok(Transport {
        source: udp.source,
        destination: udp.destination,
        signal: Signal::Datagram,
    })
}
