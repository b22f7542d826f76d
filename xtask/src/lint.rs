//! `cargo xtask lint`: what must be clean before a change goes in.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{
    build_ebpf, command, paths,
    steps::Steps,
    toolchain::{self, CoreSource},
};

/// How a check went.
enum Verdict {
    Clean,
    Dirty(String),
    Skipped(&'static str),
}

/// What is checked, and how.
type Check = (&'static str, fn() -> Verdict);

/// All checks, in the order of what fails soonest.
const CHECKS: [Check; 6] = [
    ("formatting", formatting),
    ("clippy on the host", clippy),
    ("clippy on the XDP program, on the host", clippy_bpf_on_host),
    ("clippy on the XDP programs, for BPF", clippy_bpf),
    ("documentation", documentation),
    ("licences, sources and advisories of dependencies", dependencies),
];

/// Runs the task.
///
/// # Errors
/// When a check finds something, after all have run.
pub fn task() -> Result<()> {
    let mut steps = Steps::new(CHECKS.len());
    let mut dirty = Vec::new();
    let mut skipped = Vec::new();
    for (what, check) in CHECKS {
        match steps.run(what, check) {
            Verdict::Clean => {}
            Verdict::Dirty(why) => dirty.push(format!("{what}: {why}")),
            Verdict::Skipped(why) => skipped.push(format!("skipped {what}: {why}")),
        }
    }
    for line in &skipped {
        println!("{line}");
    }
    if !dirty.is_empty() {
        bail!("not clean\n  {}", dirty.join("\n  "));
    }
    println!("clean");
    Ok(())
}

impl Verdict {
    fn of(command: &mut Command) -> Self {
        match command::run(command) {
            Ok(()) => Self::Clean,
            Err(error) => Self::Dirty(format!("{error:#}")),
        }
    }
}

fn formatting() -> Verdict {
    Verdict::of(command::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Verdict {
    let mut cargo = command::cargo();
    cargo.args([
        "clippy",
        "--workspace",
        "--exclude",
        "lbx-ebpf",
        "--all-targets",
        "--",
        "-Dwarnings",
    ]);
    Verdict::of(&mut cargo)
}

fn clippy_bpf_on_host() -> Verdict {
    let mut cargo = command::cargo_bpf_on_host();
    cargo
        .args(["clippy", "--package", "lbx-ebpf", "--all-targets", "--target-dir"])
        .arg(paths::bpf_host_target());
    // Without std there is nothing that could unwind.
    cargo.args(["--", "-Dwarnings"]).env("CARGO_PROFILE_DEV_PANIC", "abort");
    Verdict::of(&mut cargo)
}

fn clippy_bpf() -> Verdict {
    if CoreSource::find() != Some(CoreSource::Prebuilt) || !toolchain::has_debian_clippy() {
        return Verdict::Skipped("needs Debian's rust-web-clippy; `cargo xtask setup` installs it where apt has it");
    }
    let Some(linker) = toolchain::linker() else {
        return Verdict::Skipped("needs bpf-linker; `cargo xtask setup` builds it");
    };
    let flags = match build_ebpf::bpf_rustflags(&linker) {
        Ok(flags) => flags,
        Err(error) => return Verdict::Dirty(format!("{error:#}")),
    };
    let mut clippy = CoreSource::Prebuilt.configure_cargo(Command::new(toolchain::DEBIAN_CLIPPY));
    clippy.current_dir(paths::root()).env("CARGO_ENCODED_RUSTFLAGS", flags);
    clippy
        .args(["clippy", "--target-dir"])
        .arg(paths::bpf_target().join("clippy"));
    clippy
        .args(CoreSource::Prebuilt.cargo_target_arguments("lbx-ebpf"))
        .args(["--package", "lbx-bench-ebpf", "--package", "lbx-tests-ebpf"])
        .args(["--", "-Dwarnings"]);
    Verdict::of(&mut clippy)
}

/// With private items: this is an application, its readers are those who change it.
fn documentation() -> Verdict {
    let mut cargo = command::cargo();
    cargo.args([
        "doc",
        "--workspace",
        "--exclude",
        "lbx-ebpf",
        "--no-deps",
        "--document-private-items",
    ]);
    Verdict::of(cargo.env("RUSTDOCFLAGS", "-Dwarnings"))
}

fn dependencies() -> Verdict {
    let Some(program) = toolchain::cargo_deny() else {
        return Verdict::Skipped("cargo-deny is not installed; `cargo xtask setup` builds it (minutes)");
    };
    let deny = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command
            .current_dir(paths::root())
            .args(["--log-level", "error"])
            .args(arguments);
        command
    };
    let offline = Verdict::of(&mut deny(&["check", "bans", "licenses", "sources"]));
    if !matches!(offline, Verdict::Clean) {
        return offline;
    }
    let fetched = command::stdout_of(&mut deny(&["fetch", "db"]));
    if fetched.is_none() {
        return Verdict::Skipped("licences and sources are clean, but the database of advisories cannot be fetched");
    }
    Verdict::of(&mut deny(&["check", "advisories"]))
}
