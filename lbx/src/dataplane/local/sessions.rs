//! The maps of local traffic, as user space sees them.

use std::{os::fd::BorrowedFd, sync::atomic::Ordering};

use aya::maps::{HashMap, Map, MapData, MapError, SkStorage};
use lbx_common::{
    maps::{LOCAL_PORTS, SESSIONS, STEERING},
    service::UDP,
    session::{FRAGMENT_FROM_VIP, FROM_VIP, Session, SessionKey, Steering, port_bit},
};

use crate::dataplane::{
    DataplaneError,
    error::map_failed,
    mapped::MmapArray,
    maps::{data, typed},
    pins::Pins,
};

/// Sockets' storage, and the sessions of probes.
pub struct Sessions {
    steering: SkStorage<MapData, Steering>,
    table: Table,
}

impl Sessions {
    /// Opens the maps.
    pub fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        Ok(Self {
            steering: typed(pins, STEERING, Map::SkStorage)?,
            table: Table::open(pins)?,
        })
    }

    /// Steers the packets of a socket.
    pub fn steer(&mut self, socket: BorrowedFd<'_>, steering: Steering) -> Result<(), DataplaneError> {
        self.steering.insert(&socket, steering, 0).map_err(map_failed(STEERING))
    }

    /// Packets sent to the VIP, and received from it; by the key of what is sent.
    pub fn packet_counts(&self, key: &SessionKey) -> Result<(u64, u64), DataplaneError> {
        let Some(session) = self.get(&reply_key(key, self.get(key)?.as_ref()))? else {
            return Ok((0, 0));
        };
        Ok((session.packets_sent, session.packets_received))
    }

    /// Inserts a session, and marks its port as having one.
    pub fn insert(&mut self, key: &SessionKey, session: &Session) -> Result<(), DataplaneError> {
        let table = &mut self.table;
        table.sessions.insert(key, session, 0).map_err(map_failed(SESSIONS))?;
        table.mark(key);
        Ok(())
    }

    /// Removes the session of a key of what is sent. The sweeper clears the bit of its port, which other sessions may share.
    pub fn remove(&mut self, key: &SessionKey) -> Result<(), DataplaneError> {
        let reply = reply_key(key, self.get(key)?.as_ref());
        self.table.remove(key)?;
        self.table.remove(&reply)
    }

    /// The session of a key.
    pub fn get(&self, key: &SessionKey) -> Result<Option<Session>, DataplaneError> {
        self.table.get(key)
    }
}

/// The sessions and the bits of their ports.
pub(super) struct Table {
    sessions: HashMap<MapData, SessionKey, Session>,
    pub(super) ports: MmapArray,
}

impl Table {
    pub(super) fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        Ok(Self {
            sessions: typed(pins, SESSIONS, Map::LruHashMap)?,
            ports: MmapArray::open(LOCAL_PORTS, &data(pins, LOCAL_PORTS)?)?,
        })
    }

    pub(super) fn all(&self) -> Result<Vec<(SessionKey, Session)>, DataplaneError> {
        // An entry removed during the iteration is skipped.
        let found = self
            .sessions
            .iter()
            .filter(|entry| !matches!(entry, Err(MapError::KeyNotFound)));
        found.collect::<Result<_, _>>().map_err(map_failed(SESSIONS))
    }

    pub(super) fn get(&self, key: &SessionKey) -> Result<Option<Session>, DataplaneError> {
        match self.sessions.get(key, 0) {
            Ok(session) => Ok(Some(session)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(map_failed(SESSIONS)(error)),
        }
    }

    pub(super) fn remove(&mut self, key: &SessionKey) -> Result<(), DataplaneError> {
        match self.sessions.remove(key) {
            Err(error) if !is_absent(&error) => Err(map_failed(SESSIONS)(error)),
            _ => Ok(()),
        }
    }

    pub(super) fn mark(&self, key: &SessionKey) {
        let (word, mask) = bit(key);
        self.ports[word].fetch_or(mask, Ordering::SeqCst);
    }
}

fn is_absent(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound => true,
        MapError::SyscallError(error) => error.io_error.raw_os_error() == Some(libc::ENOENT),
        _ => false,
    }
}

/// The key of the replies to what is sent. Where nothing was sent: a key that no session has.
pub(super) fn reply_key(key: &SessionKey, sent: Option<&Session>) -> SessionKey {
    let sent = sent.copied().unwrap_or_default();
    SessionKey {
        remote: sent.replacement_address,
        direction: FROM_VIP,
        mac: sent.mac,
        ..*key
    }
}

pub(super) fn bit(key: &SessionKey) -> (usize, u64) {
    // Fragments carry no port.
    let port = if key.direction == FRAGMENT_FROM_VIP {
        [0; 2]
    } else {
        key.local_port
    };
    port_bit(key.protocol == UDP, port)
}
