//! Step five: out of the NIC the backend is reached by.

use lbx_common::{backend::word_mac, drops::DropReason};

use crate::{
    backend::Hop,
    maps,
    packet::{Frame, mac_words, same_mac},
    parse::Packet,
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
pub fn towards(frame: &Frame<'_>, packet: &Packet, hop: &Hop) -> Step<Egress> {
    if same_mac(packet.source, mac_words(word_mac(hop.mac))) {
        return Err(Exit::Drop(DropReason::Loop));
    }
    if hop.ifindex == frame.ingress() {
        Ok(Egress::SameNic)
    } else if maps::redirect(hop.ifindex) {
        Ok(Egress::OtherNic)
    } else {
        Err(Exit::Drop(DropReason::NoEgress))
    }
}
