//! Sessions of the director: written for sent packets, looked up for replies.

use lbx_common::{
    address::Address,
    backend::mac_from_word,
    service::UDP,
    session::{FRAGMENT_FROM_VIP, FROM_VIP, PROBE_SESSION, Session, SessionKey, Steering, TO_RIP},
};

use crate::{atomic, clock, maps, packet::Packet};

/// The endpoints that all keys of a session share.
pub struct Endpoints {
    /// The director's address.
    pub local: Address,
    /// The real server's port, which is the service's.
    pub remote_port: [u8; 2],
    /// The director's port.
    pub local_port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
}

impl Endpoints {
    #[inline(always)]
    fn key(&self, remote: Address, direction: u8, mac: [u8; 6]) -> SessionKey {
        SessionKey {
            remote,
            local: self.local,
            remote_port: self.remote_port,
            local_port: self.local_port,
            protocol: self.protocol,
            direction,
            mac,
            pad: 0,
        }
    }

    /// Records a packet sent to a MAC address. One that opens a connection starts the session again.
    #[inline(always)]
    pub fn record_sent(&self, steering: &Steering, mac: [u8; 6], opens: bool, ends: bool) {
        let key = self.key(steering.vip, FROM_VIP, mac);
        let now = clock::current_tick();
        let updated = match maps::session(&key) {
            Some(session) if !opens => update_sent(session, steering, now, ends),
            _ => false,
        };
        if !updated {
            let session = Session {
                replacement_address: steering.rip,
                packets_sent: 1,
                packets_received: 0,
                updated_tick: now,
                mac,
                session_kind: steering.session_kind,
                fin_or_rst_sent: u8::from(ends),
                pad: 0,
            };
            maps::insert_session(&key, &session);
            let session = Session {
                replacement_address: steering.vip,
                ..session
            };
            maps::insert_session(&self.key(steering.rip, TO_RIP, [0; 6]), &session);
        }
        maps::mark_has_sessions(self.protocol == UDP, self.local_port);
    }

    /// The steering of a packet without a full socket that is sent to a RIP, by the session of the packets before it.
    #[inline(always)]
    pub fn steering_from_session(&self, rip: Address) -> Option<Steering> {
        if !maps::has_sessions(self.protocol == UDP, self.local_port) {
            return None;
        }
        let session = maps::session(&self.key(rip, TO_RIP, [0; 6]))?;
        // SAFETY: the element stays until the RCU grace period after this program's run.
        let vip = unsafe { (*session).replacement_address };
        Some(Steering {
            vip,
            rip,
            port: self.remote_port,
            protocol: self.protocol,
            // Not counted for any service.
            session_kind: PROBE_SESSION,
            ..Steering::default()
        })
    }
}

/// Records a sent packet in a session; false if the session is of another RIP or kind.
#[inline(always)]
fn update_sent(session: *mut Session, steering: &Steering, now: u32, ends: bool) -> bool {
    // SAFETY: the element stays until the RCU grace period after this program's run; what races is a tick or a flag.
    unsafe {
        if (*session).replacement_address != steering.rip || (*session).session_kind != steering.session_kind {
            return false;
        }
        atomic::fetch_add(&raw mut (*session).packets_sent, 1);
        (*session).updated_tick = now;
        if ends {
            (*session).fin_or_rst_sent = 1;
        }
    }
    true
}

/// The RIP of the real server that sent a packet from a VIP. Records the packet; after a first fragment, the later ones find
/// the RIP too.
#[inline(always)]
pub fn rip_of_reply(packet: &Packet) -> Option<Address> {
    let session = maps::session(&reply_key(packet))?;
    // SAFETY: as above.
    let (rip, received) = unsafe { ((*session).replacement_address, &raw mut (*session).packets_received) };
    atomic::fetch_add(received, 1);
    // A UDP socket that only receives sends nothing that would keep the session alive.
    if packet.protocol == UDP && !packet.is_later_fragment() {
        // SAFETY: as above.
        unsafe { (*session).updated_tick = clock::current_tick() };
    }
    if packet.is_first_fragment() {
        let session = Session {
            replacement_address: rip,
            updated_tick: clock::current_tick(),
            ..Session::default()
        };
        maps::insert_session(&fragment_key(packet), &session);
        maps::mark_has_sessions(packet.protocol == UDP, [0; 2]);
    }
    Some(rip)
}

#[inline(always)]
fn reply_key(packet: &Packet) -> SessionKey {
    if packet.is_later_fragment() {
        return fragment_key(packet);
    }
    SessionKey {
        remote: packet.client,
        local: packet.vip,
        remote_port: packet.client_port,
        local_port: packet.vip_port,
        protocol: packet.protocol,
        direction: FROM_VIP,
        mac: mac_from_word(packet.source_mac),
        pad: 0,
    }
}

#[inline(always)]
fn fragment_key(packet: &Packet) -> SessionKey {
    let [a, b, c, d] = packet.identification.to_ne_bytes();
    SessionKey {
        remote_port: [a, b],
        local_port: [c, d],
        direction: FRAGMENT_FROM_VIP,
        remote: packet.client,
        local: packet.vip,
        protocol: packet.protocol,
        mac: mac_from_word(packet.source_mac),
        pad: 0,
    }
}
