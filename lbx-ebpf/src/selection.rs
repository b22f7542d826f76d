//! The selected backend of a packet.

use lbx_common::trace::SelectionReason;

use crate::backend::NextHop;

/// The backend selected for a packet.
pub struct Selection {
    /// The next hop to it.
    pub next_hop: NextHop,
    /// Its index within the service.
    pub index_in_service: u16,
    /// Whether a connection (TCP) or a recorded flow (UDP) began with this packet.
    pub new_flow: bool,
    /// Why it was selected.
    pub reason: SelectionReason,
}
