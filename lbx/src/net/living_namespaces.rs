//! Which network namespaces there are: those of processes and threads, those that are mounted in whatever mount namespace, and those
//! that a process holds open.
//!
//! All of them can be found only where all processes can be seen, and where no file is on its way through a Unix socket: that may be
//! a namespace too (systemd keeps those of `PrivateNetwork=` so). A namespace that nothing holds but a socket of a process that has
//! left it cannot be found: nobody can enter it any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{CString, OsString},
    fs::{self, File},
    io::{self, ErrorKind},
    mem,
    os::{
        linux::fs::MetadataExt as _,
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
    thread,
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
};

use super::namespace;

/// The inode of the first PID namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h): only there all processes can be seen.
const INITIAL_PID_NAMESPACE: u64 = 0xefff_fffc;

/// Both numbers of every network namespace there is: its cookie, and its [`namespace_id`](super::namespace_id) where there are no cookies.
/// None if some may exist that cannot be seen from here, or cannot be entered.
#[must_use]
pub fn living_namespaces() -> Option<BTreeSet<u64>> {
    match fs::metadata("/proc/self/ns/pid") {
        Ok(pids) if pids.st_ino() == INITIAL_PID_NAMESPACE => {}
        _ => return None,
    }
    // Twice, lest one is missed whose last process has just handed it to a child.
    let found: io::Result<Vec<_>> = (0..2).map(|_| numbers_of(&holders(Path::new("/proc"))?)).collect();
    match found {
        Ok(found) => Some(found.into_iter().flatten().collect()),
        Err(error) => {
            tracing::debug!(%error, "network namespaces cannot be listed");
            None
        }
    }
}

/// A path that leads to each namespace, by its inode.
fn holders(proc: &Path) -> io::Result<BTreeMap<u64, PathBuf>> {
    let mut holders = BTreeMap::new();
    let mut mounts_seen = BTreeSet::new();
    for process in entries(proc)? {
        let is_process = process
            .file_name()
            .is_some_and(|name| name.as_bytes()[0].is_ascii_digit());
        if !is_process {
            continue;
        }
        for thread in entries(&process.join("task"))? {
            let link = thread.join("ns/net");
            let target = if_there(fs::read_link(&link))?;
            if let Some(inode) = target.as_ref().and_then(|target| inode_of(target.to_str()?)) {
                holders.entry(inode).or_insert(link);
            }
        }
        for open in entries(&process.join("fd"))? {
            require_no_file_in_flight(&process, &open)?;
            // One that was opened where it is mounted has the name of that place.
            if let Some(inode) = if_there(nsfs_inode(&open))?.flatten() {
                holders.entry(inode).or_insert(open);
            }
        }
        // Mounts are the same for all processes of a mount namespace.
        if let Some(mounts) = if_there(fs::read_link(process.join("ns/mnt")))?
            && mounts_seen.insert(mounts)
        {
            let mountinfo = if_there(fs::read(process.join("mountinfo")))?.unwrap_or_default();
            for (inode, mounted) in mounted_namespaces(&mountinfo) {
                holders
                    .entry(inode)
                    .or_insert_with(|| process.join("root").join(mounted.strip_prefix("/").unwrap_or(&mounted)));
            }
        }
    }
    Ok(holders)
}

/// The entries of a directory of `/proc`; none if its process has gone.
fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = if_there(fs::read_dir(directory))?.into_iter().flatten();
    let paths = entries.map(|entry| if_there(entry.map(|entry| entry.path())));
    Ok(paths.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// The inode of a namespace, of whatever kind, that a file is.
fn nsfs_inode(path: &Path) -> io::Result<Option<u64>> {
    let (file, own) = (
        device_and_inode(path)?,
        device_and_inode(Path::new("/proc/self/ns/net"))?,
    );
    Ok((file.0 == own.0).then_some(file.1))
}

/// The device and the inode of a file, as they are known: a server of a network file system that is not there is not waited for
/// (`AT_STATX_DONT_SYNC`).
fn device_and_inode(path: &Path) -> io::Result<((u32, u32), u64)> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all bits zero are a valid value of this structure of numbers.
    let mut found: libc::statx = unsafe { mem::zeroed() };
    // SAFETY: a terminated path, and a structure to fill that lives as long as the call.
    let failed = unsafe {
        libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_STATX_DONT_SYNC,
            libc::STATX_INO,
            &raw mut found,
        )
    };
    if failed != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(((found.stx_dev_major, found.stx_dev_minor), found.stx_ino))
}

/// Fails where files are on their way through a socket (`scm_fds` of `unix_show_fdinfo`, net/unix/af_unix.c).
fn require_no_file_in_flight(process: &Path, open: &Path) -> io::Result<()> {
    let is_socket =
        if_there(fs::read_link(open))?.is_some_and(|target| target.as_os_str().as_bytes().starts_with(b"socket:"));
    if !is_socket {
        return Ok(());
    }
    let information = process.join("fdinfo").join(open.file_name().unwrap_or_default());
    let information = if_there(fs::read_to_string(information))?.unwrap_or_default();
    let files = information.lines().find_map(|line| line.strip_prefix("scm_fds:"));
    match files.map(str::trim) {
        None | Some("0") => Ok(()),
        Some(files) => Err(io::Error::other(format!(
            "{files} files on their way through {}",
            open.display()
        ))),
    }
}

/// The inode of a network namespace by its name in nsfs: `net:[4026531833]`.
fn inode_of(name: &str) -> Option<u64> {
    name.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// A process that goes meanwhile holds nothing any more. One that has ended and is not waited for yet has no mounts (`EINVAL`).
fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EINVAL)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The namespaces that are mounted, with their places (proc_pid_mountinfo(5): the fourth field is the root, the fifth the place).
fn mounted_namespaces(mountinfo: &[u8]) -> Vec<(u64, PathBuf)> {
    let mounted = mountinfo.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ').skip(3);
        let inode = inode_of(std::str::from_utf8(fields.next()?).ok()?)?;
        Some((inode, PathBuf::from(unescaped(fields.next()?))))
    });
    mounted.collect()
}

/// A path of mountinfo: white space and backslashes are octal numbers there.
fn unescaped(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).filter(|_| *first == b'\\');
        let octal = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    OsString::from_vec(bytes)
}

/// Enters every namespace and reads its numbers.
fn numbers_of(holders: &BTreeMap<u64, PathBuf>) -> io::Result<BTreeSet<u64>> {
    let mut numbers = BTreeSet::new();
    for (&inode, path) in holders {
        let Some(namespace) = if_there(File::open(path))? else {
            continue;
        };
        // What was there may have been replaced, or covered by another mount.
        if namespace.metadata()?.st_ino() != inode {
            return Err(io::Error::other(format!("{} is another namespace now", path.display())));
        }
        let read = || {
            match setns(&namespace, CloneFlags::CLONE_NEWNET) {
                // A namespace of another kind.
                Err(Errno::EINVAL) => Ok(Vec::new()),
                entered => entered
                    .map_err(io::Error::from)
                    .and_then(|()| namespace::both_numbers()),
            }
        };
        // A thread of its own, which ends in there.
        let read = thread::scope(|scope| scope.spawn(read).join());
        numbers.extend(read.map_err(|_panicked| ErrorKind::Other)??);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_namespaces_are_found() {
        let mountinfo = b"23 1 0:21 / /proc rw - proc proc rw\n\
            36 35 0:4 net:[4026532281] /run/netns/a\\040b rw shared:1 - nsfs nsfs rw\n\
            37 35 0:4 mnt:[4026532282] /run/mnt rw - nsfs nsfs rw\n\
            \n38 35\n";
        assert_eq!(
            mounted_namespaces(mountinfo),
            [(4_026_532_281, PathBuf::from("/run/netns/a b"))]
        );
        assert_eq!(unescaped(b"/a\\134b\\"), OsString::from("/a\\b\\"));
        assert_eq!(unescaped(b"\\9990"), OsString::from("\\9990"));
    }

    /// A directory like `/proc` with one process, which goes with it.
    struct Proc(PathBuf);

    impl Proc {
        fn new(name: &str) -> Self {
            let proc = Self(std::env::temp_dir().join(format!("lbx-proc-{name}-{}", std::process::id())));
            for directory in ["self", "7/task/7/ns", "7/task/8/ns", "7/fd", "7/fdinfo", "7/ns"] {
                fs::create_dir_all(proc.0.join(directory)).unwrap();
            }
            proc.link("7/task/7/ns/net", "net:[1]");
            proc.link("7/ns/mnt", "mnt:[1]");
            proc
        }

        fn link(&self, name: &str, target: &str) {
            std::os::unix::fs::symlink(target, self.0.join(name)).unwrap();
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.0.join(name), text).unwrap();
        }
    }

    impl Drop for Proc {
        fn drop(&mut self) {
            let _gone = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn threads_mounts_and_open_files_hold_namespaces() {
        let proc = Proc::new("holders");
        proc.link("7/task/8/ns/net", "net:[2]");
        proc.link("7/fd/3", "/proc/self/ns/net");
        proc.link("7/fd/5", "/proc/self/status");
        proc.link("7/fd/6", "anon_inode:[eventpoll]");
        proc.link("7/fd/4", "socket:[9]");
        proc.write("7/fdinfo/4", "pos:\t0\nscm_fds: 0\n");
        proc.write("7/mountinfo", "36 35 0:4 net:[4] /run/netns/a rw - nsfs nsfs rw\n");
        let process = proc.0.join("7");
        let expected = [
            (1, process.join("task/7/ns/net")),
            (2, process.join("task/8/ns/net")),
            (4, process.join("root/run/netns/a")),
            (
                fs::metadata("/proc/self/ns/net").unwrap().st_ino(),
                process.join("fd/3"),
            ),
        ];
        assert_eq!(holders(&proc.0).unwrap(), BTreeMap::from(expected));
    }

    #[test]
    fn what_cannot_be_seen_is_an_error() {
        let proc = Proc::new("unseen");
        proc.link("7/fd/4", "socket:[9]");
        proc.write("7/fdinfo/4", "scm_fds: 1\n");
        assert!(holders(&proc.0).is_err(), "a file on its way");
        proc.write("7/fdinfo/4", "scm_fds: 0\n");
        assert!(holders(&proc.0).is_ok());
        fs::remove_dir_all(proc.0.join("7/fd")).unwrap();
        proc.write("7/fd", "");
        assert!(holders(&proc.0).is_err(), "open files that cannot be listed");
    }

    #[test]
    fn only_network_namespaces_are_meant() {
        assert_eq!(inode_of("net:[4026531833]"), Some(4_026_531_833));
        assert_eq!(
            [inode_of("pid:[1]"), inode_of("net:[x]"), inode_of("socket:[1]")],
            [None; 3]
        );
    }

    #[test]
    fn what_has_gone_holds_nothing() {
        let error = |code| if_there::<()>(Err(io::Error::from_raw_os_error(code)));
        assert!(
            [libc::ENOENT, libc::ESRCH, libc::EINVAL]
                .iter()
                .all(|&code| error(code).unwrap().is_none())
        );
        assert!(error(libc::EACCES).is_err(), "then nobody knows");
    }
}
