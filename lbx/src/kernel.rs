//! The running kernel, and what older ones lack.

use std::io;

use nix::sys::utsname::uname;

/// Environment variable that has the kernel taken for the oldest one that real servers may run, without what it lacks: for tests.
const OLD_KERNEL: &str = "LBX_OLD_KERNEL";
/// Its release.
const OLDEST_RELEASE: &str = "4.18.0";

/// Major and minor version.
pub type Version = (u32, u32);

/// The release, as uname(1) shows it.
#[must_use]
pub fn release() -> String {
    if is_taken_for_old() {
        return OLDEST_RELEASE.to_owned();
    }
    uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The version of a release; none if it does not begin with one.
#[must_use]
pub fn version_of(release: &str) -> Option<Version> {
    let mut numbers = release.split(['.', '-']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Whether addresses carry an origin, by which lbx knows those that it has added (IFA_PROTO, Linux 5.18).
#[must_use]
pub fn has_address_origins() -> bool {
    is_since(&release(), (5, 18))
}

fn is_since(release: &str, version: Version) -> bool {
    version_of(release).is_none_or(|running| running >= version)
}

/// Does something with a socket option that not every kernel has; `fallback` where the kernel does not know it.
///
/// # Errors
/// Those of either.
pub fn with_option_or<T>(
    with_option: impl FnOnce() -> io::Result<T>,
    fallback: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let result = if is_taken_for_old() {
        Err(io::Error::from_raw_os_error(libc::ENOPROTOOPT))
    } else {
        with_option()
    };
    unless_unknown(result, fallback)
}

fn unless_unknown<T>(result: io::Result<T>, fallback: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => fallback(),
        result => result,
    }
}

fn is_taken_for_old() -> bool {
    std::env::var_os(OLD_KERNEL).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(version_of("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(version_of("6.18.44"), Some((6, 18)));
        assert_eq!(version_of("5.10-rc1"), Some((5, 10)));
        assert_eq!(version_of("4.18.0-553.el8_10.x86_64"), Some((4, 18)));
        assert_eq!(version_of(""), None);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(!is_since("5.10.0-28-amd64", (5, 18)));
        assert!(!is_since("5.4", (5, 18)));
        assert!(is_since("5.18", (5, 18)) && is_since("6.1", (5, 18)));
        // A release that says nothing keeps nobody out.
        assert!(is_since("", (5, 18)));
    }

    #[test]
    fn only_an_unknown_option_has_a_fallback() {
        let error = |errno| Err::<u64, _>(io::Error::from_raw_os_error(errno));
        assert_eq!(unless_unknown(Ok(7), || Ok(8)).unwrap(), 7);
        assert_eq!(unless_unknown(error(libc::ENOPROTOOPT), || Ok(8)).unwrap(), 8);
        let refused = unless_unknown(error(libc::EPERM), || Ok(8)).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        let lost = unless_unknown(error(libc::ENOPROTOOPT), || error(libc::ENOENT)).unwrap_err();
        assert_eq!(lost.raw_os_error(), Some(libc::ENOENT));
    }
}
