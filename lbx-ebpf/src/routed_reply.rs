//! Replies from VIPs to clients that real servers send to this host because it is their gateway: counted, for the daemon to
//! report. They pass.

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use lbx_common::{
    nic,
    routed_replies::{OVER_IPV4, OVER_IPV6},
};

use crate::{frame::Frame, lookup, maps, packet::Packet};

/// Counts a packet that is for no VIP if it is a reply from one. Of TCP only the second packet of the handshake is looked at:
/// where replies do not reach the client it is sent again and nothing follows it, and packets of other connections cost nothing
/// but a comparison.
#[inline(always)]
pub fn count(frame: &Frame<'_>, packet: &Packet) {
    if may_be(packet) && lookup::vip_number_and_flags(packet.client).is_some() {
        lbx_routed_reply(frame.xdp_md(), packet);
    }
}

/// Whether a packet that is for no VIP may be a reply that is counted: it is looked at.
#[inline(always)]
pub fn may_be(packet: &Packet) -> bool {
    packet.flow_event.accepts_connection() || packet.flow_event.is_datagram()
}

/// A global function: the verifier checks it once, on its own.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_routed_reply(xdp_md: *mut xdp_md, packet: *const Packet) -> u32 {
    // SAFETY: null or a packet of the caller's.
    let Some(packet) = (unsafe { packet.as_ref() }) else {
        return 0;
    };
    let context = XdpContext::new(xdp_md);
    u32::from(count_from_service(&Frame::new(&context), packet).is_some())
}

/// Counts a packet from a VIP if there is a service on its source port and the frame is addressed to the NIC.
#[inline(always)]
fn count_from_service(frame: &Frame<'_>, packet: &Packet) -> Option<()> {
    let vip = lookup::vip_number_and_flags(packet.client)?;
    if packet.client_port == [0; 2] {
        return None;
    }
    lookup::service_number(vip, packet.protocol, packet.client_port)?;
    let segment = nic::segment_key(frame.ingress_ifindex(), packet.vlan_tags);
    let (nic_mac, _roles) = maps::nic_mac_and_roles(segment)?;
    if nic_mac != packet.destination_mac {
        return None;
    }
    let family = if packet.client.is_ipv4() { OVER_IPV4 } else { OVER_IPV6 };
    maps::add_routed_reply(family, segment, packet.client, packet.vip);
    Some(())
}
