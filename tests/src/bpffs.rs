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
    // Two runs that both mount would hide the pins of the first.
    let lock = File::create(std::env::temp_dir().join("lbxlab-bpffs.lock")).context("cannot create the lock file")?;
    lock.lock()?;
    let kind = statfs(MOUNT)
        .with_context(|| format!("cannot look at {MOUNT}"))?
        .filesystem_type();
    if kind != MAGIC {
        mount(Some("bpf"), MOUNT, Some("bpf"), MsFlags::empty(), Some("mode=700"))
            .with_context(|| format!("cannot mount bpffs at {MOUNT}"))?;
    }
    Ok(())
}

/// Takes away what a director has left pinned, if anything.
pub fn remove_pins_of(name: &str) {
    fs::remove_dir_all(pins_of(name)).ok();
}
