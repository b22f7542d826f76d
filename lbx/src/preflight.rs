//! Checks before anything is changed: privileges, kernel, and no other lbx of the same name.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use crate::{
    exit::ExitStatus,
    kernel::{self, Version},
};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// Where locks and sockets live.
pub const RUN_DIR: &str = "/run/lbx";

/// Oldest kernel a director is made for: managed neighbours (5.16), multi-buffer XDP and address origins (5.18) are in it, and
/// it is the oldest long-term kernel distributions still ship.
pub const OLDEST_KERNEL_OF_DIRECTOR: Version = (6, 1);
/// Oldest kernel for a real server, which has no BPF: those of distributions that are still in service.
pub const OLDEST_KERNEL_OF_REAL_SERVER: Version = (4, 18);

/// A capability: its number and name (include/uapi/linux/capability.h).
pub type Capability = (u32, &'static str);
/// Addresses, routes, sysctls, attaching to NICs.
pub const NET_ADMIN: Capability = (12, "CAP_NET_ADMIN");
/// Packet sockets: ARP.
pub const NET_RAW: Capability = (13, "CAP_NET_RAW");
/// BPF programs that use pointers.
pub const PERFMON: Capability = (38, "CAP_PERFMON");
/// BPF programs and maps.
pub const BPF: Capability = (39, "CAP_BPF");

/// Why lbx cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// A capability is missing.
    #[error("not permitted: {missing} missing; run lbx as root with it")]
    Privilege {
        /// Their names.
        missing: String,
    },
    /// The kernel is too old.
    #[error("kernel {found} is too old: {what} needs {}.{} or newer", oldest.0, oldest.1)]
    KernelTooOld {
        /// Its release.
        found: String,
        /// A director or a real server.
        what: &'static str,
        /// The oldest version for that.
        oldest: Version,
    },
    /// An lbx of this name is running.
    #[error("a {what} named {name} is already running (pid {pid}): stop it first, or use another --name")]
    AlreadyRunning {
        /// Director or real server.
        what: &'static str,
        /// The name of both.
        name: String,
        /// Its process.
        pid: String,
    },
    /// A file cannot be used.
    #[error("cannot create, read or lock {path}")]
    File {
        /// Where.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl PreflightError {
    /// The exit status it ends with.
    #[must_use]
    pub fn exit_status(&self) -> ExitStatus {
        match self {
            Self::AlreadyRunning { .. } => ExitStatus::Running,
            Self::Privilege { .. } | Self::KernelTooOld { .. } => ExitStatus::Privilege,
            Self::File { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ExitStatus::Privilege,
                _ => ExitStatus::Failure,
            },
        }
    }
}

/// Fails without these capabilities, before the kernel would with EPERM half-way.
///
/// # Errors
/// Some are missing.
pub fn require_capabilities(needed: &[Capability]) -> Result<(), PreflightError> {
    let path = "/proc/self/status";
    let status = fs::read_to_string(path).map_err(failed(Path::new(path)))?;
    let missing = missing_capabilities(&status, needed);
    if missing.is_empty() {
        return Ok(());
    }
    Err(PreflightError::Privilege {
        missing: missing.join(", "),
    })
}

/// Fails if the kernel is older than what (a director, a real server) needs.
///
/// # Errors
/// It is too old.
pub fn require_kernel(what: &'static str, oldest: Version) -> Result<(), PreflightError> {
    let release = kernel::release();
    if kernel::version_of(&release).is_some_and(|version| version < oldest) {
        return Err(PreflightError::KernelTooOld {
            found: release,
            what,
            oldest,
        });
    }
    Ok(())
}

/// The needed capabilities that a /proc/PID/status does not list as effective.
fn missing_capabilities(status: &str, needed: &[Capability]) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
        .unwrap_or(0);
    let missing = needed.iter().filter(|(number, _)| effective & (1 << number) == 0);
    missing.map(|&(_, name)| name).collect()
}

/// The path of a file in [`RUN_DIR`].
#[must_use]
pub fn path_in_run_dir(name: &str, suffix: &str) -> PathBuf {
    Path::new(RUN_DIR).join(format!("{name}.{suffix}"))
}

/// Lock held while an lbx of a name runs. Its file is never removed: another process may be about to lock it.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Acquires the lock `path` of `what` (director, real server) and `name`.
    ///
    /// # Errors
    /// Another process holds it, or the file cannot be made.
    pub fn take(path: &Path, what: &'static str, name: &str) -> Result<Self, PreflightError> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed(directory))?;
        }
        // Readable by its owner alone: any process that can open it can lock it.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path);
        let mut file = file.map_err(failed(path))?;
        let mut pid = String::new();
        file.read_to_string(&mut pid).map_err(failed(path))?;
        let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => PreflightError::AlreadyRunning {
                what,
                name: name.to_owned(),
                pid: pid.trim().to_owned(),
            },
            other => failed(path)(other.into()),
        })?;
        file.set_len(0).map_err(failed(path))?;
        file.rewind().map_err(failed(path))?;
        writeln!(file, "{}", std::process::id()).map_err(failed(path))?;
        Ok(Self { _file: file })
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> PreflightError {
    move |source| PreflightError::File {
        path: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_status() {
        let missing = |status| missing_capabilities(status, &[NET_ADMIN, NET_RAW, PERFMON, BPF]);
        assert!(missing("Name:\tlbx\nCapEff:\t000001ffffffffff\n").is_empty());
        let some = "CapPrm:\t000001ffffffffff\nCapEff:\t0000000000003000\n";
        assert_eq!(missing(some), ["CAP_PERFMON", "CAP_BPF"]);
        assert_eq!(missing("").len(), 4);
    }
}
