//! A control group below the root, as containers have them.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::Command,
};

use anyhow::{Context as _, Result};

/// A control group of version 2; removed with the handle.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes one of this name.
    ///
    /// # Errors
    /// No such hierarchy is mounted, or the name is taken.
    pub fn create(name: &str) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/mounts")?;
        // Device, mount point, type, ….
        let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let root = mounts.find(|mount| mount.get(2) == Some(&"cgroup2"));
        let path = PathBuf::from(root.context("no cgroup2 is mounted")?[1]).join(name);
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }

    /// Has a program that is started by `command` be in it before it runs.
    ///
    /// # Errors
    /// The group is gone.
    pub fn enclose(&self, command: &mut Command) -> Result<()> {
        let mut processes = File::options().write(true).open(self.0.join("cgroup.procs"))?;
        // 0 is whoever writes it.
        let enter = move || processes.write_all(b"0");
        // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
        unsafe { command.pre_exec(enter) };
        Ok(())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).ok();
    }
}
