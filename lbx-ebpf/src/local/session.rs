//! Sessions of the director: written for sent packets, looked up for replies.

use lbx_common::{
    address::Address,
    service::UDP,
    session::{FRAGMENT, IN, OUT, PROBE, Session, SessionKey, Steering},
};

use crate::{atomic, clock, frame::Mac, maps, packet::Packet};

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
        let key = self.key(steering.vip, IN, mac);
        let now = clock::now();
        let updated = match maps::session(&key) {
            Some(session) if !opens => update_sent(session, steering, now, ends),
            _ => false,
        };
        if !updated {
            let session = Session {
                other: steering.rip,
                sent: 1,
                received: 0,
                tick: now,
                mac,
                kind: steering.kind,
                ended: u8::from(ends),
                pad: 0,
            };
            maps::insert_session(&key, &session);
            let session = Session {
                other: steering.vip,
                ..session
            };
            maps::insert_session(&self.key(steering.rip, OUT, [0; 6]), &session);
        }
        maps::mark_sessions(self.protocol == UDP, self.local_port);
    }

    /// The steering of a packet without a full socket that is sent to a RIP, by the session of the packets before it.
    #[inline(always)]
    pub fn previous_steering(&self, rip: Address) -> Option<Steering> {
        if !maps::has_sessions(self.protocol == UDP, self.local_port) {
            return None;
        }
        let session = maps::session(&self.key(rip, OUT, [0; 6]))?;
        // SAFETY: the element stays until the RCU grace period after this program's run.
        let vip = unsafe { (*session).other };
        Some(Steering {
            vip,
            rip,
            port: self.remote_port,
            protocol: self.protocol,
            // Not counted for any service.
            kind: PROBE,
            ..Steering::default()
        })
    }
}

/// Records a sent packet in a session; false if the session is of another RIP or kind.
#[inline(always)]
fn update_sent(session: *mut Session, steering: &Steering, now: u32, ends: bool) -> bool {
    // SAFETY: the element stays until the RCU grace period after this program's run; what races is a tick or a flag.
    unsafe {
        if (*session).other != steering.rip || (*session).kind != steering.kind {
            return false;
        }
        atomic::fetch_add(&raw mut (*session).sent, 1);
        (*session).tick = now;
        if ends {
            (*session).ended = 1;
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
    let (rip, received) = unsafe { ((*session).other, &raw mut (*session).received) };
    atomic::fetch_add(received, 1);
    // A UDP socket that only receives sends nothing that would keep the session alive.
    if packet.protocol == UDP && !packet.is_later_fragment() {
        // SAFETY: as above.
        unsafe { (*session).tick = clock::now() };
    }
    if packet.is_first_fragment() {
        let session = Session {
            other: rip,
            tick: clock::now(),
            ..Session::default()
        };
        maps::insert_session(&fragment_key(packet), &session);
        maps::mark_sessions(packet.protocol == UDP, [0; 2]);
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
        direction: IN,
        mac: mac_bytes(packet.source_mac),
        pad: 0,
    }
}

#[inline(always)]
fn fragment_key(packet: &Packet) -> SessionKey {
    let [a, b, c, d] = packet.identification.to_ne_bytes();
    SessionKey {
        remote_port: [a, b],
        local_port: [c, d],
        direction: FRAGMENT,
        remote: packet.client,
        local: packet.vip,
        protocol: packet.protocol,
        mac: mac_bytes(packet.source_mac),
        pad: 0,
    }
}

#[inline(always)]
fn mac_bytes(mac: Mac) -> [u8; 6] {
    let [[a, b], [c, d], [e, f]] = mac.map(u16::to_ne_bytes);
    [a, b, c, d, e, f]
}
