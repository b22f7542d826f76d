//! Step five: out of the NIC the backend is reached by.

use lbx_common::drops::DropReason;

use crate::{
    maps,
    packet::{Frame, same_mac},
    parse::Packet,
    pick::Choice,
    verdict::{Exit, Step},
};

/// How the frame leaves.
pub enum Egress {
    /// By the NIC it came in.
    SameNic,
    /// By another, which the kernel has been told.
    OtherNic,
}

/// Chooses the way out, and refuses to send a frame back to where it came from.
#[inline(always)]
pub fn towards(frame: &Frame, packet: &Packet, choice: &Choice) -> Step<Egress> {
    if same_mac(packet.source, choice.mac) {
        return Err(Exit::Drop(DropReason::Loop));
    }
    if choice.ifindex == frame.ingress() {
        Ok(Egress::SameNic)
    } else if maps::redirect(choice.ifindex) {
        Ok(Egress::OtherNic)
    } else {
        Err(Exit::Drop(DropReason::NoEgress))
    }
}
