//! What a run that was killed has left behind: namespaces, programs in them, directories, pins.
//!
//! Everything a lab makes has `lbxlab-PID-NUMBER` in its name. It is a leftover if no process has that id.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Once,
};

use crate::{bpffs, lbx, netns};

const PREFIX: &str = "lbxlab";

/// The name of a lab.
#[must_use]
pub fn name_for(pid: u32, number: u32) -> String {
    format!("{PREFIX}-{pid}-{number}")
}

/// The process a name belongs to, if it is one of a lab.
fn owner(name: &str) -> Option<u32> {
    let (_, name) = name.split_once(PREFIX)?;
    let (pid, _) = name.strip_prefix('-')?.split_once('-')?;
    pid.parse().ok()
}

fn is_leftover(name: &str) -> bool {
    owner(name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

/// Clears away the leftovers of dead runs, once per process.
pub fn sweep_once() {
    static SWEEP: Once = Once::new();
    SWEEP.call_once(|| {
        for name in names_in(Path::new(netns::DIRECTORY)).filter(|name| is_leftover(name)) {
            netns::delete(&name);
        }
        remove_files(is_leftover);
    });
}

/// Removes the files of one lab: its own and those that lbx keeps under names it was given there, such as locks.
pub fn remove_files_of(id: &str) {
    let numbered = |rest: &str| rest.starts_with(|next: char| next.is_ascii_digit());
    remove_files(|name| name.split_once(id).is_some_and(|(_, rest)| !numbered(rest)));
}

fn remove_files(which: impl Fn(&str) -> bool) {
    let pins = Path::new(bpffs::MOUNT).join("lbx");
    for directory in [std::env::temp_dir(), pins, PathBuf::from(lbx::RUN)] {
        for name in names_in(&directory).filter(|name| which(name)) {
            let path = directory.join(name);
            if path.is_dir() {
                fs::remove_dir_all(path).ok();
            } else {
                fs::remove_file(path).ok();
            }
        }
    }
}

fn names_in(directory: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_owner() {
        assert_eq!(owner(&name_for(4711, 2)), Some(4711));
        assert_eq!(owner("lbxlab-4711-2-client"), Some(4711));
        assert_eq!(owner("lbxlab-4711-2.sock"), Some(4711));
        assert_eq!(owner("realserver-lbxlab-4711-2.lock"), Some(4711));
        for foreign in ["lbxlab", "lbxlab-x-1", "lbx", "other-4711-2", "lbxlab-bpffs.lock"] {
            assert_eq!(owner(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn what_a_living_process_owns_is_no_leftover() {
        assert!(!is_leftover(&name_for(std::process::id(), 1)));
        // Above the largest process id Linux gives (2^22).
        assert!(is_leftover(&name_for(5_000_000, 1)));
    }
}
