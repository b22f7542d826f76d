//! The backends of a service: what stands at an index, and whether it may get packets.

use lbx_common::backend::{self, Backend, Head};

use crate::{atomic, connections, maps};

/// How a backend is reached: plain values, read once, since it may change under the program's feet.
pub struct Hop {
    /// To whom: MAC address in bytes 0–5, as on the wire.
    pub mac: u64,
    /// From the NIC with this address, likewise.
    pub source: u64,
    /// Behind these [`Tags`](backend::Tags), as one number.
    pub tags: u32,
    /// By the NIC with this index.
    pub ifindex: u32,
    /// Place in the backend counters.
    pub counter: u32,
}

/// What stands at an index of a service's backends (first place, room).
#[inline(always)]
pub fn place((base, room): (u32, u32), index: u16) -> Option<&'static Backend> {
    if u32::from(index) >= room {
        return None;
    }
    maps::backend(base.wrapping_add(u32::from(index)))
}

/// How the backend of an index is reached, if it may get packets.
#[inline(always)]
pub fn hop(range: (u32, u32), index: u16) -> Option<Hop> {
    let backend = place(range, index)?;
    let head = atomic::load(&raw const backend.head);
    backend::reachable(Head::from_word(head).state).then(|| Hop {
        mac: head,
        source: atomic::load(&raw const backend.source),
        tags: backend.tags.to_word(),
        ifindex: backend.ifindex,
        counter: backend.counter,
    })
}

/// Whether connections may be those of the backend of an index.
#[inline(always)]
pub fn usable(range: (u32, u32), index: u16) -> bool {
    place(range, index).is_some_and(|backend| backend::usable(head(backend).state))
}

/// Whether a client that persists may come back to the backend of an index; `draining`: even if that drains.
#[inline(always)]
pub fn keeps(range: (u32, u32), index: u16, draining: bool) -> bool {
    place(range, index).is_some_and(|backend| {
        let state = head(backend).state;
        state == backend::UP || (draining && state == backend::DRAINING)
    })
}

/// Whether the backend of an index may get a new connection.
#[inline(always)]
pub fn takes(range: (u32, u32), index: u16) -> bool {
    place(range, index).is_some_and(|backend| {
        head(backend).state == backend::UP && !connections::full(backend.counter, backend.upper, backend.lower)
    })
}

#[inline(always)]
fn head(backend: &Backend) -> Head {
    Head::from_word(atomic::load(&raw const backend.head))
}
