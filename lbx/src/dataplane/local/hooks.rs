//! The socket hooks: attached at the root of the cgroups, so that whatever runs in a container of
//! the director's network namespace is covered too. Their links are pinned, and their programs replaced without a gap.

use std::{
    fs::{self, File},
    os::fd::{AsFd as _, BorrowedFd},
    path::PathBuf,
};

use aya::programs::{CgroupAttachMode, CgroupSockAddr, links::FdLink};
use lbx_common::maps::SOCKET_HOOKS;

use super::LocalTrafficError;
use crate::dataplane::{Dataplane, DataplaneError, error::pin_failed, pinned_link};

impl Dataplane {
    /// Turns the director's access to its own VIPs on or off; each service says whether it takes part. Calling it again only
    /// re-attaches links that another process detached.
    ///
    /// # Errors
    /// There is no cgroup2, or the kernel refuses a program; connections of the director to its VIPs stay with it then.
    pub fn set_local_vip_access(&mut self, on: bool) -> Result<(), LocalTrafficError> {
        if !on {
            // In this order no socket is steered whose getpeername would show it.
            for program in SOCKET_HOOKS.iter().rev() {
                self.pins.detach(&self.pins.hook_link_path(program))?;
            }
            self.hooks = false;
            return Ok(());
        }
        let cgroups = root().ok_or(LocalTrafficError::NoCgroup2)?;
        let cgroups = File::open(&cgroups).map_err(|source| LocalTrafficError::Cgroup {
            path: cgroups.display().to_string(),
            source,
        })?;
        for program in SOCKET_HOOKS {
            self.hook(program, cgroups.as_fd())?;
        }
        self.hooks = true;
        Ok(())
    }

    /// Attaches one program, or replaces that of a link left by a former daemon.
    fn hook(&mut self, name: &'static str, cgroups: BorrowedFd<'_>) -> Result<(), LocalTrafficError> {
        let path = self.pins.hook_link_path(name);
        let alive = pinned_link::LinkInfo::of_pin(&path)?.is_some_and(|link| link.cgroup_id != [0; 2]);
        if alive && self.hooks {
            return Ok(());
        }
        let refused = |error: &_| LocalTrafficError::refused(name, error);
        let program: &mut CgroupSockAddr = self
            .program
            .program_mut(name)
            .ok_or(DataplaneError::NoProgram)?
            .try_into()
            .map_err(|error| refused(&error))?;
        if program.fd().is_err() {
            program.load().map_err(|error| refused(&error))?;
        }
        if alive {
            let program = program.fd().map_err(|error| refused(&error))?;
            pinned_link::update(&path, program.as_fd())?;
            return Ok(());
        }
        self.pins.remove(&path)?;
        // Other programs may be attached: links can coexist, whatever the mode is called.
        let link = program
            .attach(cgroups, CgroupAttachMode::Single)
            .and_then(|link| program.take_link(link))
            .map_err(|error| refused(&error))?;
        let link = FdLink::try_from(link).map_err(|_| LocalTrafficError::Refused {
            program: name,
            why: "it offers no BPF link".into(),
        })?;
        link.pin(&path).map_err(pin_failed(&path))?;
        Ok(())
    }
}

/// The mount point of the cgroup tree.
fn root() -> Option<PathBuf> {
    mount_point(&fs::read_to_string("/proc/self/mountinfo").ok()?)
}

/// The mount point of a cgroup2 file system in a text like /proc/self/mountinfo (proc(5)): of all of it, if there is one.
fn mount_point(mounts: &str) -> Option<PathBuf> {
    let mut part = None;
    for mount in mounts.lines() {
        let (mount, kind) = mount.split_once(" - ")?;
        if kind.split(' ').next() != Some("cgroup2") {
            continue;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        // Blanks are written as octal numbers.
        let point = PathBuf::from(point.replace("\\040", " "));
        if root == "/" {
            return Some(point);
        }
        part.get_or_insert(point);
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_tree_is_taken_before_a_part() {
        let mounts = "\
24 1 0:22 / /sys rw - sysfs sysfs rw
30 24 0:26 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
40 30 0:28 /some/part /mnt/part rw shared:5 - cgroup2 cgroup2 rw
41 30 0:28 / /sys/fs/cgroup/with\\040blank rw shared:4 - cgroup2 cgroup2 rw
";
        assert_eq!(mount_point(mounts), Some("/sys/fs/cgroup/with blank".into()));
        let part: String = mounts.lines().take(4).map(|line| format!("{line}\n")).collect();
        assert_eq!(mount_point(&part), Some("/mnt/part".into()));
        assert_eq!(mount_point("24 1 0:22 / /sys rw - sysfs sysfs rw\n"), None);
    }
}
