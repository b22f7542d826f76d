//! `cargo xtask build-ebpf`: from crate lbx-ebpf to target/bpf/lbx.bpf.o. The programs of bench and stress tests are built in
//! the same way.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    command, elf, paths,
    setup::{self, Purpose},
    toolchain::{self, CoreSource},
};

/// The profile in the root Cargo.toml, and the folder cargo names after it.
const PROFILE: &str = "bpf";

/// Runs the task.
///
/// # Errors
/// When the toolchain is missing and cannot be installed, or the build fails.
pub fn task() -> Result<()> {
    for object in [build()?, build_stress_xdp()?] {
        println!("{} ({} bytes)", object.display(), fs::metadata(&object)?.len());
    }
    Ok(())
}

/// Builds lbx's program and returns where its object is.
///
/// # Errors
/// When the toolchain is missing and cannot be installed, or the build fails.
pub fn build() -> Result<PathBuf> {
    compile("lbx-ebpf")?;
    publish("lbx-ebpf", paths::xdp_object())
}

/// Builds the bench's programs and returns where the objects of these binaries are.
///
/// # Errors
/// When the toolchain is missing and cannot be installed, or the build fails.
pub fn build_bench<const N: usize>(binaries: [&str; N]) -> Result<Vec<PathBuf>> {
    compile("lbx-bench-ebpf")?;
    let object = |binary: &str| paths::bpf_target().join(format!("bench-{binary}.bpf.o"));
    binaries.iter().map(|binary| publish(binary, object(binary))).collect()
}

/// Builds the stress tests' XDP program and returns where its object is.
///
/// # Errors
/// When the toolchain is missing and cannot be installed, or the build fails.
pub fn build_stress_xdp() -> Result<PathBuf> {
    compile("lbx-tests-ebpf")?;
    publish("stress_xdp", paths::stress_xdp())
}

/// Compiles a package for BPF.
fn compile(package: &str) -> Result<()> {
    setup::ensure_installed(Purpose::Build)?;
    let core = CoreSource::find().context("there is no compiler for BPF; `cargo xtask setup` installs one")?;
    let linker = toolchain::linker().context("there is no bpf-linker; `cargo xtask setup` installs it")?;
    let mut cargo = core.cargo();
    cargo
        .args(["build", "--profile", PROFILE, "--target-dir"])
        .arg(paths::bpf_target())
        .args(core.cargo_target_arguments(package))
        .env("CARGO_ENCODED_RUSTFLAGS", bpf_rustflags(&linker)?);
    command::run(&mut cargo).with_context(|| format!("{package} does not build for BPF (with {})", core.name()))
}

/// The compiler's flags for the BPF target, separated as cargo wants them in `CARGO_ENCODED_RUSTFLAGS`, which wins over all other places.
///
/// # Errors
/// When this machine's architecture is not one lbx runs on.
pub fn bpf_rustflags(linker: &Path) -> Result<String> {
    let linker = linker.to_str().context("the path of bpf-linker is not UTF-8")?;
    let architecture = match env::consts::ARCH {
        known @ ("x86_64" | "aarch64") => known,
        other => bail!("lbx knows the registers of x86_64 and aarch64 only, not of {other}"),
    };
    Ok([
        format!("-Clinker={linker}"),
        "-Clink-arg=--btf".into(),
        "-Ctarget-cpu=v3".into(),
        // Else copies of a few bytes become calls of memcpy: 2 to 3 ns each.
        "-Clink-arg=--disable-expand-memcpy-in-order".into(),
        "-Cdebuginfo=2".into(),
        format!("--cfg=bpf_target_arch=\"{architecture}\""),
    ]
    .join("\x1f"))
}

/// Puts the object of a binary, without DWARF, where others look for it; leaves an equal one alone, so that nothing is rebuilt.
fn publish(binary: &str, object: PathBuf) -> Result<PathBuf> {
    let built = paths::bpf_target().join(toolchain::TARGET).join(PROFILE).join(binary);
    let stripped = object.with_extension("o.new");
    if let Some(objcopy) = toolchain::objcopy() {
        command::run(Command::new(objcopy).arg("--strip-debug").args([&built, &stripped]))?;
    } else {
        eprintln!("no llvm-objcopy here: the object keeps its DWARF, about 100 kB");
        fs::copy(&built, &stripped).with_context(|| format!("cannot copy {}", built.display()))?;
    }
    let bytes = fs::read(&stripped).with_context(|| format!("cannot read {}", stripped.display()))?;
    for section in [".BTF", ".BTF.ext"] {
        if !elf::has_section(&bytes, section) {
            bail!(
                "{} has no section {section}: the linker wrote no BTF, and the kernel needs it",
                stripped.display()
            );
        }
    }
    if fs::read(&object).is_ok_and(|old| old == bytes) {
        fs::remove_file(&stripped)?;
    } else {
        fs::rename(&stripped, &object).with_context(|| format!("cannot write {}", object.display()))?;
    }
    Ok(object)
}
