//! What must hold before anything is touched: privileges, kernel, and no other director of this name.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{Flock, FlockArg},
    sys::utsname::uname,
};

/// Where locks and sockets live.
pub const RUN: &str = "/run/lbx";

/// Oldest kernel lbx is made for: managed neighbours (5.16), multi-buffer XDP and address origins (5.18) are in it, and
/// it is the oldest long-term kernel distributions still ship.
const OLDEST_KERNEL: (u32, u32) = (6, 1);

/// Capabilities by number and name (include/uapi/linux/capability.h).
const NEEDED: [(u32, &str); 4] = [
    (12, "CAP_NET_ADMIN"),
    (13, "CAP_NET_RAW"),
    (38, "CAP_PERFMON"),
    (39, "CAP_BPF"),
];

/// Why a director cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// A capability is missing.
    #[error("not permitted: {missing} missing; run lbx as root")]
    Privilege {
        /// Their names.
        missing: String,
    },
    /// The kernel is too old.
    #[error("kernel {found} is too old: lbx needs {}.{} or newer", OLDEST_KERNEL.0, OLDEST_KERNEL.1)]
    Kernel {
        /// Its release.
        found: String,
    },
    /// Another one runs.
    #[error("{what} named {name} is already running (pid {pid}): stop it, or give this one another --name")]
    Running {
        /// Director or real server.
        what: &'static str,
        /// The name of both.
        name: String,
        /// Its process.
        pid: String,
    },
    /// A file cannot be used.
    #[error("{path}")]
    File {
        /// Where.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Checks privileges and kernel.
///
/// # Errors
/// See [`PreflightError`].
pub fn check() -> Result<(), PreflightError> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let missing = missing_capabilities(&status);
    if !missing.is_empty() {
        return Err(PreflightError::Privilege {
            missing: missing.join(", "),
        });
    }
    let release = uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    if kernel_version(&release).is_some_and(|version| version < OLDEST_KERNEL) {
        return Err(PreflightError::Kernel { found: release });
    }
    Ok(())
}

/// The needed capabilities that a /proc/PID/status does not list as effective.
fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
        .unwrap_or(0);
    let missing = NEEDED.into_iter().filter(|(number, _)| effective & (1 << number) == 0);
    missing.map(|(_, name)| name).collect()
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Held while a director of this name runs.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// The path of a file in [`RUN`].
#[must_use]
pub fn run_path(name: &str, suffix: &str) -> PathBuf {
    Path::new(RUN).join(format!("{name}.{suffix}"))
}

impl Lock {
    /// Takes the lock of a name.
    ///
    /// # Errors
    /// Another process holds it, or the file cannot be made.
    pub fn take(what: &'static str, name: &str) -> Result<Self, PreflightError> {
        let path = run_path(name, "lock");
        let failed = |source| PreflightError::File {
            path: path.display().to_string(),
            source,
        };
        fs::create_dir_all(RUN).map_err(failed)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        let mut pid = String::new();
        file.read_to_string(&mut pid).map_err(failed)?;
        let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
            nix::errno::Errno::EWOULDBLOCK => PreflightError::Running {
                what,
                name: name.to_owned(),
                pid: pid.trim().to_owned(),
            },
            other => failed(other.into()),
        })?;
        lock.set_len(0).map_err(failed)?;
        io::Seek::rewind(&mut *lock).map_err(failed)?;
        writeln!(lock, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_status() {
        assert!(missing_capabilities("Name:\tlbx\nCapEff:\t000001ffffffffff\n").is_empty());
        assert_eq!(
            missing_capabilities("CapEff:\t0000000000003000\n"),
            ["CAP_PERFMON", "CAP_BPF"]
        );
        assert_eq!(missing_capabilities("").len(), 4);
    }

    #[test]
    fn kernel_releases_are_read() {
        assert_eq!(kernel_version("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(kernel_version("6.18.44"), Some((6, 18)));
        assert_eq!(kernel_version("5.10-rc1"), Some((5, 10)));
        assert_eq!(kernel_version(""), None);
    }
}
