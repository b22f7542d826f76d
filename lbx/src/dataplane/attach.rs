//! XDP links to NICs: creating, adopting, replacing the program without a gap, detaching.

use std::{io, os::fd::AsFd as _};

use aya::{
    Ebpf,
    programs::{
        ProgramError, Xdp, XdpMode,
        links::{FdLink, LinkError, PinnedLink},
        xdp::XdpLink,
    },
};

use super::{Dataplane, DataplaneError, error::pin_failed, object, pinned_link::LinkInfo, pins::Pins};

use crate::net::native_attach_error;

/// How a NIC came to run the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachOutcome {
    /// A new link.
    NewLink {
        /// Id of the program, as bpftool shows it.
        program: u32,
    },
    /// An existing link, a former daemon's or this one's; it runs this daemon's program.
    ExistingLink,
}

/// Why the program cannot be attached to a NIC.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Another XDP program is attached; it is left alone.
    #[error("another XDP program is attached: detach it first (see `ip link` or `bpftool net`)")]
    ForeignProgram,
    /// The driver cannot run XDP programs, or not with the NIC's present settings.
    #[error("the driver does not support XDP in this mode, or not with the present settings of the NIC: {0}")]
    Unsupported(String),
    /// The kernel refuses for another reason.
    #[error("the kernel refuses to attach or replace the XDP program: {0}")]
    Refused(String),
    /// A pin cannot be made or removed.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
}

impl Dataplane {
    /// Pins again what another process has removed, or covered by a mount, and holds what is new. Returns how many pins were
    /// missing: what is loaded and attached has not changed meanwhile.
    ///
    /// # Errors
    /// A pin cannot be made.
    pub fn restore_pins(&self) -> Result<usize, DataplaneError> {
        self.pins.restore()
    }

    /// Attaches to a NIC. A link left by a former daemon is adopted and gets this program at once; one of this
    /// daemon stays as it is. `running` is the id of the XDP program that the NIC runs.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach(&mut self, ifindex: u32, running: Option<u32>, mode: XdpMode) -> Result<AttachOutcome, AttachError> {
        self.pins.restore()?;
        if !self.links.contains(&ifindex) {
            self.remove_left_vip_drop(ifindex);
        }
        if self.is_attached(ifindex, running)? {
            if !self.links.contains(&ifindex) {
                swap(&mut self.program, &self.pins, ifindex)
                    .map_err(|error| AttachError::Refused(error_chain(&error)))?;
                self.links.insert(ifindex);
            }
            return Ok(AttachOutcome::ExistingLink);
        }
        // The pinned link is detached, or belongs to a NIC of another network namespace with the same index.
        self.detach(ifindex)?;
        let xdp = object::xdp_mut(&mut self.program)?;
        let link = xdp
            .attach_to_if_index(ifindex, mode)
            .map_err(|error| in_words(refusal(error), ifindex, mode, xdp))?;
        let link: XdpLink = xdp.take_link(link).map_err(refusal)?;
        let link = FdLink::try_from(link)
            .map_err(|_| AttachError::Refused("it offers no BPF link (kernel older than 5.9?)".into()))?;
        let path = self.pins.link_path(ifindex);
        link.pin(&path).map_err(pin_failed(&path))?;
        self.links.insert(ifindex);
        self.pins.restore()?;
        let program = self.link_info(ifindex)?.map_or(0, |link| link.program_id);
        Ok(AttachOutcome::NewLink { program })
    }

    /// Whether a NIC runs its program by a link of this director. The pin alone does not say so: its NIC may be gone and the
    /// index reused, the program detached or, where a former daemon made it, the NIC in another network namespace.
    ///
    /// # Errors
    /// A pinned link cannot be read.
    pub fn is_attached(&self, ifindex: u32, running: Option<u32>) -> Result<bool, DataplaneError> {
        let here = |link: &LinkInfo| self.links.contains(&ifindex) || Some(link.program_id) == running;
        let info = self.link_info(ifindex)?;
        Ok(info.is_some_and(|link| link.ifindex == ifindex && here(&link)))
    }

    /// The NICs this daemon has attached to that no longer run its program: the NIC is gone, or another process detached the
    /// program, of which the kernel sends no event.
    ///
    /// # Errors
    /// A pinned link cannot be read.
    pub fn detached_nics(&self) -> Result<Vec<u32>, DataplaneError> {
        let mut detached = Vec::new();
        for &ifindex in &self.links {
            if self.link_info(ifindex)?.is_none_or(|link| link.ifindex != ifindex) {
                detached.push(ifindex);
            }
        }
        Ok(detached)
    }

    /// The NICs whose link another process has given another program, and that program's id. Until [`Self::restore_program`] they do
    /// whatever that does.
    ///
    /// # Errors
    /// A pinned link, or this daemon's own program, cannot be read.
    pub fn replaced_programs(&self) -> Result<Vec<(u32, u32)>, DataplaneError> {
        let usual = self.program()?.info()?.id();
        let is_ours = |program| program == usual || Some(program) == self.tracing_program;
        let mut replaced = Vec::new();
        for &ifindex in &self.links {
            if let Some(link) = self.link_info(ifindex)?
                && link.ifindex == ifindex
                && !is_ours(link.program_id)
            {
                replaced.push((ifindex, link.program_id));
            }
        }
        Ok(replaced)
    }

    /// Gives the link of a NIC this daemon's program again.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn restore_program(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        Ok(swap(&mut self.program, &self.pins, ifindex)?)
    }

    fn link_info(&self, ifindex: u32) -> Result<Option<LinkInfo>, DataplaneError> {
        let path = self.pins.link_path(ifindex);
        LinkInfo::of_pin(&path)
    }

    /// Detaches from a NIC.
    ///
    /// # Errors
    /// The link cannot be detached or its pin not be removed.
    pub fn detach(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        self.links.remove(&ifindex);
        let path = self.pins.link_path(ifindex);
        self.pins.detach(&path)
    }

    /// The NICs with a link of this director.
    ///
    /// # Errors
    /// The pins cannot be read.
    pub fn attached_nics(&self) -> Result<Vec<u32>, DataplaneError> {
        self.pins.linked_ifindexes()
    }

    /// Loads the program with tracing, for [`Dataplane::replace_programs`].
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn load_xdp_with_tracing(&self) -> Result<Ebpf, DataplaneError> {
        // It would make new maps where pins are missing.
        self.pins.restore()?;
        object::load(&self.pins, &self.constants, true)
    }

    /// Replaces the program of every NIC, without a gap; none: the usual program.
    ///
    /// # Errors
    /// The kernel refuses; some NICs may run the new program already.
    pub fn replace_programs(&mut self, program: Option<&mut Ebpf>) -> Result<(), DataplaneError> {
        self.pins.restore()?;
        self.tracing_program = match &program {
            Some(program) => Some(object::xdp(program)?.info()?.id()),
            None => None,
        };
        let program = program.unwrap_or(&mut self.program);
        for ifindex in self.pins.linked_ifindexes()? {
            swap(program, &self.pins, ifindex)?;
        }
        Ok(())
    }
}

/// Replaces the program of a pinned link.
fn swap(program: &mut Ebpf, pins: &Pins, ifindex: u32) -> Result<(), ProgramError> {
    let link_error = |error: LinkError| match error {
        LinkError::SyscallError(error) => ProgramError::SyscallError(error),
        _ => ProgramError::UnexpectedProgramType,
    };
    let xdp = object::xdp_mut(program).map_err(|_| ProgramError::NotLoaded)?;
    let pinned = PinnedLink::from_pin(pins.link_path(ifindex)).map_err(link_error)?;
    let link = XdpLink::try_from(FdLink::from(pinned)).map_err(link_error)?;
    let id = xdp.attach_to_link(link)?;
    // The pin holds the link; dropping the program must not detach it.
    drop(xdp.take_link(id)?);
    Ok(())
}

fn refusal(error: ProgramError) -> AttachError {
    match error_code(&error) {
        // Native over native: EBUSY; where the other is generic, or both are: EEXIST (net/core/dev.c, dev_xdp_attach).
        Some(libc::EBUSY | libc::EEXIST) => AttachError::ForeignProgram,
        // Drivers refuse in many ways: EOPNOTSUPP, ERANGE, EINVAL, ENOSPC, ENOMEM, …
        Some(code) if code != libc::EPERM && code != libc::ENODEV => {
            AttachError::Unsupported(io::Error::from_raw_os_error(code).to_string())
        }
        _ => AttachError::Refused(error_chain(&error)),
    }
}

/// The refusal of a native program with the driver's own words, where it has some.
fn in_words(refusal: AttachError, ifindex: u32, mode: XdpMode, xdp: &Xdp) -> AttachError {
    let AttachError::Unsupported(reason) = refusal else {
        return refusal;
    };
    let words = match (mode, xdp.fd()) {
        (XdpMode::Driver, Ok(program)) => native_attach_error(ifindex, program.as_fd()).ok().flatten(),
        _ => None,
    };
    AttachError::Unsupported(match words {
        Some(words) => format!("{words} ({reason})"),
        None => reason,
    })
}

fn error_code(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    }
}

/// An error with its causes on one line.
pub(super) fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
