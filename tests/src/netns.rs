//! Network namespaces: made, entered, deleted.

use std::{
    fs::File, os::fd::AsRawFd as _, os::unix::process::CommandExt as _, path::PathBuf, process::Command, thread,
};

use anyhow::{Context as _, Result};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{self, Signal},
    unistd::Pid,
};

use crate::{
    process::{self, Output},
    wait,
};

/// Where iproute2 keeps named namespaces.
pub const DIRECTORY: &str = "/run/netns";

/// How long a command of the lab's own may take.
pub const LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

/// A named network namespace; deleted with the handle, together with whatever still runs in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Makes a namespace.
    ///
    /// # Errors
    /// The name is taken, or we are not root.
    pub fn create(name: &str) -> Result<Self> {
        process::run(Command::new("ip").args(["netns", "add", name]), LIMIT)?.success()?;
        let path = PathBuf::from(DIRECTORY).join(name);
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Self {
            name: name.to_owned(),
            file,
        })
    }

    /// Its name, as in `ip netns`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A program that will run in it. Unlike under `ip netns exec`, all mounts stay as they are: bpffs is visible.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let namespace = self.file.as_raw_fd();
        let enter = move || {
            // SAFETY: setns reads its two arguments only; a descriptor that is gone gives EBADF.
            match unsafe { libc::setns(namespace, libc::CLONE_NEWNET) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Runs a closure on a thread inside it. Sockets made there stay in it wherever they are used afterwards.
    ///
    /// # Errors
    /// It cannot be entered.
    ///
    /// # Panics
    /// As the closure does.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let inside = || -> Result<T> {
            setns(&self.file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter {}", self.name))?;
            Ok(work())
        };
        thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        delete(&self.name);
    }
}

/// Deletes a namespace by name and ends the programs in it. Best effort: used on the way out only.
pub fn delete(name: &str) {
    let pids = |output: Output| -> Vec<i32> { output.stdout.lines().filter_map(|line| line.parse().ok()).collect() };
    let mut end = || {
        let output = process::run(Command::new("ip").args(["netns", "pids", name]), LIMIT)?;
        let left = pids(output);
        for pid in &left {
            signal::kill(Pid::from_raw(*pid), Signal::SIGKILL).ok();
        }
        Ok(left.is_empty())
    };
    wait::until_true(std::time::Duration::from_secs(1), "the namespace is empty", &mut end).ok();
    process::run(Command::new("ip").args(["netns", "delete", name]), LIMIT).ok();
}
