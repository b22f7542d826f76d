//! A guest: this machine's file system under another kernel. virtme-ng boots it, in QEMU.
//!
//! The guest writes nothing to the machine but to one shared folder; everything else is an overlay in its memory.

use std::{
    env, fs,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Error, Result, anyhow, bail, ensure};

use super::{
    console::{Console, Limits},
    prepare::PreparedGuest,
    script::STATUS,
};
use crate::{paths, toolchain};

/// How long a guest under KVM takes to boot at most: where the hypervisor only seems to work, it never does.
const PROBE: Limits = Limits {
    boot: Duration::from_secs(30),
    total: Duration::from_secs(60),
};

/// The script in the shared folder.
const SCRIPT: &str = "script";
/// The process id of QEMU, there.
const PID: &str = "pid";
/// Everything on the console, there.
const CONSOLE_LOG: &str = "console.log";

/// Lines of the console that are shown when a guest fails.
const SHOWN: usize = 30;

/// What executes a guest's instructions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Processor {
    /// The machine's own processor.
    Kvm,
    /// QEMU.
    Emulated,
    /// QEMU, and the guest's clock goes on by one nanosecond with every instruction: times are counts of instructions.
    EmulatedCounting,
}

/// A guest that can be booted.
pub struct Guest<'a> {
    /// Its kernel, and the folder that it shares with the host.
    pub prepared: &'a PreparedGuest,
    /// What runs it.
    pub processor: Processor,
}

/// A guest that runs; ended with the handle.
pub struct Running {
    /// What its runner prints.
    pub console: Console,
    vng: Child,
    shared: PathBuf,
}

impl Guest<'_> {
    /// Boots it, with a script for its shell.
    ///
    /// # Errors
    /// When virtme-ng is missing or cannot be started.
    pub fn boot(&self, script: &str, limits: Limits) -> Result<Running> {
        let PreparedGuest {
            kernel, shared: folder, ..
        } = self.prepared;
        let shared = folder
            .to_str()
            .filter(|path| !path.contains(|next: char| " ,'\"\\$:=".contains(next)));
        let shared = shared.with_context(|| format!("virtme-ng takes no such path: {}", folder.display()))?;
        for left in [STATUS, PID] {
            fs::remove_file(folder.join(left)).ok();
        }
        fs::write(folder.join(SCRIPT), script)?;
        let log = File::create(folder.join(CONSOLE_LOG))?;
        // The console is on standard error, and what the script prints too, unless the kernel has a virtio console.
        let (output, both) = io::pipe()?;
        let mut vng = virtme_ng()?;
        vng.arg("--run").arg(&kernel.image);
        if self.processor != Processor::Kvm {
            vng.arg("--disable-kvm");
        }
        let mut options = format!("-pidfile {shared}/{PID}");
        if self.processor == Processor::EmulatedCounting {
            options += " -icount shift=0";
        }
        // A second virtual CPU has the emulation fall back to a slow clock.
        vng.args(["--force-9p", "--memory", "2G", "--cpus", "1", "--verbose"])
            .arg(format!("--rwdir={shared}"))
            .arg(format!("--qemu-opts={options}"))
            .args(["--", &format!("sh {shared}/{SCRIPT}")])
            .current_dir(paths::root())
            .stdin(Stdio::null())
            .stdout(both.try_clone()?)
            .stderr(both);
        let vng = vng.spawn().context("cannot start vng")?;
        Ok(Running {
            console: Console::new(output, log, limits),
            vng,
            shared: folder.clone(),
        })
    }

    /// An error of a guest, with where its console is and how it ends.
    pub fn with_console(&self, error: &Error) -> Error {
        let shared = &self.prepared.shared;
        anyhow!(
            "{error:#}; its console is in {} and ends so:\n{}",
            shared.join(CONSOLE_LOG).display(),
            last_lines(shared, SHOWN)
        )
    }

    /// Whether guests work under KVM here: `/dev/kvm` may be there and its guests not run.
    fn boots(&self) -> Result<bool> {
        let script = format!("echo '{}'\necho '{}'\n", super::console::BEGIN, super::console::END);
        let mut running = self.boot(&script, PROBE)?;
        let ended = running.console.read_to_end(&mut Vec::new());
        Ok(ended.is_ok() && running.console.has_begun())
    }
}

/// Whether KVM runs guests here. Tried once; what came of it is kept in the guests' folder.
///
/// # Errors
/// When virtme-ng cannot be started.
pub fn kvm_works(prepared: &PreparedGuest) -> Result<bool> {
    if File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return Ok(false);
    }
    let known = prepared.vm_folder.join("kvm");
    if let Ok(text) = fs::read_to_string(&known) {
        return Ok(text.trim() == "works");
    }
    let guest = Guest {
        prepared,
        processor: Processor::Kvm,
    };
    let works = guest.boots()?;
    fs::write(known, if works { "works\n" } else { "does not work\n" })?;
    Ok(works)
}

impl Running {
    /// What the script has left as its runner's exit status.
    ///
    /// # Errors
    /// When there is none: the guest ended before its runner did.
    pub fn status(&self) -> Result<i32> {
        ensure!(self.console.has_begun(), "the guest did not boot");
        let status = fs::read_to_string(self.shared.join(STATUS));
        let status = status.context("the guest ended without a result")?;
        status.trim().parse().context("the guest left no exit status")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // QEMU is a grandchild, and what runs it ends with it.
        if let Ok(pid) = fs::read_to_string(self.shared.join(PID))
            && is_qemu(pid.trim())
        {
            let kill = Command::new("kill").args(["-KILL", pid.trim()]).status();
            drop(kill);
        }
        self.vng.kill().ok();
        self.vng.wait().ok();
    }
}

/// Whether a process is QEMU: its process id may be another's by now.
fn is_qemu(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("qemu"))
}

/// virtme-ng, which finds its own parts in PATH.
fn virtme_ng() -> Result<Command> {
    let Some(vng) = toolchain::virtme_ng() else {
        bail!("there is no vng");
    };
    let folder = vng.parent().unwrap_or(Path::new("/")).to_owned();
    let path = env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let path = env::join_paths(
        [folder]
            .into_iter()
            .chain(env::split_paths(&path))
            .chain(administrators),
    )?;
    let mut command = Command::new(vng);
    command.env("PATH", path);
    Ok(command)
}

/// The end of what a guest has printed, for errors.
fn last_lines(shared: &Path, count: usize) -> String {
    let log = fs::read(shared.join(CONSOLE_LOG)).unwrap_or_default();
    let log = String::from_utf8_lossy(&log).replace('\r', "");
    let lines: Vec<&str> = log.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
