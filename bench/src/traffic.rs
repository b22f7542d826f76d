//! Kinds of traffic, and the frame from which the packet generator generates their packets.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use lbx_bench_common::flow::{FIRST_PORT, SERVICES_PER_VIP};

/// MAC address of the director's NIC.
pub const DIRECTOR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// MAC address of the router the clients' packets come from.
const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// The VLAN of tagged frames.
pub const VLAN_ID: u16 = 10;
const FIRST_VIP4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const FIRST_VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0);
/// Not VIPs: destinations of other traffic.
const OTHER4: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 0);
const OTHER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0);

/// Version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The kind of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// A TCP segment without data of a connection under way.
    Ack,
    /// A TCP segment that opens a connection.
    Syn,
    /// A UDP datagram.
    Datagram,
}

/// The order of flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowOrder {
    /// At random, each packet any of them.
    Random,
    /// In sequence, from a number on.
    SequentialFrom(u32),
}

/// A stream of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Version of IP.
    pub ip_version: IpVersion,
    /// Whether frames have a VLAN tag.
    pub tagged: bool,
    /// The kind of packets.
    pub packet_kind: PacketKind,
    /// Whether they are for VIPs, that is for lbx to balance.
    pub to_vip: bool,
    /// Number of flows.
    pub flows: u32,
    /// Number of services they are spread over.
    pub services: u32,
    /// Their order.
    pub flow_order: FlowOrder,
}

impl Traffic {
    /// Packets of established TCP connections over IPv4 to one service.
    pub const fn established(flows: u32) -> Self {
        Self {
            ip_version: IpVersion::V4,
            tagged: false,
            packet_kind: PacketKind::Ack,
            to_vip: true,
            flows,
            services: 1,
            flow_order: FlowOrder::Random,
        }
    }

    /// Whether every packet is of a new flow.
    pub const fn is_flood(&self) -> bool {
        matches!(self.flow_order, FlowOrder::SequentialFrom(_))
    }

    /// The first VIP, or the first other address: its last bytes in the packet generator's format.
    pub fn destination_word(&self) -> u64 {
        match (self.ip_version, self.to_vip) {
            (IpVersion::V4, true) => u64::from(u32::from_le_bytes(FIRST_VIP4.octets())),
            (IpVersion::V4, false) => u64::from(u32::from_le_bytes(OTHER4.octets())),
            (IpVersion::V6, to_vip) => {
                let address = if to_vip { FIRST_VIP6 } else { OTHER6 };
                (u128::from_le_bytes(address.octets()) >> 64) as u64
            }
        }
    }

    /// Offset of the IP header.
    pub const fn ip_header_offset(&self) -> u8 {
        if self.tagged { 18 } else { 14 }
    }

    /// The frame from which the packet generator generates all others.
    pub fn frame(&self) -> Vec<u8> {
        let transport = match self.packet_kind {
            PacketKind::Ack => tcp(0x10),
            PacketKind::Syn => tcp(0x02),
            PacketKind::Datagram => [0, 0, 0, 0, 0, 26, 0, 0].into_iter().chain([0; 18]).collect(),
        };
        let protocol = if self.packet_kind == PacketKind::Datagram {
            17
        } else {
            6
        };
        let mut frame = [DIRECTOR_MAC, ROUTER].concat();
        if self.tagged {
            frame.extend([0x81, 0]);
            frame.extend(VLAN_ID.to_be_bytes());
        }
        match self.ip_version {
            IpVersion::V4 => {
                let length = 20 + transport.len() as u8;
                frame.extend([0x08, 0x00, 0x45, 0, 0, length, 0, 1, 0x40, 0, 64, protocol, 0, 0]);
                frame.extend([0; 4]);
                frame.extend(if self.to_vip { FIRST_VIP4 } else { OTHER4 }.octets());
            }
            IpVersion::V6 => {
                let length = transport.len() as u8;
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, length, protocol, 64]);
                frame.extend(Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 0).octets());
                frame.extend(if self.to_vip { FIRST_VIP6 } else { OTHER6 }.octets());
            }
        }
        frame.extend(transport);
        // The packet generator asks for no less, whatever the frame holds; Ethernet for 60 bytes.
        frame.resize(frame.len().max(64), 0);
        frame
    }
}

/// A TCP header without options, ports to be filled in.
fn tcp(flags: u8) -> Vec<u8> {
    vec![0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]
}

/// VIP (IPv4) and port of a service.
pub fn vip4(service: u32) -> (Ipv4Addr, u16) {
    let vip = u32::from(FIRST_VIP4) + service / SERVICES_PER_VIP;
    (vip.into(), port(service))
}

/// VIP (IPv6) and port of a service.
pub fn vip6(service: u32) -> (Ipv6Addr, u16) {
    let vip = u128::from(FIRST_VIP6) + u128::from(service / SERVICES_PER_VIP);
    (vip.into(), port(service))
}

fn port(service: u32) -> u16 {
    FIRST_PORT + (service % SERVICES_PER_VIP) as u16
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.is_flood(), self.to_vip, self.packet_kind) {
            (true, _, PacketKind::Syn) => "flood of SYNs",
            (true, _, PacketKind::Ack) => "flood of ACKs",
            (true, _, PacketKind::Datagram) => "flood of datagrams",
            (false, false, _) => "not for a VIP",
            (false, true, PacketKind::Syn) => "SYN",
            (false, true, PacketKind::Ack) => "established",
            (false, true, PacketKind::Datagram) => "UDP",
        })?;
        if self.ip_version == IpVersion::V6 {
            f.write_str(", IPv6")?;
        }
        if self.tagged {
            f.write_str(", VLAN")?;
        }
        if !self.is_flood() {
            write!(f, ", {}", Count(self.flows, "flow"))?;
        }
        if self.services > 1 {
            write!(f, ", {}", Count(self.services, "service"))?;
        }
        Ok(())
    }
}

/// A number of things: 1 flow, 100k flows, 4M flows.
struct Count(u32, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number, what) = *self;
        let plural = if number == 1 { "" } else { "s" };
        write!(f, "{} {what}{plural}", format_count(number))
    }
}

/// A number with k or M where that is exact.
pub fn format_count(number: u32) -> String {
    match number {
        n if n >= 1_000_000 && n % 1_000_000 == 0 => format!("{}M", n / 1_000_000),
        n if n >= 1_000 && n % 1_000 == 0 => format!("{}k", n / 1_000),
        n => n.to_string(),
    }
}
