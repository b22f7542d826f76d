//! Programs of tc: how they are attached to a device.

pub mod clsact;
pub mod netlink;

use aya::{
    Ebpf,
    programs::{
        ProgramError, SchedClassifier, TcAttachType,
        tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle},
    },
    util::KernelVersion,
};

use super::{DataplaneError, object};

/// Environment variable that forces filters where the kernel has links: for tests.
const FILTERS: &str = "LBX_CLSACT";
/// Priority of the filters: early, since they let the next one run.
pub const PRIORITY: u16 = 76;
/// Handle of the filters.
pub const HANDLE: u16 = 0x6c62;

/// How a program of tc is attached to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcAttachment {
    /// By a link: Linux 6.6.
    TcxLink,
    /// By a filter of the clsact queueing discipline.
    ClsactFilter,
}

impl TcAttachment {
    /// The best that the kernel supports.
    #[must_use]
    pub fn best_supported() -> Self {
        let links = KernelVersion::current().is_ok_and(|kernel| kernel >= KernelVersion::new(6, 6, 0));
        if links && std::env::var_os(FILTERS).is_none() {
            Self::TcxLink
        } else {
            Self::ClsactFilter
        }
    }
}

/// Options to attach by a filter.
#[must_use]
pub fn filter_options() -> TcAttachOptions {
    TcAttachOptions::Netlink(NlOptions {
        priority: PRIORITY,
        handle: TcHandle::new(0, HANDLE),
        classid: None,
    })
}

/// The filter of a device, whether it is there or not.
///
/// # Errors
/// There is no such device.
pub fn filter_of(name: &str, direction: TcAttachType) -> Result<SchedClassifierLink, std::io::Error> {
    SchedClassifierLink::attached(name, direction, PRIORITY, TcHandle::new(0, HANDLE), None)
}

/// A program of the object, loaded when it is first needed.
///
/// # Errors
/// Outer: the object has no such program. Inner: the kernel refuses it.
pub fn get_or_load_program<'o>(
    object: &'o mut Ebpf,
    name: &str,
) -> Result<Result<&'o mut SchedClassifier, ProgramError>, DataplaneError> {
    let program = object.program_mut(name).ok_or(DataplaneError::NoProgram)?;
    let program: &mut SchedClassifier = match program.try_into() {
        Ok(program) => program,
        Err(error) => return Ok(Err(error)),
    };
    if program.fd().is_err()
        && let Err(error) = object::with_signals_blocked(|| program.load())
    {
        return Ok(Err(error));
    }
    Ok(Ok(program))
}
