//! Which packets to a VIP are admitted: by the NIC they arrive on and by their source address.

use lbx_common::{
    drops::DropReason,
    nic::{CLIENT_FACING, segment_key},
};

use crate::{frame::Frame, lookup, maps, packet::Packet, verdict::Verdict};

/// The exit of a malformed packet: dropped with its reason if it is for a VIP, passed untouched otherwise.
#[inline(always)]
pub fn malformed_verdict(frame: &Frame<'_>, packet: &Packet, reason: DropReason) -> Verdict {
    if lookup::vip_number_and_flags(packet.vip).is_some() && arrived_on_client_nic(frame, packet) {
        Verdict::Drop(reason)
    } else {
        Verdict::Pass
    }
}

/// Whether the source address can be a client's. IPv4: not 0/8, 127/8, 224/3 (RFC 1122 section 3.2.1.3); IPv6: not
/// ff00::/8, :: or ::1 (RFC 4291 section 2.4); neither: the VIP itself.
#[inline(always)]
pub fn is_valid_source(packet: &Packet) -> bool {
    let client = packet.client;
    if client == packet.vip {
        false
    } else if client.is_ipv4() {
        let [first, ..] = client.ipv4();
        first != 0 && first != 127 && first < 224
    } else {
        let local = client.high_be == 0 && u64::from_be(client.low_be) <= 1;
        client.high_be.to_ne_bytes()[0] != 0xff && !local
    }
}

/// Whether the ingress NIC takes clients' traffic and the frame is addressed to it: a NIC in promiscuous mode also receives
/// frames for others. A NIC that is not known is a bond's new member: the kernel has it run the bond's program before the daemon
/// knows of it. It receives frames for the bond, whose MAC address is known.
#[inline(always)]
pub fn arrived_on_client_nic(frame: &Frame<'_>, packet: &Packet) -> bool {
    match arrived_on_known_client_nic(frame, packet) {
        Some(arrived) => arrived,
        None => lbx_is_client_nic(packet.destination_mac, packet.vlan_tags.to_word()) != 0,
    }
}

/// The same; none if the NIC is not known.
#[inline(always)]
pub fn arrived_on_known_client_nic(frame: &Frame<'_>, packet: &Packet) -> Option<bool> {
    let (nic_mac, roles) = maps::nic_mac_and_roles(segment_key(frame.ingress_ifindex(), packet.vlan_tags))?;
    Some(roles & CLIENT_FACING != 0 && nic_mac == packet.destination_mac)
}

/// A global function: the verifier checks it once, on its own.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_is_client_nic(mac: u64, vlan_tags: u32) -> u32 {
    u32::from(maps::has_client_nic(mac, vlan_tags))
}
