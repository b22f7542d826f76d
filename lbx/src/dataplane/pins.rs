//! Where program, maps and links outlive the daemon: `/sys/fs/bpf/lbx/NAME/vABI/`.
//!
//! While the daemon lives it holds all of them open, so that pins are for the next daemon alone: start scripts mount another
//! bpffs over the directory, and people remove it. What is missing there is [pinned again](Pins::restore).

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aya::programs::Xdp;
use lbx_common::maps::ABI;
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::{
    DataplaneError,
    error::{file_failed, pin_failed},
    pinned_link,
};

/// Where bpffs is mounted.
pub const BPFFS: &str = "/sys/fs/bpf";

/// Prefixes of pins: XDP links to NICs, egress links, markers of egress filters where the kernel has no such links, markers of
/// clsact where lbx added it, links of socket hooks.
const LINK: &str = "link_";
const EGRESS: &str = "egress_";
const FILTER: &str = "filter_";
const CLSACT: &str = "clsact_";
const HOOK: &str = "hook_";

/// The pin directory of one director. Clones hold the same objects.
#[derive(Clone, Debug)]
pub struct Pins {
    /// Of all layouts.
    pub(super) root: PathBuf,
    /// Of this layout.
    pub(super) dir: PathBuf,
    /// What is pinned, by path, and its type and id.
    held: Arc<Mutex<BTreeMap<PathBuf, Object>>>,
}

#[derive(Debug)]
struct Object {
    descriptor: OwnedFd,
    identity: (u32, u32),
}

impl Object {
    fn open(path: &Path) -> io::Result<Self> {
        let descriptor = pinned_link::open(path)?;
        let identity = pinned_link::identity(descriptor.as_fd())?;
        Ok(Self { descriptor, identity })
    }
}

impl Pins {
    /// The pin directory of a name. Mounts bpffs if it is not mounted; creates nothing.
    ///
    /// # Errors
    /// bpffs cannot be mounted, or pins of another layout are there.
    pub fn open(name: &str) -> Result<Self, DataplaneError> {
        mount_bpffs().map_err(|source| DataplaneError::NoBpffs { path: BPFFS, source })?;
        let root = Path::new(BPFFS).join("lbx").join(name);
        let dir = root.join(format!("v{ABI}"));
        let pins = Self::at(root, dir);
        if let Some(other) = entries(&pins.root)?.into_iter().find(|path| *path != pins.dir) {
            return Err(DataplaneError::OtherVersion {
                path: other.display().to_string(),
            });
        }
        Ok(pins)
    }

    pub(super) fn at(root: PathBuf, dir: PathBuf) -> Self {
        Self {
            root,
            dir,
            held: Arc::default(),
        }
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Object>> {
        // Every change is a single operation on the map.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pins again what this daemon holds and is no longer pinned, and holds what has been pinned since. Returns how many were
    /// missing.
    ///
    /// # Errors
    /// Something cannot be pinned: what was restored before it stays so.
    pub fn restore(&self) -> Result<usize, DataplaneError> {
        let mut held = self.held();
        let mut restored = 0;
        for (path, object) in held.iter() {
            let pinned = Object::open(path).ok().map(|pinned| pinned.identity);
            if pinned == Some(object.identity) {
                continue;
            }
            if restored == 0 {
                mount_bpffs().map_err(file_failed("mount bpffs at", Path::new(BPFFS)))?;
                self.create_dir()?;
            }
            remove_file(path)?;
            pinned_link::pin(path, object.descriptor.as_fd()).map_err(file_failed("pin", path))?;
            restored += 1;
        }
        for path in entries(&self.dir)? {
            if let Entry::Vacant(vacant) = held.entry(path) {
                let object = Object::open(vacant.key()).map_err(file_failed("open pin", vacant.key()))?;
                vacant.insert(object);
            }
        }
        Ok(restored)
    }

    /// Removes a pin if it is there.
    ///
    /// # Errors
    /// The pin cannot be removed.
    pub fn remove(&self, path: &Path) -> Result<(), DataplaneError> {
        self.held().remove(path);
        remove_file(path)
    }

    /// Ends the link pinned at a path, if there is one, and removes the pin.
    ///
    /// # Errors
    /// The kernel refuses, or the pin cannot be removed.
    pub fn detach(&self, path: &Path) -> Result<(), DataplaneError> {
        let link = match self.held().remove(path) {
            Some(object) => Some(object.descriptor),
            None => match pinned_link::open(path) {
                Ok(link) => Some(link),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(file_failed("open the link pinned at", path)(error)),
            },
        };
        if let Some(link) = link {
            pinned_link::detach(link.as_fd()).map_err(file_failed("detach the link pinned at", path))?;
        }
        remove_file(path)
    }

    /// Makes the directory.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create_dir(&self) -> Result<(), DataplaneError> {
        let mut made = fs::create_dir_all(&self.dir);
        // Another director that stops may be removing the common directory.
        for _ in 0..10 {
            match &made {
                Err(error) if error.kind() == io::ErrorKind::NotFound => made = fs::create_dir_all(&self.dir),
                _ => break,
            }
        }
        made.map_err(file_failed("make directory", &self.dir))
    }

    /// The pin of a map.
    #[must_use]
    pub fn map_path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The pin of the link to a NIC. By index: names may hold dots, which bpffs does not allow.
    #[must_use]
    pub fn link_path(&self, ifindex: u32) -> PathBuf {
        self.dir.join(format!("{LINK}{ifindex}"))
    }

    /// The indices of all NICs with a pinned link.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn linked_ifindexes(&self) -> Result<Vec<u32>, DataplaneError> {
        self.indices(LINK)
    }

    /// The indices in the names of pins with a prefix.
    fn indices(&self, prefix: &str) -> Result<Vec<u32>, DataplaneError> {
        let index = |path: PathBuf| path.file_name()?.to_str()?.strip_prefix(prefix)?.parse().ok();
        Ok(entries(&self.dir)?.into_iter().filter_map(index).collect())
    }

    /// The pin of the egress link of a device.
    #[must_use]
    pub fn egress_link_path(&self, ifindex: u32) -> PathBuf {
        self.dir.join(format!("{EGRESS}{ifindex}"))
    }

    /// The pin that marks a device with an egress filter.
    #[must_use]
    pub fn filter_marker_path(&self, ifindex: u32) -> PathBuf {
        self.dir.join(format!("{FILTER}{ifindex}"))
    }

    /// The pin that marks a device to which lbx added clsact.
    #[must_use]
    pub fn clsact_marker_path(&self, ifindex: u32) -> PathBuf {
        self.dir.join(format!("{CLSACT}{ifindex}"))
    }

    /// The indices of all devices to which lbx added clsact.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn clsact_ifindexes(&self) -> Result<Vec<u32>, DataplaneError> {
        self.indices(CLSACT)
    }

    /// The pin of the link of a socket hook.
    #[must_use]
    pub fn hook_link_path(&self, program: &str) -> PathBuf {
        self.dir.join(format!("{HOOK}{program}"))
    }

    /// The indices of all devices with an egress program.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn egress_ifindexes(&self) -> Result<BTreeSet<u32>, DataplaneError> {
        let mut devices: BTreeSet<u32> = self.indices(EGRESS)?.into_iter().collect();
        devices.extend(self.indices(FILTER)?);
        Ok(devices)
    }

    /// Pins the program, replacing the former one.
    ///
    /// # Errors
    /// The pin cannot be made.
    pub fn repin_program(&self, xdp: &mut Xdp) -> Result<(), DataplaneError> {
        let path = self.dir.join("program");
        self.remove(&path)?;
        xdp.pin(&path).map_err(pin_failed(&path))
    }
}

/// Removes a file if it is there.
fn remove_file(path: &Path) -> Result<(), DataplaneError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(file_failed("remove", path)(source)),
        _ => Ok(()),
    }
}

/// The paths in a directory; none if it is not there.
pub(super) fn entries(dir: &Path) -> Result<Vec<PathBuf>, DataplaneError> {
    match fs::read_dir(dir) {
        Ok(entries) => entries
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<_>>()
            .map_err(file_failed("read directory", dir)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(file_failed("read directory", dir)(error)),
    }
}

fn mount_bpffs() -> io::Result<()> {
    if statfs(BPFFS)?.filesystem_type() == BPF_FS_MAGIC {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), BPFFS, Some("bpf"), flags, Some("mode=700"))?;
    Ok(())
}
