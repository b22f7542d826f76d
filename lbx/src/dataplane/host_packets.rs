//! Packets for services that reach this host's own stack: counted by a program behind the XDP program, or on devices that have none.

use aya::programs::{LinkOrder, ProgramError, TcAttachType, tc::TcAttachOptions};
use lbx_common::{host_packets::HostPackets, maps::HOST_PACKETS, maps::HOST_PACKETS_PROGRAM};
use nix::net::if_::if_indextoname;

use super::{
    Dataplane, DataplaneError,
    error::map_failed,
    traffic_control::{self, TcAttachment},
};

/// Devices that a call adds at most.
const NEW_DEVICES: usize = 2;

impl Dataplane {
    /// Counts on these devices and no others, as long as this process lives; a call adds two at most, in this order, since the kernel
    /// waits for an RCU grace period with each. Needs links (Linux 6.6): a filter would outlive the process. A device that is gone is
    /// left out.
    ///
    /// # Errors
    /// The kernel refuses the program.
    pub fn count_host_packets(&mut self, devices: &[u32]) -> Result<(), DataplaneError> {
        self.host_packets.retain(|device, _| devices.contains(device));
        if TcAttachment::best_supported() != TcAttachment::TcxLink {
            return Ok(());
        }
        let missing = devices.iter().filter(|device| !self.host_packets.contains_key(device));
        let missing: Vec<u32> = missing.copied().take(NEW_DEVICES).collect();
        for device in missing {
            let Ok(name) = if_indextoname(device) else {
                continue;
            };
            let program = traffic_control::get_or_load_program(&mut self.program, HOST_PACKETS_PROGRAM)??;
            let options = TcAttachOptions::TcxOrder(LinkOrder::default());
            let attached = program
                .attach_with_options(&name.to_string_lossy(), TcAttachType::Ingress, options)
                .and_then(|link| program.take_link(link));
            match attached {
                Ok(link) => {
                    self.host_packets.insert(device, link);
                }
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// What devices have counted since the maps were made.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn host_packets(&self) -> Result<Vec<(u32, HostPackets)>, DataplaneError> {
        let entries = self.maps.host_packets.iter();
        entries.collect::<Result<_, _>>().map_err(map_failed(HOST_PACKETS))
    }
}

fn is_gone(error: &ProgramError) -> bool {
    match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error() == Some(libc::ENODEV),
        ProgramError::UnknownInterface { .. } => true,
        _ => false,
    }
}
