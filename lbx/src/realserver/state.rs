//! What there was before the rules were applied, kept in `/run/lbx` so that it can be restored.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Write as _},
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::preflight::{Lock, RUN_DIR};

use super::{
    RealServerError,
    sysctl::{Key, Setting, Values},
};

/// What one real server has changed in one network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct SavedState {
    /// VIPs put on lo, or found there.
    pub vips: BTreeSet<IpAddr>,
    /// VIPs that were missing from lo, so that lbx has put them there: where addresses carry no origin, what tells them from those
    /// of others.
    #[serde(default)]
    pub added_vips: BTreeSet<IpAddr>,
    /// Values that sysctls had before their first change, by NIC or `all`.
    #[serde(rename = "sysctls")]
    pub original_sysctls: BTreeMap<String, Values>,
}

impl SavedState {
    fn original(&self, conf: &str, key: Key) -> Option<i32> {
        self.original_sysctls.get(conf)?.get(&key).copied()
    }

    /// Takes a value down as the original one, unless there is one already. What another real server has taken down
    /// goes before what is there now, which would be that one's doing.
    pub fn record_original_sysctl(&mut self, conf: &str, key: Key, now: i32, others: &[Self]) {
        let earlier = others.iter().find_map(|other| other.original(conf, key));
        let values = self.original_sysctls.entry(conf.to_owned()).or_default();
        values.entry(key).or_insert(earlier.unwrap_or(now));
    }

    /// The VIPs that no other real server of this host has.
    pub fn unshared_vips<'a>(&'a self, others: &'a [Self]) -> impl Iterator<Item = IpAddr> + 'a {
        let elsewhere = |vip: &IpAddr| others.iter().any(|other| other.vips.contains(vip));
        self.vips.iter().copied().filter(move |vip| !elsewhere(vip))
    }

    /// The VIPs that this real server or another of this host has put on lo.
    #[must_use]
    pub fn vips_added_by_any(&self, others: &[Self]) -> BTreeSet<IpAddr> {
        let all = std::iter::once(self).chain(others);
        all.flat_map(|state| &state.added_vips).copied().collect()
    }

    /// All values to restore when the last real server of this host goes: its own, and those that earlier ones left to
    /// it.
    #[must_use]
    pub fn sysctls_to_restore(&self, others: &[Self]) -> Vec<Setting> {
        let mut merged = self.clone();
        for (conf, values) in others.iter().flat_map(|other| &other.original_sysctls) {
            for (&key, &value) in values {
                merged.record_original_sysctl(conf, key, value, &[]);
            }
        }
        let settings = |(conf, values): (String, Values)| {
            values.into_iter().map(move |(key, value)| Setting {
                nic_or_all: conf.clone(),
                key,
                value,
            })
        };
        merged.original_sysctls.into_iter().flat_map(settings).collect()
    }
}

/// The state file of a name in a network namespace, locked.
///
/// The namespace is part of the file's name, by a number ([`crate::net::namespace_id`]): every container may have a
/// real server of the same name, and most share one `/run`.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    namespace: u64,
    _lock: Lock,
}

impl Store {
    /// Locks the state of a real server in this network namespace. It is kept where a boot empties it, as it does the
    /// sysctls and lo.
    ///
    /// # Errors
    /// Another process has it, or the directory is not writable.
    pub fn open(name: &str, namespace: u64) -> Result<Self, RealServerError> {
        Self::open_in(Path::new(RUN_DIR), name, namespace)
    }

    fn open_in(directory: &Path, name: &str, namespace: u64) -> Result<Self, RealServerError> {
        let path = directory.join(format!("realserver-{name}{}", suffix(namespace)));
        // The lock is a file of its own, since the state file is replaced.
        let lock = Lock::take(&path.with_extension("lock"), "real server", name)?;
        Ok(Self {
            path,
            namespace,
            _lock: lock,
        })
    }

    /// The state, if there is one.
    ///
    /// # Errors
    /// It cannot be read, or is not one.
    pub fn load(&self) -> Result<Option<SavedState>, RealServerError> {
        read(&self.path)
    }

    /// The states of other names in this network namespace.
    ///
    /// # Errors
    /// One of them cannot be read, or is not one.
    pub fn load_others(&self) -> Result<Vec<SavedState>, RealServerError> {
        Ok(self.other_files()?.into_iter().map(|(_, state)| state).collect())
    }

    fn other_files(&self) -> Result<Vec<(PathBuf, SavedState)>, RealServerError> {
        let directory = self.path.parent().unwrap_or(Path::new(RUN_DIR));
        let mut files = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed("list", directory))? {
            let path = entry.map_err(failed("list", directory))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path != self.path && name.starts_with("realserver-") && name.ends_with(&suffix(self.namespace)) {
                files.extend(read(&path)?.map(|state| (path, state)));
            }
        }
        Ok(files)
    }

    /// Writes the state, so that a crash leaves either the old one or the new one.
    ///
    /// # Errors
    /// The disk is full or not writable.
    pub fn save(&self, state: &SavedState) -> Result<(), RealServerError> {
        let temporary = self.path.with_extension("tmp");
        let write = || -> io::Result<()> {
            let mut file = File::create(&temporary)?;
            serde_json::to_writer_pretty(&mut file, state)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)
        };
        write().map_err(failed("write", &self.path))
    }

    /// Deletes the state, and what others without VIPs have left.
    ///
    /// # Errors
    /// The directory is not writable.
    pub fn delete(&self) -> Result<(), RealServerError> {
        for (path, state) in self.other_files()? {
            if state.vips.is_empty() {
                delete(&path)?;
            }
        }
        delete(&self.path)
    }
}

/// How the names of all state files of a network namespace end. Names of real servers have no dot.
fn suffix(namespace: u64) -> String {
    format!(".{namespace}.json")
}

fn delete(path: &Path) -> Result<(), RealServerError> {
    fs::remove_file(path).map_err(failed("delete", path))
}

fn read(path: &Path) -> Result<Option<SavedState>, RealServerError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| RealServerError::InvalidStateFile {
                path: path.to_owned(),
                source,
            }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RealServerError {
    let path = path.to_owned();
    move |source| RealServerError::File { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::PreflightError;

    const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 160));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 161));

    #[test]
    fn the_first_value_is_the_original() {
        let mut state = SavedState::default();
        state.record_original_sysctl("all", Key::ArpIgnore, 0, &[]);
        state.record_original_sysctl("all", Key::ArpIgnore, 1, &[]);
        assert_eq!(state.original("all", Key::ArpIgnore), Some(0));
    }

    #[test]
    fn the_last_of_two_names_restores() {
        let (mut first, mut second) = (SavedState::default(), SavedState::default());
        first.vips.insert(VIP);
        second.vips.extend([VIP, OTHER]);
        first.record_original_sysctl("all", Key::ArpIgnore, 0, &[]);
        // The second finds what the first has set.
        second.record_original_sysctl("all", Key::ArpIgnore, 1, std::slice::from_ref(&first));
        first.record_original_sysctl("eth1", Key::ArpIgnore, 3, &[]);

        assert_eq!(first.unshared_vips(std::slice::from_ref(&second)).count(), 0);
        first.vips.clear();
        // The first has put it there, and the second takes it off.
        first.added_vips.insert(VIP);
        let others = [first];
        assert_eq!(second.vips_added_by_any(&others), BTreeSet::from([VIP]));
        assert!(second.unshared_vips(&others).eq([VIP, OTHER]));
        let setting = |conf: &str, value| Setting {
            nic_or_all: conf.to_owned(),
            key: Key::ArpIgnore,
            value,
        };
        assert_eq!(
            second.sysctls_to_restore(&others),
            [setting("all", 0), setting("eth1", 3)]
        );
    }

    #[test]
    fn keeps_the_state_from_one_run_to_the_next() {
        let directory = std::env::temp_dir().join(format!("lbx-state-{}", std::process::id()));
        let open = |name, namespace| Store::open_in(&directory, name, namespace);
        let store = open("a", 7).unwrap();
        assert!(matches!(
            open("a", 7),
            Err(RealServerError::Preflight(PreflightError::AlreadyRunning { .. }))
        ));
        assert_eq!(store.load().unwrap(), None);

        let mut state = SavedState::default();
        state.vips.insert(VIP);
        state.record_original_sysctl("eth0.100", Key::ArpAnnounce, 0, &[]);
        store.save(&state).unwrap();
        assert_eq!(store.load().unwrap().as_ref(), Some(&state));

        assert_eq!(open("b", 7).unwrap().load_others().unwrap(), [state]);
        // Another network namespace has nothing to do with it, and may have the same name at the same time.
        assert_eq!(open("b", 8).unwrap().load_others().unwrap(), []);
        assert_eq!(open("a", 8).unwrap().load().unwrap(), None);
        drop(store);

        open("a", 7).unwrap().delete().unwrap();
        assert_eq!(open("a", 7).unwrap().load().unwrap(), None);
        fs::remove_dir_all(&directory).unwrap();
    }
}
