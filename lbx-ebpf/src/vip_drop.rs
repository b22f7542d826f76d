//! Frames for VIPs on a NIC that runs no XDP program for a moment, while it changes between native and generic mode.
//!
//! The VIP is an address of this host: its own stack would answer with a TCP reset or an ICMP error and end connections.
//! A lost frame is sent again.

use aya_ebpf::programs::TcContext;
use lbx_common::address::Address;

use crate::{
    frame::{Ethernet, IPV4, IPV6, Ipv4, Ipv6},
    lookup,
    socket_buffer::SocketBuffer,
};

/// ICMP (RFC 792).
const ICMP: u8 = 1;
/// ICMPv6 (RFC 4443), and so neighbour discovery.
const ICMPV6: u8 = 58;

/// Whether a received frame is for a VIP, and not ICMP, which the host answers itself in any case.
#[inline(always)]
pub fn is_non_icmp_for_vip(context: &TcContext) -> bool {
    destination(&SocketBuffer::new(context)).is_some_and(|address| lookup::vip_number_and_flags(address).is_some())
}

/// The destination address of a packet that is not ICMP.
#[inline(always)]
fn destination(frame: &SocketBuffer) -> Option<Address> {
    const NETWORK: u32 = size_of::<Ethernet>() as u32;
    let link: Ethernet = frame.read(0)?;
    match u16::from_be(link.ether_type) {
        IPV4 => {
            let ip: Ipv4 = frame.read(NETWORK)?;
            (ip.protocol != ICMP).then(|| Address::from_ipv4(ip.destination))
        }
        IPV6 => {
            let ip: Ipv6 = frame.read(NETWORK)?;
            (ip.next_header != ICMPV6).then(|| Address::from_octets(ip.destination))
        }
        _ => None,
    }
}
