//! Expiry of the sessions of local traffic.

use std::{collections::HashSet, sync::atomic::Ordering};

use lbx_common::{
    flow::elapsed_ticks,
    fragment,
    service::UDP,
    session::{FRAGMENT_FROM_VIP, PORT_BITMAP_WORDS, PROBE_SESSION, Session, SessionKey, TO_RIP, port_bit},
};

use super::sessions::{Table, bit, reply_key};
use crate::dataplane::{DataplaneError, pins::Pins};

/// Ticks after which a closed session is removed: as long as the kernel's TIME_WAIT (TCP_TIMEWAIT_LEN, 60 s).
const CLOSED: u32 = 57;
/// Ticks after which a session left by a former daemon's probe is removed.
const LEFT: u32 = 57;
/// Ticks of silence after which a connection is removed: longer than TCP keepalive (7200 s).
const IDLE: u32 = 7_000;
/// The same for UDP: 180 s, as conntrack keeps a stream (nf_conntrack_proto_udp.c).
const UDP_IDLE: u32 = 168;

/// Removes expired sessions. It reads every session, which takes time, so it has map handles of its own.
pub struct SessionSweeper {
    table: Table,
    /// Ports with a bit that had no session at the last sweep.
    unused: PortBitmap,
}

impl SessionSweeper {
    /// Opens the maps.
    pub fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        Ok(Self {
            table: Table::open(pins)?,
            unused: PortBitmap::none(),
        })
    }

    /// Removes sessions that are expired at a tick; returns the ports of the others. `busy` are the leased ports of probes.
    pub fn remove_expired(&mut self, now: u32, busy: &HashSet<u16>) -> Result<PortBitmap, DataplaneError> {
        let mut used = PortBitmap::none();
        for key in expired(&self.table.all()?, now, busy, |kept| used.add(bit(kept))) {
            // It may have been used again since.
            if self.is_expired(&key, now, busy)? {
                self.table.remove(&key)?;
            } else {
                used.add(bit(&key));
            }
        }
        Ok(used)
    }

    /// Clears the bits of ports that had no session in two sweeps, except those of probes, which may be about to send; returns
    /// whether there were any. No port may be leased meanwhile.
    pub fn clear_unused_ports(&mut self, mut used: PortBitmap, busy: &HashSet<u16>) -> bool {
        for port in busy {
            for udp in [false, true] {
                used.add(port_bit(udp, port.to_be_bytes()));
            }
        }
        let mut cleared = false;
        for ((word, used), unused) in self.table.ports.iter().zip(used.0).zip(&mut self.unused.0) {
            let clear = to_clear(word.load(Ordering::Relaxed), used, unused);
            if clear != 0 {
                word.fetch_and(!clear, Ordering::SeqCst);
                cleared = true;
            }
        }
        cleared
    }

    /// Sets the bits of all sessions: one that began while bits were cleared may have found its own still set.
    pub fn mark_used_ports(&mut self) -> Result<(), DataplaneError> {
        for (key, _) in self.table.all()? {
            self.table.mark(&key);
        }
        Ok(())
    }

    /// How many entries there are.
    pub fn entry_count(&self) -> Result<usize, DataplaneError> {
        Ok(self.table.all()?.len())
    }

    /// How many ports are marked as having sessions.
    pub fn marked_port_count(&self) -> u32 {
        let bits = self.table.ports.iter();
        bits.map(|word| word.load(Ordering::Relaxed).count_ones()).sum()
    }

    /// Whether the entry of a key is expired, or gone.
    fn is_expired(&self, key: &SessionKey, now: u32, busy: &HashSet<u16>) -> Result<bool, DataplaneError> {
        let Some(session) = self.table.get(key)? else {
            return Ok(true);
        };
        let decides = deciding_key(key, &session);
        let session = if decides == *key {
            Some(session)
        } else {
            self.table.get(&decides)?
        };
        Ok(session.is_none_or(|session| ends(&decides, &session, now, busy)))
    }
}

/// A bit for every local port, as in the map of them.
pub struct PortBitmap(Vec<u64>);

impl PortBitmap {
    fn none() -> Self {
        Self(vec![0; PORT_BITMAP_WORDS])
    }

    fn add(&mut self, (word, mask): (usize, u64)) {
        self.0[word] |= mask;
    }
}

/// The bits of a word to clear: unused now and in the sweep before, which `unused` remembers.
const fn to_clear(word: u64, used: u64, unused: &mut u64) -> u64 {
    let now = word & !used;
    let clear = now & *unused;
    *unused = now & !clear;
    clear
}

/// The key of the entry that decides whether a session is expired: that of the replies, which also records what is sent.
fn deciding_key(key: &SessionKey, session: &Session) -> SessionKey {
    if key.direction == TO_RIP {
        reply_key(key, Some(session))
    } else {
        *key
    }
}

/// The keys of expired entries; `keep` is called with the others.
fn expired(
    entries: &[(SessionKey, Session)],
    now: u32,
    busy: &HashSet<u16>,
    mut keep: impl FnMut(&SessionKey),
) -> Vec<SessionKey> {
    let replies = entries.iter().filter(|(key, _)| key.direction != TO_RIP);
    let living: HashSet<SessionKey> = replies
        .filter(|(key, session)| !ends(key, session, now, busy))
        .map(|(key, _)| *key)
        .collect();
    let mut over = Vec::new();
    for (key, session) in entries {
        if living.contains(&deciding_key(key, session)) {
            keep(key);
        } else {
            over.push(*key);
        }
    }
    over
}

/// Whether an entry of replies or fragments is expired.
fn ends(key: &SessionKey, session: &Session, now: u32, busy: &HashSet<u16>) -> bool {
    // A packet may have arrived after `now` was read.
    let idle = elapsed_ticks(session.updated_tick, now.max(session.updated_tick));
    match session.session_kind {
        _ if key.direction == FRAGMENT_FROM_VIP => idle > fragment::LIFETIME_TICKS,
        PROBE_SESSION => idle > LEFT && !busy.contains(&u16::from_be_bytes(key.local_port)),
        _ if key.protocol == UDP => idle > UDP_IDLE,
        _ if session.fin_or_rst_sent != 0 => idle > CLOSED,
        _ => idle > IDLE,
    }
}

#[cfg(test)]
mod tests {
    use lbx_common::{
        address::Address,
        service::TCP,
        session::{FROM_VIP, LOCAL_SESSION},
    };

    use super::*;

    const NOW: u32 = 1_000_000;

    fn entry(direction: u8, port: u16, session: Session) -> (SessionKey, Session) {
        let [vip, rip] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(Address::from_ipv4);
        let mac = if direction == TO_RIP { [0; 6] } else { [2; 6] };
        let (remote, other) = if direction == TO_RIP { (rip, vip) } else { (vip, rip) };
        let key = SessionKey {
            remote,
            local_port: port.to_be_bytes(),
            protocol: TCP,
            direction,
            mac,
            ..SessionKey::default()
        };
        (
            key,
            Session {
                replacement_address: other,
                mac: [2; 6],
                ..session
            },
        )
    }

    /// Both entries of a session that was last sent to so many ticks ago; what is sent was noted long before.
    fn both(port: u16, kind: u8, ended: u8, idle: u32) -> [(SessionKey, Session); 2] {
        let session = |tick| Session {
            session_kind: kind,
            fin_or_rst_sent: ended,
            updated_tick: tick,
            ..Session::default()
        };
        [
            entry(FROM_VIP, port, session(NOW - idle)),
            entry(TO_RIP, port, session(NOW - 100_000)),
        ]
    }

    fn ports_over(entries: &[(SessionKey, Session)], busy: &[u16]) -> Vec<u16> {
        let mut kept = 0;
        let over = expired(entries, NOW, &busy.iter().copied().collect(), |_| kept += 1);
        assert_eq!(over.len() + kept, entries.len());
        over.iter().map(|key| u16::from_be_bytes(key.local_port)).collect()
    }

    #[test]
    fn closed_and_idle_connections_expire() {
        let entries = [
            both(1, LOCAL_SESSION, 0, 0),
            both(2, LOCAL_SESSION, 0, IDLE),
            both(3, LOCAL_SESSION, 0, IDLE + 1),
            both(4, LOCAL_SESSION, 1, CLOSED),
            both(5, LOCAL_SESSION, 1, CLOSED + 1),
        ]
        .concat();
        assert_eq!(ports_over(&entries, &[]), [3, 3, 5, 5]);
    }

    #[test]
    fn udp_sessions_expire_sooner() {
        let of = |port, idle| {
            both(port, LOCAL_SESSION, 0, idle).map(|(key, session)| (SessionKey { protocol: UDP, ..key }, session))
        };
        let entries = [of(1, UDP_IDLE), of(2, UDP_IDLE + 1)].concat();
        assert_eq!(ports_over(&entries, &[]), [2, 2]);
    }

    #[test]
    fn probes_of_a_former_daemon_expire_and_leased_ones_stay() {
        let entries = [
            both(1, PROBE_SESSION, 0, LEFT),
            both(2, PROBE_SESSION, 0, LEFT + 1),
            both(3, PROBE_SESSION, 0, LEFT + 1),
        ]
        .concat();
        assert_eq!(ports_over(&entries, &[3]), [2, 2]);
    }

    #[test]
    fn an_outgoing_entry_expires_with_its_replies() {
        let [_, out] = both(1, LOCAL_SESSION, 0, 0);
        assert_eq!(ports_over(&[out], &[]), [1]);
    }

    #[test]
    fn bits_are_cleared_after_two_sweeps_without_use() {
        let mut unused = 0;
        // Bit 0 is used always, 1 every other time, 2 never.
        assert_eq!(to_clear(0b111, 0b011, &mut unused), 0);
        assert_eq!(to_clear(0b111, 0b001, &mut unused), 0b100);
        assert_eq!(to_clear(0b011, 0b011, &mut unused), 0);
        assert_eq!(to_clear(0b011, 0b001, &mut unused), 0);
        // One that was cleared and set again begins anew.
        assert_eq!(to_clear(0b111, 0b011, &mut unused), 0);
        assert_eq!(to_clear(0b111, 0b011, &mut unused), 0b100);
    }

    #[test]
    fn fragments_expire_after_a_minute() {
        let of = |idle| {
            let session = Session {
                updated_tick: NOW - idle,
                ..Session::default()
            };
            [entry(FRAGMENT_FROM_VIP, 7, session)]
        };
        // They carry no port: the field is half of an identification.
        assert!(ports_over(&of(fragment::LIFETIME_TICKS), &[]).is_empty());
        assert_eq!(ports_over(&of(fragment::LIFETIME_TICKS + 1), &[]), [7]);
    }
}
