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
        for (key, session) in self.all()? {
            if over(&key, &session, now, busy) {
                self.remove(&key)?;
            } else {
                used.insert(bit(&key));
            }
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

/// Whether a session is over.
fn over(key: &SessionKey, session: &Session, now: u32, busy: &HashSet<u16>) -> bool {
    // A packet of this very moment is not of the future.
    let idle = elapsed(session.tick, now.max(session.tick));
    match (key.way, session.kind) {
        (FRAGMENT, _) => idle > fragment::LIFETIME,
        (IN | OUT, PROBE) => idle > LEFT && !busy.contains(&u16::from_be_bytes(key.local_port)),
        _ if session.ended != 0 => idle > ENDED,
        // What is sent is noted in the session of the replies alone.
        (OUT, _) => idle > SILENT,
        _ => idle > SILENT,
    }
}
