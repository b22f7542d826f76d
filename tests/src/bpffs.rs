//! The BPF file system, where a director pins its program, maps and links.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{FsType, statfs},
};

/// Where it is mounted.
pub const MOUNT: &str = "/sys/fs/bpf";

/// BPF_FS_MAGIC of linux/magic.h.
const MAGIC: FsType = FsType(0xcafe_4a11);

/// Where tracefs is mounted.
const TRACEFS: &str = "/sys/kernel/tracing";
/// TRACEFS_MAGIC of linux/magic.h.
const TRACEFS_MAGIC: FsType = FsType(0x7472_6163);

/// Where the director of this name pins.
#[must_use]
pub fn pins_of(name: &str) -> PathBuf {
    Path::new(MOUNT).join("lbx").join(name)
}

/// Mounts it where it should be, unless it is.
///
/// # Errors
/// We are not root, or the kernel has no BPF.
pub fn mount_if_missing() -> Result<()> {
    mount_at(MOUNT, MAGIC, "bpf", Some("mode=700"))
}

/// Mounts the file system with the kernel's tracepoints, unless it is mounted.
///
/// # Errors
/// We are not root, or the kernel has no tracepoints.
pub fn mount_tracefs_if_missing() -> Result<()> {
    mount_at(TRACEFS, TRACEFS_MAGIC, "tracefs", None)
}

fn mount_at(path: &str, magic: FsType, kind: &str, options: Option<&str>) -> Result<()> {
    // Two runs that both mount would hide the pins of the first.
    let lock = File::create(std::env::temp_dir().join("lbxlab-bpffs.lock")).context("cannot create the lock file")?;
    lock.lock()?;
    let mounted = statfs(path)
        .with_context(|| format!("cannot look at {path}"))?
        .filesystem_type();
    if mounted != magic {
        mount(Some(kind), path, Some(kind), MsFlags::empty(), options)
            .with_context(|| format!("cannot mount {kind} at {path}"))?;
    }
    Ok(())
}

/// Takes away what a director has left pinned, if anything.
pub fn remove_pins_of(name: &str) {
    fs::remove_dir_all(pins_of(name)).ok();
}
