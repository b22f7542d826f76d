//! Flows of clients, and their packets: as few bytes as there may be, written where the stress_xdp takes them from.

use std::net::IpAddr;

use lbx::desired::{Protocol, VirtualService};
use lbx_common::{
    address::Address,
    flow::{FlowEntry, FlowKey},
};
use lbx_tests_ebpf::FrameBuffer;

use crate::director::{OWN_MAC, ROUTER_MAC};

/// TCP flags (RFC 9293 section 3.1).
pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;

/// A client's flow to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Who.
    pub client: IpAddr,
    /// From which port.
    pub port: u16,
    /// To what.
    pub service: VirtualService,
}

impl Flow {
    /// A flow of the client of a number; no two numbers below 2^40 give the same one. The networks differ by their first
    /// octet, which is that of the address of IPv4.
    pub fn of(service: VirtualService, network: u8, number: u64) -> Self {
        let [_, _, _, a, b, c, d, e] = number.to_be_bytes();
        let client = match service.vip {
            IpAddr::V4(_) => IpAddr::from([network, a, b, c]),
            IpAddr::V6(_) => IpAddr::from([0x20, network, 0xd, 0xb8, a, b, 0, 0, 0, 0, 0, 0, 0, 0, 0, c]),
        };
        Self {
            client,
            port: u16::from_be_bytes([d, e]),
            service,
        }
    }

    /// What the program knows it by.
    pub fn key(self, service: u16) -> FlowKey {
        FlowKey {
            client: address(self.client),
            client_port: self.port.to_be_bytes(),
            service,
        }
    }

    /// Whether a record's entry can be one of it.
    pub fn fits(self, entry: FlowEntry) -> bool {
        entry.vip_port == self.service.port.to_be_bytes()
    }

    /// Writes a packet of it: a TCP segment with these flags, or a datagram.
    pub fn packet(self, flags: u8, tray: &mut FrameBuffer) {
        let frame = &mut tray.bytes;
        frame[..6].copy_from_slice(&OWN_MAC);
        frame[6..12].copy_from_slice(&ROUTER_MAC);
        let length = match self.service.protocol {
            Protocol::Tcp => 20_u16,
            Protocol::Udp => 8,
        };
        let protocol = self.service.protocol.number();
        let transport = match (self.client, self.service.vip) {
            (IpAddr::V4(client), IpAddr::V4(vip)) => {
                frame[12..14].copy_from_slice(&[0x08, 0x00]);
                let [high, low] = (20 + length).to_be_bytes();
                frame[14..26].copy_from_slice(&[0x45, 0, high, low, 0, 1, 0x40, 0, 64, protocol, 0, 0]);
                frame[26..30].copy_from_slice(&client.octets());
                frame[30..34].copy_from_slice(&vip.octets());
                34
            }
            (IpAddr::V6(client), IpAddr::V6(vip)) => {
                frame[12..14].copy_from_slice(&[0x86, 0xdd]);
                let [high, low] = length.to_be_bytes();
                frame[14..22].copy_from_slice(&[0x60, 0, 0, 0, high, low, protocol, 64]);
                frame[22..38].copy_from_slice(&client.octets());
                frame[38..54].copy_from_slice(&vip.octets());
                54
            }
            _ => panic!("{self:?} is of two families"),
        };
        let [a, b] = self.port.to_be_bytes();
        let [c, d] = self.service.port.to_be_bytes();
        let header = &mut frame[transport..];
        match self.service.protocol {
            Protocol::Tcp => {
                header[..12].copy_from_slice(&[a, b, c, d, 0, 0, 0, 1, 0, 0, 0, 1]);
                header[12..20].copy_from_slice(&[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
            }
            Protocol::Udp => header[..8].copy_from_slice(&[a, b, c, d, 0, 8, 0, 0]),
        }
        tray.length = transport as u32 + u32::from(length);
    }
}

/// An address as the program has it.
pub fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(ip) => Address::from_ipv4(ip.octets()),
        IpAddr::V6(ip) => Address::from_octets(ip.octets()),
    }
}
