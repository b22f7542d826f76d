//! Links to NICs: made, adopted, given another program without a gap, ended.

use std::io;

use aya::{
    Ebpf,
    programs::{
        ProgramError, XdpMode,
        links::{FdLink, LinkError, PinnedLink},
        xdp::XdpLink,
    },
};

use super::{
    Dataplane, DataplaneError, object,
    pins::{Pins, remove_file},
};

/// How an attachment came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// A new link.
    New,
    /// A link that was there, a former daemon's or this one's; it runs this daemon's program.
    Already,
}

/// Why a NIC cannot be attached to.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Another XDP program is there; it is left alone.
    #[error("another XDP program is attached: detach it first (see `ip link` or `bpftool net`)")]
    Foreign,
    /// The driver cannot run XDP programs, or not with the NIC's present settings.
    #[error("the NIC cannot run XDP programs in this mode: {0}")]
    Unsupported(io::Error),
    /// The kernel refuses for another reason.
    #[error("the kernel refuses to attach the XDP program: {0}")]
    Refused(String),
    /// A pin cannot be made or removed.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
}

impl Dataplane {
    /// Attaches to a NIC. A link that a former daemon has left is adopted, with this program in it at once; one of this
    /// daemon stays as it is. `running` says whether the NIC runs an XDP program at all: if not, a pinned link is of
    /// another NIC that had its index.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach(&mut self, ifindex: u32, running: bool, mode: XdpMode) -> Result<Attached, AttachError> {
        if self.pins.link(ifindex).exists() {
            if running && self.links.contains(&ifindex) {
                return Ok(Attached::Already);
            }
            if running {
                swap(&mut self.program, &self.pins, ifindex)
                    .map_err(|error| AttachError::Refused(error_chain(&error)))?;
                self.links.insert(ifindex);
                return Ok(Attached::Already);
            }
            self.detach(ifindex)?;
        }
        let xdp = object::xdp_mut(&mut self.program)?;
        let link = xdp.attach_to_if_index(ifindex, mode).map_err(refusal)?;
        let link: XdpLink = xdp.take_link(link).map_err(refusal)?;
        let link = FdLink::try_from(link)
            .map_err(|_| AttachError::Refused("it offers no BPF link (kernel older than 5.9?)".into()))?;
        let path = self.pins.link(ifindex);
        link.pin(&path).map_err(|source| DataplaneError::Pin {
            path: path.display().to_string(),
            source,
        })?;
        self.links.insert(ifindex);
        Ok(Attached::New)
    }

    /// Detaches from a NIC.
    ///
    /// # Errors
    /// The pin cannot be removed.
    pub fn detach(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        self.links.remove(&ifindex);
        remove_file(&self.pins.link(ifindex))
    }

    /// The NICs with a link of this director.
    ///
    /// # Errors
    /// The pins cannot be read.
    pub fn attached(&self) -> Result<Vec<u32>, DataplaneError> {
        self.pins.links()
    }

    /// Loads the program that tells its decisions, for [`Dataplane::run_everywhere`].
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn load_tracing(&self) -> Result<Ebpf, DataplaneError> {
        object::load(&self.pins, &self.constants, true)
    }

    /// Lets every NIC run another program from now on; none: the usual one. No packet goes unseen in between.
    ///
    /// # Errors
    /// The kernel refuses; some NICs may run the other program already.
    pub fn run_everywhere(&mut self, program: Option<&mut Ebpf>) -> Result<(), DataplaneError> {
        let program = program.unwrap_or(&mut self.program);
        for ifindex in self.pins.links()? {
            swap(program, &self.pins, ifindex)?;
        }
        Ok(())
    }
}

/// Puts a program into a pinned link.
fn swap(program: &mut Ebpf, pins: &Pins, ifindex: u32) -> Result<(), ProgramError> {
    let link_error = |error: LinkError| match error {
        LinkError::SyscallError(error) => ProgramError::SyscallError(error),
        _ => ProgramError::UnexpectedProgramType,
    };
    let xdp = object::xdp_mut(program).map_err(|_| ProgramError::NotLoaded)?;
    let pinned = PinnedLink::from_pin(pins.link(ifindex)).map_err(link_error)?;
    let link = XdpLink::try_from(FdLink::from(pinned)).map_err(link_error)?;
    let id = xdp.attach_to_link(link)?;
    // The pin holds the link; the program must not detach it when it goes.
    drop(xdp.take_link(id)?);
    Ok(())
}

fn refusal(error: ProgramError) -> AttachError {
    match error_code(&error) {
        // Native over native: EBUSY; where the other is generic, or both are: EEXIST (net/core/dev.c, dev_xdp_attach).
        Some(libc::EBUSY | libc::EEXIST) => AttachError::Foreign,
        // Drivers say no in many ways: EOPNOTSUPP, ERANGE, EINVAL, ENOSPC, ENOMEM, …
        Some(code) if code != libc::EPERM && code != libc::ENODEV => {
            AttachError::Unsupported(io::Error::from_raw_os_error(code))
        }
        _ => AttachError::Refused(error_chain(&error)),
    }
}

fn error_code(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    }
}

/// An error with its causes on one line.
fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
