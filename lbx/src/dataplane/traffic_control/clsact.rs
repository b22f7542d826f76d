//! The clsact queueing discipline of a device: added where it is missing, deleted when lbx was the one who added it and nobody
//! has filters in it any more. A pin marks the devices where it was lbx, for the next daemon.

use aya::programs::{SchedClassifier, tc};

use super::netlink;
use crate::dataplane::{
    DataplaneError,
    error::{file_failed, pin_failed},
    pins::Pins,
};

/// Adds clsact to a device, unless it is there. Where it cannot be added, attaching a filter fails and says so.
///
/// `program` is any that is loaded: only programs, maps and links can be pinned.
///
/// # Errors
/// The marker cannot be pinned; clsact is deleted again then.
pub fn add(pins: &Pins, device: u32, name: &str, program: &mut SchedClassifier) -> Result<(), DataplaneError> {
    if tc::qdisc_add_clsact(name).is_err() {
        return Ok(());
    }
    let marker = pins.clsact_marker_path(device);
    // Another process has deleted the former clsact.
    pins.remove(&marker)?;
    program.pin(&marker).map_err(|error| {
        let _gone = netlink::delete_clsact(device);
        pin_failed(&marker)(error)
    })
}

/// Deletes clsact from a device if lbx added it and it has no filter, and forgets that lbx added it.
///
/// # Errors
/// The kernel refuses, or the marker cannot be removed.
pub fn delete_if_unused(pins: &Pins, device: u32) -> Result<(), DataplaneError> {
    let marker = pins.clsact_marker_path(device);
    if !marker.exists() {
        return Ok(());
    }
    let failed = file_failed("delete the clsact of the device that has the marker", &marker);
    if netlink::has_filters(device).map_err(&failed)? {
        return Ok(());
    }
    netlink::delete_clsact(device).map_err(&failed)?;
    pins.remove(&marker)
}
