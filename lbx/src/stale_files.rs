//! Files in `/run/lbx` of network namespaces that are gone, with containers for example: nobody will read them again.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    net::{living_namespaces::living_namespaces, namespace_id},
    preflight::{Lock, RUN_DIR},
};

/// Removes the files of network namespaces that no longer exist. Where it is not certain that one is gone, nothing is removed; a
/// file that cannot be removed stays.
pub fn remove() {
    let files = files_of_namespaces(Path::new(RUN_DIR));
    let own = namespace_id().ok();
    // Looking for namespaces costs time.
    if files.iter().all(|file| Some(file.namespace) == own) {
        return;
    }
    let Some(living) = living_namespaces() else {
        return;
    };
    let removed = files.iter().filter(|file| file.remove_if_dead(&living)).count();
    if removed > 0 {
        tracing::info!(
            directory = RUN_DIR,
            "{removed} files of network namespaces that are gone removed"
        );
    }
}

/// A file about one network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NamespaceFile {
    path: PathBuf,
    /// A cookie, or a [`namespace_id`].
    namespace: u64,
    /// The lock of the director that may replace the file by one of another namespace.
    lock: Option<PathBuf>,
}

impl NamespaceFile {
    /// Whether it was removed: its namespace is not among the living.
    fn remove_if_dead(&self, living: &BTreeSet<u64>) -> bool {
        if living.contains(&self.namespace) {
            return false;
        }
        let Some(lock) = &self.lock else {
            return fs::remove_file(&self.path).is_ok();
        };
        // A director of this name may have started elsewhere meanwhile.
        let held = Lock::take(lock, "director", "");
        held.is_ok() && offloads_namespace(&self.path) == Some(self.namespace) && fs::remove_file(&self.path).is_ok()
    }
}

fn files_of_namespaces(directory: &Path) -> Vec<NamespaceFile> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| file_of_namespace(entry.path())).collect()
}

/// What a file is about, by its name (`realserver-NAME.NAMESPACE.…`) or by what it says (`NAME.offloads.json`).
fn file_of_namespace(path: PathBuf) -> Option<NamespaceFile> {
    let name = path.file_name()?.to_str()?;
    let parts: Vec<_> = name.split('.').collect();
    match *parts.as_slice() {
        [name, namespace, "json" | "lock" | "tmp"] if name.starts_with("realserver-") && namespace != "offloads" => {
            let namespace = namespace.parse().ok()?;
            Some(NamespaceFile {
                path,
                namespace,
                lock: None,
            })
        }
        [name, "offloads", "json"] => {
            let lock = path.with_file_name(format!("{name}.lock"));
            Some(NamespaceFile {
                namespace: offloads_namespace(&path)?,
                lock: Some(lock),
                path,
            })
        }
        _ => None,
    }
}

/// The namespace that a file of changed NIC settings is about.
fn offloads_namespace(path: &Path) -> Option<u64> {
    #[derive(Deserialize)]
    struct Saved {
        namespace: u64,
    }
    let saved: Saved = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    Some(saved.namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_dead_go_and_all_others_stay() {
        let directory = std::env::temp_dir().join(format!("lbx-stale-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let dead = [
            "realserver-a.7.json",
            "realserver-a.7.lock",
            "realserver-a.7.tmp",
            "b.offloads.json",
        ];
        let kept = [
            "realserver-a.8.json",
            "realserver-a.8.lock",
            "a.lock",
            "b.lock",
            "a.sock",
            "c.offloads.json",
            "d.offloads.json",
            "e.offloads.json",
            "realserver-x.lock",
            "realserver-a.seven.json",
            "notes.7.json",
        ];
        for name in dead.iter().chain(&kept) {
            fs::write(directory.join(name), "{}").unwrap();
        }
        let offloads = |name: &str, namespace: u64| {
            let text = format!("{{\"namespace\":{namespace},\"off\":[]}}");
            fs::write(directory.join(name), text).unwrap();
        };
        offloads("b.offloads.json", 7);
        offloads("c.offloads.json", 8);
        // The director of this name runs.
        offloads("d.offloads.json", 7);
        let _running = Lock::take(&directory.join("d.lock"), "director", "d").unwrap();
        let living = BTreeSet::from([8]);
        let removed = files_of_namespaces(&directory)
            .into_iter()
            .filter(|file| file.remove_if_dead(&living))
            .count();
        assert_eq!(removed, dead.len());
        let exists = |name: &&str| directory.join(name).exists();
        assert!(!dead.iter().any(exists));
        assert!(kept.iter().all(exists));
        fs::remove_dir_all(&directory).unwrap();
    }
}
