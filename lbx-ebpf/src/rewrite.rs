//! Step four: the Ethernet header, and nothing else: direct server return leaves the IP packet as the client sent it.

use lbx_common::drops::DropReason;

use crate::{
    packet::Frame,
    pick::Choice,
    verdict::{Exit, Step},
};

/// Addresses the frame to the backend, from the NIC that will send it.
#[inline(always)]
pub fn ethernet(frame: &Frame, choice: &Choice) -> Step<()> {
    let [a, b, c] = choice.mac;
    let [d, e, f] = choice.source;
    frame
        .write_start([a, b, c, d, e, f])
        .ok_or(Exit::Drop(DropReason::Truncated))
}
