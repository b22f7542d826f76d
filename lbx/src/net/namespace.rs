//! Identity of the network namespace.

use std::{io, mem, os::fd::AsRawFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::NetError;

/// A number that no other network namespace has until the next boot (SO_NETNS_COOKIE, Linux 5.14), while the inode
/// number of `/proc/self/ns/net` is given to a new namespace once its own is gone.
///
/// # Errors
/// The socket cannot be opened, or the kernel is older.
pub fn namespace_cookie() -> Result<u64, NetError> {
    let fd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).map_err(|errno| {
        NetError::Socket {
            kind: "UDP",
            source: errno.into(),
        }
    })?;
    let mut cookie = 0_u64;
    let mut length = mem::size_of_val(&cookie) as libc::socklen_t;
    // SAFETY: the value and its length are borrowed for the call, and the length is that of the value.
    let failed = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if failed != 0 {
        return Err(NetError::refused(
            "read the network namespace cookie (needs Linux 5.14)",
        )(io::Error::last_os_error()));
    }
    Ok(cookie)
}
