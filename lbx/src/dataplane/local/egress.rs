//! The egress program: on every device that routes to real servers use.
//!
//! From Linux 6.6 on it has a link (TCX), pinned and adopted like those of XDP. Before, it is a filter of the clsact queueing
//! discipline with a fixed priority and handle, by which the next daemon finds and replaces it; pins mark the devices that
//! have one. [`clsact`] says what becomes of the discipline.

use std::{collections::BTreeSet, os::fd::AsFd as _};

use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        links::{FdLink, Link as _},
        tc::{SchedClassifierLink, TcAttachOptions, TcError},
    },
};
use lbx_common::maps::EGRESS_PROGRAM;
use nix::net::if_::if_indextoname;

use super::LocalTrafficError;
use crate::dataplane::{
    Dataplane, DataplaneError,
    error::pin_failed,
    pinned_link,
    pins::Pins,
    traffic_control::{self, HANDLE, PRIORITY, TcAttachment, clsact, netlink},
};

impl Dataplane {
    /// Attaches the egress program to these devices, and detaches it from all others: the devices of the routes to real
    /// servers, by index; a VLAN device or a bond by its own. Calling it again re-attaches what another process detached.
    /// Returns the devices that failed; the others are done.
    pub fn reconcile_egress_programs(&mut self, devices: &BTreeSet<u32>) -> Vec<(u32, LocalTrafficError)> {
        self.reconcile_egress_programs_with(TcAttachment::best_supported(), devices)
    }

    /// The same with a given kind of attachment.
    pub fn reconcile_egress_programs_with(
        &mut self,
        kind: TcAttachment,
        devices: &BTreeSet<u32>,
    ) -> Vec<(u32, LocalTrafficError)> {
        let mut failed = Vec::new();
        let known = match self.pins.egress_ifindexes() {
            Ok(known) => known,
            Err(error) => return devices.iter().copied().zip([error.into()]).collect(),
        };
        for device in known.into_iter().filter(|device| !devices.contains(device)) {
            failed.extend(self.detach_egress(device).err().map(|error| (device, error)));
        }
        for &device in devices {
            let result = match kind {
                TcAttachment::TcxLink => self.attach_link(device),
                TcAttachment::ClsactFilter => self.attach_filter(device),
            };
            failed.extend(result.err().map(|error| (device, error)));
        }
        failed
    }

    /// Detaches from a device, link or filter.
    fn detach_egress(&mut self, device: u32) -> Result<(), LocalTrafficError> {
        self.egress.remove(&device);
        Ok(remove(&self.pins, device)?)
    }

    fn attach_link(&mut self, device: u32) -> Result<(), LocalTrafficError> {
        let path = self.pins.egress_link_path(device);
        remove_filter(&self.pins, device)?;
        let alive = pinned_link::LinkInfo::of_pin(&path)?.is_some_and(|link| link.ifindex == device);
        if alive && self.egress.contains(&device) {
            return Ok(());
        }
        if alive {
            let program = self.egress_program()?.fd().map_err(|error| refused(&error))?;
            pinned_link::update(&path, program.as_fd())?;
            self.egress.insert(device);
            return Ok(());
        }
        self.detach_egress(device)?;
        let name = name_of(device)?;
        let program = self.egress_program()?;
        let link = program
            .attach_with_options(
                &name,
                TcAttachType::Egress,
                TcAttachOptions::TcxOrder(LinkOrder::default()),
            )
            .and_then(|link| program.take_link(link))
            .map_err(|error| refused(&error))?;
        let link = FdLink::try_from(link).map_err(|_| LocalTrafficError::Refused {
            program: EGRESS_PROGRAM,
            why: "it offers no BPF link".into(),
        })?;
        link.pin(&path).map_err(pin_failed(&path))?;
        self.egress.insert(device);
        Ok(())
    }

    fn attach_filter(&mut self, device: u32) -> Result<(), LocalTrafficError> {
        let (name, marker) = (name_of(device)?, self.pins.filter_marker_path(device));
        self.pins.detach(&self.pins.egress_link_path(device))?;
        let known = self.egress.contains(&device) && marker.exists();
        let program = egress_program(&mut self.program)?;
        if known && is_in_filter(program, device)? {
            return Ok(());
        }
        if !marker.exists() {
            program.pin(&marker).map_err(pin_failed(&marker))?;
        }
        let filter = filter_of(&name).map_err(|error| refused(&TcError::from(error).into()))?;
        let attached = match program.attach_to_link(filter) {
            Ok(link) => Ok(link),
            // There is no filter to replace.
            Err(_) => {
                clsact::add(&self.pins, device, &name, program)?;
                program.attach_with_options(&name, TcAttachType::Egress, traffic_control::filter_options())
            }
        };
        let link = attached
            .and_then(|link| program.take_link(link))
            .map_err(|error| refused(&error))?;
        // Dropping this would remove the filter, which must outlive the daemon.
        std::mem::forget(link);
        self.egress.insert(device);
        Ok(())
    }

    /// The egress program, loaded when it is first needed; to be attached, and for test runs.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn egress_program(&mut self) -> Result<&mut SchedClassifier, LocalTrafficError> {
        egress_program(&mut self.program)
    }
}

fn egress_program(object: &mut Ebpf) -> Result<&mut SchedClassifier, LocalTrafficError> {
    traffic_control::get_or_load_program(object, EGRESS_PROGRAM)?.map_err(|error| refused(&error))
}

/// Detaches the egress program from a device, and removes its pins.
///
/// # Errors
/// The kernel refuses, or a pin cannot be removed.
pub(in crate::dataplane) fn remove(pins: &Pins, device: u32) -> Result<(), DataplaneError> {
    pins.detach(&pins.egress_link_path(device))?;
    remove_filter(pins, device)
}

/// Removes the filter of a device, the pin that marks it, and clsact if it was for lbx alone. A device or filter that is gone
/// already is no error.
fn remove_filter(pins: &Pins, device: u32) -> Result<(), DataplaneError> {
    let marker = pins.filter_marker_path(device);
    if marker.exists()
        && let Some(filter) = name_of(device).ok().and_then(|name| filter_of(&name).ok())
    {
        let _gone = filter.detach();
    }
    pins.remove(&marker)?;
    clsact::delete_if_unused(pins, device)
}

fn filter_of(name: &str) -> Result<SchedClassifierLink, std::io::Error> {
    traffic_control::filter_of(name, TcAttachType::Egress)
}

/// Whether a program is the one in the filter of a device.
fn is_in_filter(program: &SchedClassifier, device: u32) -> Result<bool, LocalTrafficError> {
    let own = program.info().map_err(|error| refused(&error))?.id();
    let there =
        netlink::program_id(device, PRIORITY, u32::from(HANDLE)).map_err(|error| LocalTrafficError::Refused {
            program: EGRESS_PROGRAM,
            why: format!("the filter of device {device}: {error}"),
        })?;
    Ok(there == Some(own))
}

fn name_of(device: u32) -> Result<String, LocalTrafficError> {
    let name = if_indextoname(device).map_err(|errno| LocalTrafficError::Refused {
        program: EGRESS_PROGRAM,
        why: format!("device {device}: {}", errno.desc()),
    })?;
    Ok(name.to_string_lossy().into_owned())
}

fn refused(error: &ProgramError) -> LocalTrafficError {
    LocalTrafficError::refused(EGRESS_PROGRAM, error)
}
