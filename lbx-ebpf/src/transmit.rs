//! Step four: the NIC a frame is sent from.

use lbx_common::drops::DropReason;

use crate::{
    backend::NextHop,
    frame::Frame,
    maps,
    packet::Packet,
    verdict::{Verdict, VerdictResult},
};

/// The NIC that sends the frame.
pub enum Egress {
    /// The ingress NIC.
    SameNic,
    /// Another one: the redirect has set it.
    OtherNic,
}

/// Chooses the egress NIC; drops a frame that would go back to its sender.
#[inline(always)]
pub fn egress(frame: &Frame<'_>, packet: &Packet, next_hop: &NextHop) -> VerdictResult<Egress> {
    if packet.source_mac == next_hop.mac {
        return Err(Verdict::Drop(DropReason::Loop));
    }
    if next_hop.ifindex == frame.ingress_ifindex() {
        Ok(Egress::SameNic)
    } else if maps::redirect(next_hop.ifindex) {
        Ok(Egress::OtherNic)
    } else {
        Err(Verdict::Drop(DropReason::NoEgress))
    }
}
