//! Makes a guest ready: what it needs is installed, its kernel fetched, its folder empty.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use super::kernel::{self, Kernel};
use crate::{
    command, paths,
    setup::{self, Purpose},
    steps::Steps,
};

/// A guest that only lacks its script.
pub struct PreparedGuest {
    /// Its kernel.
    pub kernel: Kernel,
    /// The folder that it shares with the host.
    pub shared: PathBuf,
    /// The folder for what outlives a guest.
    pub vm_folder: PathBuf,
    /// Held as long as the guest may run.
    _lock: File,
}

impl PreparedGuest {
    /// Prepares a guest with the newest kernel of a series, or one release of it. One step of `steps`.
    ///
    /// # Errors
    /// This machine cannot run guests, something cannot be installed or fetched, or another guest runs from this clone.
    pub fn new(series: &str, steps: &mut Steps) -> Result<Self> {
        check_machine()?;
        setup::ensure_installed(Purpose::Vm)?;
        let folder = paths::root().join("target/vm");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let lock = File::create(folder.join("lock"))?;
        // Two at once are too slow for the lab's limits, and would write into the same folder.
        ensure!(
            lock.try_lock().is_ok(),
            "another guest runs from this clone: wait for its end"
        );
        let kernel = steps.run(&format!("providing Linux {series}"), || {
            kernel::provide(series, &folder)
        })?;
        let shared = folder.join("run").join(&kernel.release);
        if shared.exists() {
            fs::remove_dir_all(&shared)?;
        }
        fs::create_dir_all(&shared)?;
        Ok(Self {
            kernel,
            shared,
            vm_folder: folder,
            _lock: lock,
        })
    }

    /// Copies a file to where the guest runs it: what is built while a guest runs does not change under it. The name of the file's
    /// own folder is kept: tests know a release build by it.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn copy(&self, file: &Path) -> Result<PathBuf> {
        let names = file.parent().and_then(Path::file_name).zip(file.file_name());
        let (profile, name) = names.with_context(|| format!("{} has no name", file.display()))?;
        let folder = self.shared.join("built").join(profile);
        fs::create_dir_all(&folder)?;
        let copy = folder.join(name);
        fs::copy(file, &copy).with_context(|| format!("cannot copy {}", file.display()))?;
        Ok(copy)
    }
}

/// That this machine can run Debian's kernels for x86-64.
///
/// # Errors
/// When it cannot.
fn check_machine() -> Result<()> {
    ensure!(
        env::consts::ARCH == "x86_64" && command::find("dpkg").is_some(),
        "guests boot Debian's kernels for x86-64: that needs an x86-64 machine, and apt and dpkg"
    );
    Ok(())
}
