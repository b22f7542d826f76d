//! What aya lacks for pinned objects: reading which NIC or cgroup a link is attached to, replacing its program whatever its
//! kind, detaching it at once, and pinning an open object again.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use super::{DataplaneError, error::file_failed};

/// A link to a NIC or to a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkInfo {
    /// Id of the program in it.
    pub program_id: u32,
    /// The NIC's index; 0 where the NIC is gone or the program was detached.
    pub ifindex: u32,
    /// The id of the cgroup, in two halves.
    pub cgroup_id: [u32; 2],
}

/// Commands and structures of bpf(2), include/uapi/linux/bpf.h.
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;

#[repr(C)]
struct ObjGet {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

#[repr(C)]
struct InfoByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

#[repr(C)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// The beginning of `struct bpf_link_info`, as it is for XDP and TCX (an index and, for TCX, the direction) and for cgroups
/// (a number of 64 bits); the kernel writes no more than the length given.
#[repr(C)]
#[derive(Default)]
struct RawInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    pad: u32,
    ifindex: u32,
    rest: u32,
}

impl RawInfo {
    fn of(object: BorrowedFd<'_>) -> io::Result<Self> {
        let mut info = Self::default();
        let mut attributes = InfoByFd {
            bpf_fd: object.as_raw_fd().cast_unsigned(),
            info_len: size_of::<Self>() as u32,
            info: (&raw mut info).addr() as u64,
        };
        // SAFETY: the attributes name a buffer of the length they say, borrowed for the call.
        unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &raw mut attributes)? };
        Ok(info)
    }
}

/// Type and id of an open map, program or link: what of one kind they are, and which one.
///
/// # Errors
/// The kernel refuses.
pub(super) fn identity(object: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    // The info of maps and programs begins like that of links (include/uapi/linux/bpf.h).
    RawInfo::of(object).map(|info| (info.kind, info.id))
}

/// Pins an open map, program or link.
///
/// # Errors
/// Something is pinned there already, or the kernel refuses.
pub(super) fn pin(path: &Path, object: BorrowedFd<'_>) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = ObjGet {
        pathname: path.as_ptr().addr() as u64,
        bpf_fd: object.as_raw_fd().cast_unsigned(),
        file_flags: 0,
    };
    // SAFETY: the attributes name a terminated string that outlives the call, and an open descriptor.
    unsafe { bpf(BPF_OBJ_PIN, &raw mut attributes)? };
    Ok(())
}

impl LinkInfo {
    /// Reads the link pinned at a path; none if nothing is pinned there.
    ///
    /// # Errors
    /// The kernel refuses, or something else is pinned there.
    pub fn of_pin(path: &Path) -> Result<Option<Self>, DataplaneError> {
        Self::read(path).map_err(file_failed("read the link pinned at", path))
    }

    fn read(path: &Path) -> io::Result<Option<Self>> {
        let link = match open(path) {
            Ok(link) => link,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let info = RawInfo::of(link.as_fd())?;
        Ok(Some(Self {
            program_id: info.prog_id,
            ifindex: info.ifindex,
            cgroup_id: [info.ifindex, info.rest],
        }))
    }
}

/// Ends a link: when this returns, nothing runs its program any more. Closing it alone would leave it to the kernel to end the
/// link some time later.
///
/// # Errors
/// The kernel refuses, or it is no link.
pub(super) fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = link.as_raw_fd().cast_unsigned();
    // SAFETY: the command takes the descriptor alone, which is open for the call.
    unsafe { bpf(BPF_LINK_DETACH, &raw mut attributes)? };
    Ok(())
}

/// Replaces the program of the link pinned at a path by one of the same kind, without a gap.
///
/// # Errors
/// Nothing is pinned there, or the kernel refuses.
pub(super) fn update(path: &Path, program: BorrowedFd<'_>) -> Result<(), DataplaneError> {
    replace(path, program).map_err(file_failed("replace the program of the link pinned at", path))
}

fn replace(path: &Path, program: BorrowedFd<'_>) -> io::Result<()> {
    let link = open(path)?;
    let mut attributes = LinkUpdate {
        link_fd: link.as_raw_fd().cast_unsigned(),
        new_prog_fd: program.as_raw_fd().cast_unsigned(),
        flags: 0,
        old_prog_fd: 0,
    };
    // SAFETY: the command takes descriptors alone, open for the call.
    unsafe { bpf(BPF_LINK_UPDATE, &raw mut attributes)? };
    Ok(())
}

/// Opens what is pinned at a path.
///
/// # Errors
/// Nothing is, or the kernel refuses.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = ObjGet {
        pathname: path.as_ptr().addr() as u64,
        bpf_fd: 0,
        file_flags: 0,
    };
    // SAFETY: the attributes name a terminated string that outlives the call.
    let fd = unsafe { bpf(BPF_OBJ_GET, &raw mut attributes)? };
    // SAFETY: the kernel has just opened it for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// bpf(2).
///
/// # Safety
/// The attributes are those of the command, and what they point to is valid for it.
unsafe fn bpf<T>(command: libc::c_long, attributes: *mut T) -> io::Result<i32> {
    // SAFETY: as the caller promises; the kernel reads no more than the size given.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
