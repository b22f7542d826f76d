//! Step two: which service is meant, and whether it is this NIC's business.

use lbx_common::{
    address::Address,
    drops::DropReason,
    hash,
    lookup::{ALL_TCP, ALL_UDP, PORT_WAYS, VIP_WAYS, number, port_key},
    maps::VIP_BUCKETS,
    nic::{CLIENTS, segment},
    service::{Service, TCP, Timeouts, UDP, WORDS},
    slot::NONE,
};

use crate::{
    atomic, fragment, local, maps,
    packet::{Frame, Mac, mac_words, same_mac},
    parse::Packet,
    verdict::{Exit, Step},
};

/// The service of a packet.
pub struct Meant {
    /// Its number.
    pub number: u16,
    /// Its flags.
    pub flags: u32,
    /// The backend that the first fragment of the packet went to; [`NONE`](NONE).
    pub backend: u16,
    service: *const Service,
}

impl Meant {
    /// First slot and number of slots.
    #[inline(always)]
    pub fn slots(&self) -> (u32, u32) {
        self.range(1)
    }

    /// First ring entry and number of them.
    #[inline(always)]
    pub fn ring(&self) -> (u32, u32) {
        self.range(2)
    }

    /// First backend and room for them.
    #[inline(always)]
    pub fn backends(&self) -> (u32, u32) {
        self.range(3)
    }

    /// Scheduler, leading bits of persistence, sorry server's index.
    #[inline(always)]
    pub fn scheduling(&self) -> (u8, u8, u16) {
        let [_, _, _, _, scheduler, prefix, a, b] = self.word(0).to_ne_bytes();
        (scheduler, prefix, u16::from_ne_bytes([a, b]))
    }

    /// Idle timeouts.
    #[inline(always)]
    pub fn timeouts(&self) -> Timeouts {
        let mut words = [0; WORDS];
        words[4] = self.word(4);
        words[5] = self.word(5);
        Service::from_words(words).timeouts
    }

    #[inline(always)]
    fn range(&self, word: usize) -> (u32, u32) {
        let [a, b, c, d, e, f, g, h] = self.word(word).to_ne_bytes();
        (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]))
    }

    #[inline(always)]
    fn word(&self, index: usize) -> u64 {
        // SAFETY: index < WORDS at every call, and a service is that many words.
        atomic::load(unsafe { self.service.cast::<u64>().add(index) })
    }
}

/// The service of a packet. The look-up comes first, so that traffic for others pays for nothing else.
#[inline(always)]
pub fn find(frame: &Frame<'_>, packet: &Packet) -> Step<Meant> {
    let Some(vip) = vip(packet.vip) else {
        return Err(local::reply::receive(frame, packet));
    };
    if packet.is_later_fragment() {
        return follow_first(frame, packet, vip);
    }
    // No port (RFC 6335 section 6): it stands for all of them where services are looked up, and for none in templates.
    if packet.vip_port == [0; 2] {
        return Err(Exit::Pass);
    }
    let Some(service) = of_port(vip, packet.protocol, packet.vip_port) else {
        if packet.is_first_fragment() && accepts(frame, packet.tags, packet.destination) {
            fragment::leave(packet);
        }
        return Err(Exit::Pass);
    };
    if !accepts(frame, packet.tags, packet.destination) {
        return Err(Exit::Pass);
    }
    if !possible(packet) {
        return Err(Exit::Drop(DropReason::BadSource));
    }
    by_number(service).ok_or(Exit::Drop(DropReason::TableMismatch))
}

/// The service of an address, protocol and port.
#[inline(always)]
pub fn named(address: Address, protocol: u8, port: [u8; 2]) -> Option<Meant> {
    by_number(of_port(vip(address)?, protocol, port)?)
}

/// The service number of a VIP's port.
#[inline(always)]
fn of_port(vip: u64, protocol: u8, own: [u8; 2]) -> Option<u16> {
    port(port_key(number(vip), protocol, own)).or_else(|| all_ports(vip, protocol))
}

/// What becomes of a malformed packet: dropped with its reason on a VIP, passed untouched elsewhere.
#[inline(always)]
pub fn refuse(frame: &Frame<'_>, packet: &Packet, reason: DropReason) -> Exit {
    if vip(packet.vip).is_some() && accepts(frame, packet.tags, packet.destination) {
        Exit::Drop(reason)
    } else {
        Exit::Pass
    }
}

/// The service of a fragment without ports: that of its first, or one that has all ports and asks for none.
#[inline(always)]
fn follow_first(frame: &Frame<'_>, packet: &Packet, vip: u64) -> Step<Meant> {
    const ORPHAN: Exit = Exit::Drop(DropReason::OrphanFragment);
    if !accepts(frame, packet.tags, packet.destination) {
        return Err(Exit::Pass);
    }
    if !possible(packet) {
        return Err(Exit::Drop(DropReason::BadSource));
    }
    let found = lbx_service_of_fragment(packet, vip);
    if found == NOT_FOUND {
        // What is neither TCP nor UDP begins with an extension header; whatever that leads to.
        let ours = matches!(packet.protocol, TCP | UDP);
        return Err(if ours { ORPHAN } else { Exit::Pass });
    }
    if found as u16 == NONE {
        return Err(Exit::Pass);
    }
    let meant = by_number(found as u16).ok_or(ORPHAN)?;
    Ok(Meant {
        backend: (found >> 16) as u16,
        ..meant
    })
}

const NOT_FOUND: u64 = u64::MAX;

/// Service number in bits 0–15, backend of the first fragment in 16–31. A function of a name of its own is verified by
/// itself, once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lbx_service_of_fragment(packet: *const Packet, vip: u64) -> u64 {
    // SAFETY: null or a packet of the caller's.
    let Some(packet) = (unsafe { packet.as_ref() }) else {
        return NOT_FOUND;
    };
    if let Some(first) = fragment::first(packet) {
        return u64::from(first.service) | u64::from(first.backend) << 16;
    }
    match all_ports(vip, packet.protocol).and_then(by_number) {
        Some(meant) if fragment::needs_no_first(meant.flags) => u64::from(meant.number) | u64::from(NONE) << 16,
        _ => NOT_FOUND,
    }
}

/// The service of a number.
#[inline(always)]
pub fn by_number(number: u16) -> Option<Meant> {
    let mut meant = Meant {
        number,
        flags: 0,
        backend: NONE,
        service: maps::service(number)?,
    };
    meant.flags = meant.range(0).0;
    Some(meant)
}

/// The value of a VIP.
#[inline(always)]
fn vip(address: Address) -> Option<u64> {
    for bucket in hash::buckets(hash::vip(address, maps::seed()), VIP_BUCKETS - 1) {
        let bucket = maps::vips(bucket)?;
        for way in 0..VIP_WAYS {
            // SAFETY: way < VIP_WAYS, and the verifier has seen the bucket's bounds.
            let entry = unsafe { &raw const (*bucket).entries[way] };
            // SAFETY: only addresses are taken.
            let (value, high, low) = unsafe {
                (
                    &raw const (*entry).value,
                    &raw const (*entry).address.high,
                    &raw const (*entry).address.low,
                )
            };
            let value = atomic::load(value);
            if value != 0 && atomic::load(low) == address.low && atomic::load(high) == address.high {
                return Some(value);
            }
        }
    }
    None
}

/// The service number of a port's key.
#[inline(always)]
fn port(key: u64) -> Option<u16> {
    for bucket in hash::buckets(hash::port(key, maps::seed()), maps::port_mask()) {
        let bucket = maps::ports(bucket)?;
        for way in 0..PORT_WAYS {
            // SAFETY: way < PORT_WAYS, and the verifier has seen the bucket's bounds.
            let entry = unsafe { &raw const (*bucket).entries[way] };
            // SAFETY: only addresses are taken.
            let (value, own) = unsafe { (&raw const (*entry).value, &raw const (*entry).key) };
            let value = atomic::load(value);
            if value != 0 && atomic::load(own) == key {
                return Some(number(value));
            }
        }
    }
    None
}

/// The service that has every port of a VIP that no other has.
#[inline(always)]
fn all_ports(vip: u64, protocol: u8) -> Option<u16> {
    let flag = if protocol == TCP { ALL_TCP } else { ALL_UDP };
    if vip & flag == 0 {
        return None;
    }
    port(port_key(number(vip), protocol, [0; 2]))
}

/// Whether a packet can be a client's, by its source address. IPv4: not 0/8, 127/8, 224/3 (RFC 1122 section 3.2.1.3); IPv6: not ff00::/8, :: or ::1
/// (RFC 4291 section 2.4); neither: the VIP itself.
#[inline(always)]
fn possible(packet: &Packet) -> bool {
    let client = packet.client;
    if client == packet.vip {
        false
    } else if client.is_ipv4() {
        let [first, ..] = client.ipv4();
        first != 0 && first != 127 && first < 224
    } else {
        let local = client.high == 0 && u64::from_be(client.low) <= 1;
        client.high.to_ne_bytes()[0] != 0xff && !local
    }
}

/// Whether the NIC takes clients' traffic and the frame was sent to it: one in promiscuous mode sees frames of others.
#[inline(always)]
fn accepts(frame: &Frame<'_>, tags: lbx_common::backend::Tags, mac: Mac) -> bool {
    let Some((own, roles)) = maps::nic(segment(frame.ingress(), tags)) else {
        return false;
    };
    roles & CLIENTS != 0 && same_mac(mac_words(own), mac)
}
