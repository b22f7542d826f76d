//! The tables of what the director itself sends, as user space sees them.

use std::{collections::HashSet, os::fd::BorrowedFd, sync::atomic::Ordering};

use aya::maps::{HashMap, Map, MapData, MapError, SkStorage};
use lbx_common::{
    flow::elapsed,
    fragment,
    maps::{LED, LOCAL_PORTS, SESSIONS},
    service::UDP,
    session::{FRAGMENT, IN, Led, OUT, PROBE, Session, SessionKey, port_bit},
};

use crate::dataplane::{
    DataplaneError,
    mapped::Mapped,
    maps::{data, failed, typed},
    pins::Pins,
};

/// Ticks after which a session that has ended is forgotten: as long as the kernel keeps its own (TCP_TIMEWAIT_LEN, 60 s).
const ENDED: u32 = 57;
/// Ticks after which one is that a former daemon's probe has left.
const LEFT: u32 = 57;
/// Ticks of silence after which a connection is taken for gone: longer than TCP's own keepalive (7200 s).
const SILENT: u32 = 7_000;
/// The same of datagrams, which have no end: 180 s, as conntrack keeps a stream of them (nf_conntrack_proto_udp.c).
const SILENT_UDP: u32 = 168;

/// Sockets' storage, sessions and the bits of their ports.
pub struct Sessions {
    led: SkStorage<MapData, Led>,
    sessions: HashMap<MapData, SessionKey, Session>,
    ports: Mapped,
}

impl Sessions {
    /// Opens the maps.
    pub fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        Ok(Self {
            led: typed(pins, LED, Map::SkStorage)?,
            sessions: typed(pins, SESSIONS, Map::LruHashMap)?,
            ports: Mapped::open(LOCAL_PORTS, &data(pins, LOCAL_PORTS)?)?,
        })
    }

    /// Has the packets of a socket led somewhere.
    pub fn lead(&mut self, socket: BorrowedFd<'_>, led: Led) -> Result<(), DataplaneError> {
        self.led.insert(&socket, led, 0).map_err(failed(LED))
    }

    /// How many packets were sent to the VIP, and how many came from there; by the key of what is sent.
    pub fn counts(&self, key: &SessionKey) -> Result<(u64, u64), DataplaneError> {
        let Some(session) = self.get(&reply_key(key, self.get(key)?.as_ref()))? else {
            return Ok((0, 0));
        };
        Ok((session.sent, session.received))
    }

    /// Keeps a session, and that its port has one.
    pub fn keep(&mut self, key: &SessionKey, session: &Session) -> Result<(), DataplaneError> {
        self.sessions.insert(key, session, 0).map_err(failed(SESSIONS))?;
        let (word, mask) = bit(key);
        self.ports[word].fetch_or(mask, Ordering::SeqCst);
        Ok(())
    }

    /// Forgets the session of a key of what is sent, and that its port has any.
    pub fn forget(&mut self, key: &SessionKey) -> Result<(), DataplaneError> {
        let reply = reply_key(key, self.get(key)?.as_ref());
        self.remove(key)?;
        self.remove(&reply)?;
        let (word, mask) = bit(key);
        self.ports[word].fetch_and(!mask, Ordering::SeqCst);
        Ok(())
    }

    /// Forgets sessions that are over at a tick, and ports that have no more. `busy` are the ports of probes.
    pub fn sweep(&mut self, now: u32, busy: &HashSet<u16>) -> Result<(), DataplaneError> {
        let mut used = HashSet::new();
        let over = over(&self.all()?, now, busy, |kept| {
            used.insert(bit(kept));
        });
        for key in over {
            self.remove(&key)?;
        }
        let of = |place: usize| used.iter().filter(move |(word, _)| *word == place);
        let mut cleared = false;
        for (place, word) in self.ports.iter().enumerate() {
            let before = word.load(Ordering::Relaxed);
            let after = of(place).fold(0, |bits, (_, mask)| bits | mask);
            if before & !after != 0 {
                word.fetch_and(after, Ordering::SeqCst);
                cleared = true;
            }
        }
        // A session that began meanwhile may have found its bit set.
        if cleared {
            for (key, _) in self.all()? {
                let (word, mask) = bit(&key);
                self.ports[word].fetch_or(mask, Ordering::SeqCst);
            }
        }
        Ok(())
    }

    /// How many entries there are.
    pub fn count(&self) -> Result<usize, DataplaneError> {
        Ok(self.all()?.len())
    }

    /// How many ports are known to have sessions.
    pub fn ports(&self) -> u32 {
        let bits = self.ports.iter().map(|word| word.load(Ordering::Relaxed).count_ones());
        bits.sum()
    }

    fn all(&self) -> Result<Vec<(SessionKey, Session)>, DataplaneError> {
        // One that goes while it is looked at is none.
        let found = self
            .sessions
            .iter()
            .filter(|entry| !matches!(entry, Err(MapError::KeyNotFound)));
        found.collect::<Result<_, _>>().map_err(failed(SESSIONS))
    }

    /// The session of a key.
    pub fn get(&self, key: &SessionKey) -> Result<Option<Session>, DataplaneError> {
        match self.sessions.get(key, 0) {
            Ok(session) => Ok(Some(session)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(failed(SESSIONS)(error)),
        }
    }

    fn remove(&mut self, key: &SessionKey) -> Result<(), DataplaneError> {
        match self.sessions.remove(key) {
            Err(error) if !is_absent(&error) => Err(failed(SESSIONS)(error)),
            _ => Ok(()),
        }
    }
}

fn is_absent(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound => true,
        MapError::SyscallError(error) => error.io_error.raw_os_error() == Some(libc::ENOENT),
        _ => false,
    }
}

/// The key of the replies to what is sent. Where nothing was sent there are none: a key that nothing has.
fn reply_key(key: &SessionKey, sent: Option<&Session>) -> SessionKey {
    let sent = sent.copied().unwrap_or_default();
    SessionKey {
        remote: sent.other,
        way: IN,
        mac: sent.mac,
        ..*key
    }
}

fn bit(key: &SessionKey) -> (usize, u64) {
    // Fragments tell no port.
    let port = if key.way == FRAGMENT { [0; 2] } else { key.local_port };
    port_bit(key.protocol == UDP, port)
}

/// The keys of the entries that are over; `keep` is told the others.
fn over(
    entries: &[(SessionKey, Session)],
    now: u32,
    busy: &HashSet<u16>,
    mut keep: impl FnMut(&SessionKey),
) -> Vec<SessionKey> {
    let replies = entries.iter().filter(|(key, _)| key.way != OUT);
    let living: HashSet<SessionKey> = replies
        .filter(|(key, session)| !ends(key, session, now, busy))
        .map(|(key, _)| *key)
        .collect();
    let mut over = Vec::new();
    for (key, session) in entries {
        // What is sent is noted in the entry of the replies alone, so the other goes with it.
        let speaks = if key.way == OUT {
            reply_key(key, Some(session))
        } else {
            *key
        };
        if living.contains(&speaks) {
            keep(key);
        } else {
            over.push(*key);
        }
    }
    over
}

/// Whether an entry of replies or fragments is over.
fn ends(key: &SessionKey, session: &Session, now: u32, busy: &HashSet<u16>) -> bool {
    // A packet of this very moment is not of the future.
    let idle = elapsed(session.tick, now.max(session.tick));
    match session.kind {
        _ if key.way == FRAGMENT => idle > fragment::LIFETIME,
        PROBE => idle > LEFT && !busy.contains(&u16::from_be_bytes(key.local_port)),
        _ if key.protocol == UDP => idle > SILENT_UDP,
        _ if session.ended != 0 => idle > ENDED,
        _ => idle > SILENT,
    }
}

#[cfg(test)]
mod tests {
    use lbx_common::{address::Address, service::TCP, session::LOCAL};

    use super::*;

    const NOW: u32 = 1_000_000;

    fn entry(way: u8, port: u16, session: Session) -> (SessionKey, Session) {
        let [vip, rip] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(Address::from_ipv4);
        let mac = if way == OUT { [0; 6] } else { [2; 6] };
        let (remote, other) = if way == OUT { (rip, vip) } else { (vip, rip) };
        let key = SessionKey {
            remote,
            local_port: port.to_be_bytes(),
            protocol: TCP,
            way,
            mac,
            ..SessionKey::default()
        };
        (
            key,
            Session {
                other,
                mac: [2; 6],
                ..session
            },
        )
    }

    /// Both entries of a session that was last sent to so many ticks ago; what is sent was noted long before.
    fn both(port: u16, kind: u8, ended: u8, idle: u32) -> [(SessionKey, Session); 2] {
        let session = |tick| Session {
            kind,
            ended,
            tick,
            ..Session::default()
        };
        [
            entry(IN, port, session(NOW - idle)),
            entry(OUT, port, session(NOW - 100_000)),
        ]
    }

    fn ports_over(entries: &[(SessionKey, Session)], busy: &[u16]) -> Vec<u16> {
        let mut kept = 0;
        let over = over(entries, NOW, &busy.iter().copied().collect(), |_| kept += 1);
        assert_eq!(over.len() + kept, entries.len());
        over.iter().map(|key| u16::from_be_bytes(key.local_port)).collect()
    }

    #[test]
    fn connections_end_and_fall_silent() {
        let entries = [
            both(1, LOCAL, 0, 0),
            both(2, LOCAL, 0, SILENT),
            both(3, LOCAL, 0, SILENT + 1),
            both(4, LOCAL, 1, ENDED),
            both(5, LOCAL, 1, ENDED + 1),
        ]
        .concat();
        assert_eq!(ports_over(&entries, &[]), [3, 3, 5, 5]);
    }

    #[test]
    fn datagrams_fall_silent_sooner() {
        let of = |port, idle| {
            both(port, LOCAL, 0, idle).map(|(key, session)| (SessionKey { protocol: UDP, ..key }, session))
        };
        let entries = [of(1, SILENT_UDP), of(2, SILENT_UDP + 1)].concat();
        assert_eq!(ports_over(&entries, &[]), [2, 2]);
    }

    #[test]
    fn probes_of_a_former_daemon_go_and_those_under_way_stay() {
        let entries = [
            both(1, PROBE, 0, LEFT),
            both(2, PROBE, 0, LEFT + 1),
            both(3, PROBE, 0, LEFT + 1),
        ]
        .concat();
        assert_eq!(ports_over(&entries, &[3]), [2, 2]);
    }

    #[test]
    fn what_is_sent_goes_with_its_replies() {
        let [_, out] = both(1, LOCAL, 0, 0);
        assert_eq!(ports_over(&[out], &[]), [1]);
    }

    #[test]
    fn fragments_go_after_a_minute() {
        let of = |idle| {
            let session = Session {
                tick: NOW - idle,
                ..Session::default()
            };
            [entry(FRAGMENT, 7, session)]
        };
        // They tell no port: what lies there is half of an identification.
        assert!(ports_over(&of(fragment::LIFETIME), &[]).is_empty());
        assert_eq!(ports_over(&of(fragment::LIFETIME + 1), &[]), [7]);
    }
}
