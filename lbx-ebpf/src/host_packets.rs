//! Packets for services that a device passes to this host's own stack: counted, for the daemon to report. They pass.

use aya_ebpf::programs::TcContext;
use lbx_common::{
    address::Address,
    host_packets::HostPackets,
    service::{TCP, UDP},
};

use crate::{
    frame::{Ethernet, IPV4, IPV6, Ipv4, Ipv6, TransportPorts},
    lookup, maps,
    socket_buffer::SocketBuffer,
};

/// `PACKET_HOST` of include/uapi/linux/if_packet.h: the frame is addressed to the device.
const PACKET_HOST: u32 = 0;
/// The fragment offset, without flags.
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Counts a received frame that is addressed to this host and for a service. One with a VLAN tag counts on the device of its VLAN.
#[inline(always)]
pub fn count(context: &TcContext) {
    // SAFETY: fields of the context of a tc program.
    let (kind, is_tagged, device) = unsafe {
        let buffer = &*context.skb.skb;
        (buffer.pkt_type, buffer.vlan_present != 0, buffer.ifindex)
    };
    if kind == PACKET_HOST && !is_tagged {
        let _not_counted = count_for_service(&SocketBuffer::new(context), device);
    }
}

#[inline(always)]
fn count_for_service(frame: &SocketBuffer, device: u32) -> Option<()> {
    const NETWORK: u32 = size_of::<Ethernet>() as u32;
    let link: Ethernet = frame.read(0)?;
    let (address, protocol, transport) = match u16::from_be(link.ether_type) {
        IPV4 => {
            let ip: Ipv4 = frame.read(NETWORK)?;
            if u16::from_be_bytes(ip.flags_and_fragment_offset) & FRAGMENT_OFFSET != 0 {
                return None;
            }
            let length = u32::from(ip.version_ihl & 0xf) * 4;
            (Address::from_ipv4(ip.destination), ip.protocol, NETWORK + length)
        }
        IPV6 => {
            let ip: Ipv6 = frame.read(NETWORK)?;
            let transport = NETWORK + size_of::<Ipv6>() as u32;
            (Address::from_octets(ip.destination), ip.next_header, transport)
        }
        _ => return None,
    };
    if protocol != TCP && protocol != UDP {
        return None;
    }
    let vip = lookup::vip_number_and_flags(address)?;
    let ports: TransportPorts = frame.read(transport)?;
    lookup::service_number(vip, protocol, ports.destination)?;
    maps::add_host_packet(
        device,
        &HostPackets {
            packets: 1,
            last_vip: address,
            last_protocol: protocol,
            pad: [0; 5],
            last_port: ports.destination,
        },
    );
    Some(())
}
