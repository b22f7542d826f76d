//! Where program, maps and links outlive the daemon: `/sys/fs/bpf/lbx/NAME/vABI/`.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use aya::programs::Xdp;
use lbx_common::maps::{ABI, HOOKS, META, PINNED};
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::{DataplaneError, link_info, local::egress::remove_filter, maps};

/// Where bpffs is mounted.
pub const BPFFS: &str = "/sys/fs/bpf";

/// What the names of pins begin with: links to NICs, links to what devices send, marks of filters for want of such links,
/// links of programs on sockets.
const LINK: &str = "link_";
const EGRESS: &str = "egress_";
const FILTER: &str = "filter_";
const HOOK: &str = "hook_";

/// The pin directory of one director.
#[derive(Clone, Debug)]
pub struct Pins {
    /// Of all layouts.
    root: PathBuf,
    /// Of this layout.
    dir: PathBuf,
}

impl Pins {
    /// The pin directory of a name. Mounts bpffs where nobody has yet; creates nothing.
    ///
    /// # Errors
    /// bpffs cannot be mounted, or pins of another layout are there.
    pub fn open(name: &str) -> Result<Self, DataplaneError> {
        mount_bpffs().map_err(|source| DataplaneError::File {
            path: format!("cannot mount bpffs at {BPFFS}"),
            source,
        })?;
        let root = Path::new(BPFFS).join("lbx").join(name);
        let dir = root.join(format!("v{ABI}"));
        let pins = Self { root, dir };
        if let Some(other) = entries(&pins.root)?.into_iter().find(|path| *path != pins.dir) {
            return Err(DataplaneError::OtherVersion {
                path: other.display().to_string(),
            });
        }
        Ok(pins)
    }

    /// Whether a daemon has left whole maps here.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn adoptable(&self) -> Result<bool, DataplaneError> {
        let pinned = entries(&self.dir)?;
        let whole = PINNED.iter().all(|map| pinned.contains(&self.map(map)));
        Ok(whole && self.map(META).exists() && maps::read_meta(self)?.ready == 1)
    }

    /// Makes the directory.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(&self) -> Result<(), DataplaneError> {
        let mut made = fs::create_dir_all(&self.dir);
        // Another director that stops may take the common folder away just now.
        for _ in 0..10 {
            match &made {
                Err(error) if error.kind() == io::ErrorKind::NotFound => made = fs::create_dir_all(&self.dir),
                _ => break,
            }
        }
        made.map_err(|source| file(&self.dir, source))
    }

    /// The pin of a map.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The pin of the link to a NIC. By index: names may hold dots, which bpffs does not allow.
    #[must_use]
    pub fn link(&self, ifindex: u32) -> PathBuf {
        self.dir.join(format!("{LINK}{ifindex}"))
    }

    /// Ends the link to a NIC and removes its pin. Without the first the kernel would end it some time after the second.
    ///
    /// # Errors
    /// The kernel refuses, or the pin cannot be removed.
    pub fn remove_link(&self, ifindex: u32) -> Result<(), DataplaneError> {
        self.end(&self.link(ifindex))
    }

    /// Ends the link pinned at a path, if there is one, and removes the pin.
    ///
    /// # Errors
    /// The kernel refuses, or the pin cannot be removed.
    pub fn end(&self, path: &Path) -> Result<(), DataplaneError> {
        link_info::detach(path).map_err(|source| file(path, source))?;
        remove_file(path)
    }

    /// The indices of all NICs with a pinned link.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn links(&self) -> Result<Vec<u32>, DataplaneError> {
        self.indices(LINK)
    }

    /// The indices that the names of pins with a prefix end with.
    fn indices(&self, prefix: &str) -> Result<Vec<u32>, DataplaneError> {
        let index = |path: PathBuf| path.file_name()?.to_str()?.strip_prefix(prefix)?.parse().ok();
        Ok(entries(&self.dir)?.into_iter().filter_map(index).collect())
    }

    /// The pin of the link to what a device sends.
    #[must_use]
    pub fn egress(&self, ifindex: u32) -> PathBuf {
        self.dir.join(format!("{EGRESS}{ifindex}"))
    }

    /// The pin that says that a device has a filter, for want of links.
    #[must_use]
    pub fn filter(&self, ifindex: u32) -> PathBuf {
        self.dir.join(format!("{FILTER}{ifindex}"))
    }

    /// The pin of the link of a program on sockets.
    #[must_use]
    pub fn hook(&self, program: &str) -> PathBuf {
        self.dir.join(format!("{HOOK}{program}"))
    }

    /// The indices of all devices with a program on what they send.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn egresses(&self) -> Result<BTreeSet<u32>, DataplaneError> {
        let mut devices: BTreeSet<u32> = self.indices(EGRESS)?.into_iter().collect();
        devices.extend(self.indices(FILTER)?);
        Ok(devices)
    }

    /// Ends the program on what a device sends, and removes its pins.
    ///
    /// # Errors
    /// The kernel refuses, or a pin cannot be removed.
    pub fn remove_egress(&self, ifindex: u32) -> Result<(), DataplaneError> {
        self.end(&self.egress(ifindex))?;
        self.end_filter(ifindex)
    }

    /// Takes the filter from what a device sends, if there is one, and removes its mark.
    ///
    /// # Errors
    /// The mark cannot be removed.
    pub fn end_filter(&self, ifindex: u32) -> Result<(), DataplaneError> {
        let filter = self.filter(ifindex);
        if filter.exists() {
            remove_filter(ifindex);
        }
        remove_file(&filter)
    }

    /// Pins the program, in place of the one before.
    ///
    /// # Errors
    /// The pin cannot be made.
    pub fn replace_program(&self, xdp: &mut Xdp) -> Result<(), DataplaneError> {
        let path = self.dir.join("program");
        remove_file(&path)?;
        xdp.pin(&path).map_err(unpinned(&path))
    }

    /// Removes every pin: links first, so that no program runs without its maps' names. What can be removed is, whatever
    /// else cannot.
    ///
    /// # Errors
    /// The first pin that cannot be removed.
    pub fn remove(&self) -> Result<(), DataplaneError> {
        let mut first = Ok(());
        let mut note = |done: Result<(), DataplaneError>| {
            if first.is_ok() {
                first = done;
            }
        };
        // Sockets first: where nothing is led, nothing need be rewritten.
        for program in HOOKS.iter().rev() {
            note(self.end(&self.hook(program)));
        }
        match self.egresses() {
            Ok(devices) => devices.into_iter().for_each(|device| note(self.remove_egress(device))),
            Err(error) => note(Err(error)),
        }
        match self.links() {
            Ok(nics) => nics.into_iter().for_each(|nic| note(self.remove_link(nic))),
            Err(error) => note(Err(error)),
        }
        match entries(&self.dir) {
            Ok(pins) => pins.iter().for_each(|pin| note(remove_file(pin))),
            Err(error) => note(Err(error)),
        }
        for dir in [&self.dir, &self.root] {
            match fs::remove_dir(dir) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => note(Err(file(dir, source))),
                _ => {}
            }
        }
        // The folder of all directors goes with the last of them.
        if let Some(all) = self.root.parent() {
            let _still_used = fs::remove_dir(all);
        }
        first
    }
}

/// Removes a file if it is there.
pub(super) fn remove_file(path: &Path) -> Result<(), DataplaneError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(file(path, source)),
        _ => Ok(()),
    }
}

/// What to say of a pin that cannot be made.
pub(super) fn unpinned(path: &Path) -> impl FnOnce(aya::pin::PinError) -> DataplaneError {
    let path = path.display().to_string();
    |source| DataplaneError::Pin { path, source }
}

pub(super) fn file(path: &Path, source: io::Error) -> DataplaneError {
    DataplaneError::File {
        path: path.display().to_string(),
        source,
    }
}

/// The paths in a directory; none if it is not there.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, DataplaneError> {
    match fs::read_dir(dir) {
        Ok(entries) => entries
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<_>>()
            .map_err(|e| file(dir, e)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(file(dir, error)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_removed_is_and_the_first_failure_told() {
        let root = std::env::temp_dir().join(format!("lbx-pins-{}", std::process::id()));
        let pins = Pins {
            dir: root.join("v"),
            root: root.clone(),
        };
        // Folders are no pins.
        let folder = pins.hook(HOOKS[0]);
        fs::create_dir_all(&folder).unwrap();
        fs::write(pins.map(META), []).unwrap();
        let failed = pins.remove().unwrap_err();
        assert!(
            matches!(&failed, DataplaneError::File { path, .. } if *path == folder.display().to_string()),
            "{failed:?}"
        );
        assert_eq!(entries(&pins.dir).unwrap(), std::slice::from_ref(&folder));
        fs::remove_dir(folder).unwrap();
        pins.remove().unwrap();
        assert!(!root.exists());
        // Where nothing is nothing need be removed.
        pins.remove().unwrap();
    }
}
