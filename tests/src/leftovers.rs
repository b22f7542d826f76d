//! What a run that was killed has left behind: namespaces, programs in them, directories, pins.
//!
//! Everything a lab makes has a name that begins with `lbxlab-PID-NUMBER`. It is a leftover if no process has that id.

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
    let (pid, _) = name.strip_prefix(PREFIX)?.strip_prefix('-')?.split_once('-')?;
    pid.parse().ok()
}

fn is_leftover(name: &str) -> bool {
    owner(name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

/// Clears away the leftovers of dead runs, once per process.
pub fn sweep_once() {
    static SWEEP: Once = Once::new();
    SWEEP.call_once(|| {
        for name in leftovers_in(Path::new(netns::DIRECTORY)) {
            netns::delete(&name);
        }
        let directories = [
            std::env::temp_dir(),
            Path::new(bpffs::MOUNT).join("lbx"),
            PathBuf::from(lbx::RUN),
        ];
        for directory in directories {
            for name in leftovers_in(&directory) {
                let path = directory.join(name);
                if path.is_dir() {
                    fs::remove_dir_all(path).ok();
                } else {
                    fs::remove_file(path).ok();
                }
            }
        }
    });
}

fn leftovers_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| is_leftover(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_owner() {
        assert_eq!(owner(&name_for(4711, 2)), Some(4711));
        assert_eq!(owner("lbxlab-4711-2-client"), Some(4711));
        assert_eq!(owner("lbxlab-4711-2.sock"), Some(4711));
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
