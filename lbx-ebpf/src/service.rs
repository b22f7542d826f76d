//! Step two: which service is meant, and whether it is this NIC's business.

use lbx_common::{
    drops::DropReason,
    nic::CLIENTS,
    service::{Service, ServiceKey},
};

use crate::{
    maps,
    packet::{Frame, Mac, mac_words, same_mac},
    parse::Packet,
    verdict::{Exit, Step},
};

/// The service of a packet. The look-up comes first, so that traffic for others pays for nothing else.
#[inline(always)]
pub fn find(frame: &Frame, packet: &Packet) -> Step<&'static Service> {
    let key = ServiceKey {
        address: packet.vip,
        port: packet.vip_port,
        protocol: packet.protocol,
        pad: 0,
    };
    let service = maps::service(&key).ok_or(Exit::Pass)?;
    if !accepts(frame.ingress(), packet.destination) {
        return Err(Exit::Pass);
    }
    Ok(service)
}

/// What becomes of a malformed packet: dropped with its reason on a VIP, passed untouched elsewhere.
#[inline(always)]
pub fn refuse(frame: &Frame, mac: Mac, address: [u8; 4], reason: DropReason) -> Exit {
    if maps::is_vip(address) && accepts(frame.ingress(), mac) {
        Exit::Drop(reason)
    } else {
        Exit::Pass
    }
}

/// Whether the NIC takes clients' traffic and the frame was sent to it: one in promiscuous mode sees frames of others.
#[inline(always)]
fn accepts(ingress: u32, mac: Mac) -> bool {
    let Some((own, roles)) = maps::nic(ingress) else {
        return false;
    };
    roles & CLIENTS != 0 && same_mac(mac_words(own), mac)
}
