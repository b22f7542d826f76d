//! Identity of the network namespace.

use std::{fs, io, mem, os::fd::AsRawFd, os::linux::fs::MetadataExt as _};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::NetError;
use crate::kernel;

/// The network namespace of the calling thread.
const THIS: &str = "/proc/thread-self/ns/net";

/// A number that no other network namespace has until the next boot (SO_NETNS_COOKIE, Linux 5.14), while the inode
/// number of `/proc/self/ns/net` is given to a new namespace once its own is gone.
///
/// # Errors
/// The socket cannot be opened, or the kernel is older.
pub fn namespace_cookie() -> Result<u64, NetError> {
    cookie().map_err(NetError::refused(
        "read the network namespace cookie (needs Linux 5.14)",
    ))
}

/// A number that no other present network namespace has: the cookie, and where the kernel has none, one of the inode of the
/// namespace, which is never equal to a cookie.
///
/// # Errors
/// The socket cannot be opened, or `/proc` is not mounted.
pub fn namespace_id() -> Result<u64, NetError> {
    kernel::with_option_or(cookie, id_by_inode).map_err(NetError::refused(format!(
        "find out which network namespace this is (by {THIS})"
    )))
}

/// The cookie, where the kernel has cookies, and the number by the inode.
pub(super) fn both_numbers() -> io::Result<Vec<u64>> {
    let by_inode = id_by_inode()?;
    match cookie() {
        Ok(cookie) => Ok(vec![cookie, by_inode]),
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(vec![by_inode]),
        Err(error) => Err(error),
    }
}

fn id_by_inode() -> io::Result<u64> {
    let namespace = fs::metadata(THIS)?;
    Ok(id_of_inode(namespace.st_dev(), namespace.st_ino()))
}

/// Cookies are counted from 1; inode numbers of namespaces have 32 bits, and their file system has a number, so that this is
/// greater than any cookie will be.
const fn id_of_inode(device: u64, inode: u64) -> u64 {
    device << 32 | inode & 0xffff_ffff
}

fn cookie() -> io::Result<u64> {
    let fd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
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
        return Err(io::Error::last_os_error());
    }
    Ok(cookie)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inodes_and_cookies_are_told_apart() {
        // As the kernel gives them: PROC_NET_INIT_INO, and the first ones after it.
        assert_eq!(id_of_inode(4, 0xf000_0098), 0x4_f000_0098);
        assert_ne!(id_of_inode(4, 0xf000_0098), id_of_inode(4, 0xf000_0099));
        assert!(id_of_inode(4, 1) > u64::from(u32::MAX));
    }
}
