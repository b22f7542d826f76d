//! Sessions: kept by what is sent, found by what comes back.

use lbx_common::{
    address::Address,
    service::UDP,
    session::{FRAGMENT, IN, Led, OUT, PROBE, Session, SessionKey},
};

use crate::{atomic, clock, maps, packet::Mac, parse::Packet};

/// Who talks to whom: what all keys of a session share.
pub struct Ends {
    /// The director's address.
    pub local: Address,
    /// The real server's port, which is the service's.
    pub remote_port: [u8; 2],
    /// The director's port.
    pub local_port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
}

impl Ends {
    #[inline(always)]
    fn key(&self, remote: Address, way: u8, mac: [u8; 6]) -> SessionKey {
        SessionKey {
            remote,
            local: self.local,
            remote_port: self.remote_port,
            local_port: self.local_port,
            protocol: self.protocol,
            way,
            mac,
            pad: 0,
        }
    }

    /// Notes a packet that is sent to a MAC address. One that opens a connection begins the session anew.
    #[inline(always)]
    pub fn note(&self, led: &Led, mac: [u8; 6], opens: bool, ends: bool) {
        let key = self.key(led.vip, IN, mac);
        let now = clock::now();
        let known = match maps::session(&key) {
            Some(session) if !opens => sent(session, led, now, ends),
            _ => false,
        };
        if !known {
            let session = Session {
                other: led.rip,
                sent: 1,
                received: 0,
                tick: now,
                mac,
                kind: led.kind,
                ended: u8::from(ends),
                pad: 0,
            };
            maps::keep_session(&key, &session);
            let session = Session {
                other: led.vip,
                ..session
            };
            maps::keep_session(&self.key(led.rip, OUT, [0; 6]), &session);
        }
        maps::mark_sessions(self.protocol == UDP, self.local_port);
    }

    /// Where a packet of no socket goes that is sent to a RIP, by what was sent there before.
    #[inline(always)]
    pub fn led_before(&self, rip: Address) -> Option<Led> {
        if !maps::has_sessions(self.protocol == UDP, self.local_port) {
            return None;
        }
        let session = maps::session(&self.key(rip, OUT, [0; 6]))?;
        // SAFETY: the element stays until the RCU grace period after this program's run.
        let vip = unsafe { (*session).other };
        Some(Led {
            vip,
            rip,
            port: self.remote_port,
            protocol: self.protocol,
            // It counts for nobody.
            kind: PROBE,
            ..Led::default()
        })
    }
}

/// Notes a packet in a session, if it is of that.
#[inline(always)]
fn sent(session: *mut Session, led: &Led, now: u32, ends: bool) -> bool {
    // SAFETY: the element stays until the RCU grace period after this program's run; what races is a tick or a flag.
    unsafe {
        if (*session).other != led.rip || (*session).kind != led.kind {
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

/// The RIP that a packet from a VIP comes from; notes the packet. The fragments that follow it will be known.
#[inline(always)]
pub fn sender(packet: &Packet) -> Option<Address> {
    let session = maps::session(&reply_key(packet))?;
    // SAFETY: as above.
    let (rip, received) = unsafe { ((*session).other, &raw mut (*session).received) };
    atomic::fetch_add(received, 1);
    // Who only listens to datagrams acknowledges nothing.
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
        maps::keep_session(&fragment_key(packet), &session);
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
        way: IN,
        mac: bytes(packet.source),
        pad: 0,
    }
}

#[inline(always)]
fn fragment_key(packet: &Packet) -> SessionKey {
    let [a, b, c, d] = packet.identification.to_ne_bytes();
    SessionKey {
        remote_port: [a, b],
        local_port: [c, d],
        way: FRAGMENT,
        remote: packet.client,
        local: packet.vip,
        protocol: packet.protocol,
        mac: bytes(packet.source),
        pad: 0,
    }
}

#[inline(always)]
fn bytes(mac: Mac) -> [u8; 6] {
    let [[a, b], [c, d], [e, f]] = mac.map(u16::to_ne_bytes);
    [a, b, c, d, e, f]
}
