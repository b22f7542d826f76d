//! The selected backend of a packet.

use crate::backend::NextHop;

/// The backend selected for a packet.
pub struct Selection {
    /// The next hop to it.
    pub next_hop: NextHop,
    /// Its index within the service.
    pub index: u16,
    /// Whether a connection (TCP) or a recorded flow (UDP) began with this packet.
    pub new: bool,
    /// Why it was selected.
    pub reason: Reason,
}

/// Why a backend was selected; shown by the trace.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Reason {
    /// The slot's backend: a hashed service outside of any window.
    Slot = 0,
    /// The flow's record.
    Record = 1,
    /// The scheduler's choice for a new flow.
    Scheduled = 2,
    /// The slot's owner: it gets packets of flows without a record.
    Owner = 3,
    /// The backend of the packet's first fragment.
    Fragment = 4,
    /// The server id in a QUIC connection id.
    Quic = 5,
}

impl Reason {
    /// The reason of a code.
    #[inline(always)]
    pub const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Record,
            2 => Self::Scheduled,
            3 => Self::Owner,
            4 => Self::Fragment,
            5 => Self::Quic,
            _ => Self::Slot,
        }
    }
}
