//! VIPs of a NIC that changes between native and generic mode.
//!
//! The kernel never runs a native and a generic program at once (dev_xdp_attach, net/core/dev.c), so for a moment there is none
//! and frames for VIPs reach the host's own stack, which would refuse them and end connections. A program of tc drops them
//! meanwhile; TCP sends them again.

use aya::programs::{ProgramError, TcAttachType, links::Link as _, tc::TcAttachOptions};
use lbx_common::maps::VIP_DROP_PROGRAM;
use nix::net::if_::if_indextoname;

use super::{
    Dataplane, DataplaneError,
    attach::{AttachError, error_chain},
    pins::Pins,
    traffic_control::{self, TcAttachment, clsact},
};

impl Dataplane {
    /// Drops what a NIC passes to this host for VIPs, ICMP excepted, until [`Dataplane::stop_dropping_vip_packets`].
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn drop_vip_packets(&mut self, ifindex: u32) -> Result<(), AttachError> {
        self.drop_vip_packets_with(TcAttachment::best_supported(), ifindex)
    }

    /// The same with a given kind of attachment.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn drop_vip_packets_with(&mut self, kind: TcAttachment, ifindex: u32) -> Result<(), AttachError> {
        if self.vip_drops.contains_key(&ifindex) {
            return Ok(());
        }
        let name = if_indextoname(ifindex).map_err(|errno| AttachError::Refused(errno.desc().into()))?;
        let name = name.to_string_lossy();
        let refused = |error: ProgramError| AttachError::Refused(error_chain(&error));
        let program = traffic_control::get_or_load_program(&mut self.program, VIP_DROP_PROGRAM)?.map_err(refused)?;
        let options = match kind {
            TcAttachment::TcxLink => TcAttachOptions::TcxOrder(aya::programs::LinkOrder::first()),
            TcAttachment::ClsactFilter => {
                clsact::add(&self.pins, ifindex, &name, program)?;
                traffic_control::filter_options()
            }
        };
        let link = program
            .attach_with_options(&name, TcAttachType::Ingress, options)
            .and_then(|link| program.take_link(link))
            .map_err(refused)
            .inspect_err(|_| {
                let _remains = clsact::delete_if_unused(&self.pins, ifindex);
            })?;
        self.vip_drops.insert(ifindex, link);
        Ok(())
    }

    /// Ends every [`Dataplane::drop_vip_packets`].
    pub fn stop_dropping_vip_packets(&mut self) {
        if self.vip_drops.is_empty() {
            return;
        }
        wait_for_frames_in_flight();
        for (ifindex, link) in std::mem::take(&mut self.vip_drops) {
            // The NIC may be gone, and the program with it.
            let _gone = link.detach();
            // What remains is tried again when the pins are removed.
            let _remains = clsact::delete_if_unused(&self.pins, ifindex);
        }
    }

    /// Removes what a daemon has left that was killed meanwhile: a filter has no owner that it goes with.
    pub(super) fn remove_left_vip_drop(&self, ifindex: u32) {
        if !self.vip_drops.contains_key(&ifindex) {
            // What remains of clsact is tried again when the pins are removed.
            let _remains = remove_left(&self.pins, ifindex);
        }
    }
}

/// Removes the filter that drops packets for VIPs on a NIC, if there is one, and clsact if it was for lbx alone.
///
/// # Errors
/// The kernel refuses, or a pin cannot be removed.
pub(super) fn remove_left(pins: &Pins, ifindex: u32) -> Result<(), DataplaneError> {
    if let Ok(name) = if_indextoname(ifindex)
        && let Ok(filter) = traffic_control::filter_of(&name.to_string_lossy(), TcAttachType::Ingress)
    {
        let _none = filter.detach();
    }
    clsact::delete_if_unused(pins, ifindex)
}

/// Waits until no CPU works on a frame that it has taken up before the XDP program was attached: the kernel's
/// membarrier(2) waits for an RCU grace period.
fn wait_for_frames_in_flight() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: it takes two integers, no pointer. Where the kernel has none, a frame in flight may be refused.
    unsafe {
        libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0);
    }
}
