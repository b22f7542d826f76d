//! What compiles and links the XDP program.
//!
//! rustup has no prebuilt `core` for BPF. Debian has one, for its own compiler; elsewhere a nightly builds it from source.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{command, paths};

/// The BPF target: little-endian, as every host lbx runs on.
pub const TARGET: &str = "bpfel-unknown-none";

/// The version of bpf-linker lbx is built and measured with.
pub const LINKER_VERSION: &str = "0.13.0";

/// Where Debian's compiler is, whatever comes first in PATH.
pub const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

const DEBIAN_RUSTC_MINIMUM: (u32, u32) = (1, 96);

/// Where `core` comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum CoreSource {
    /// Prebuilt, for Debian's compiler.
    Prebuilt,
    /// Built from source by a nightly of rustup.
    Nightly,
}

impl CoreSource {
    /// What this machine has; the prebuilt one if both.
    pub fn find() -> Option<Self> {
        if has_debian_rustc() && has_debian_core() {
            Some(Self::Prebuilt)
        } else {
            has_nightly_rust_src().then_some(Self::Nightly)
        }
    }

    /// How the build is to be called in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prebuilt => "Debian's prebuilt core",
            Self::Nightly => "core built by the nightly",
        }
    }

    /// Cargo with the compiler that goes with this `core`.
    pub fn cargo(self) -> Command {
        self.configure_cargo(match self {
            Self::Prebuilt => command::cargo(),
            Self::Nightly => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", "cargo"]).current_dir(paths::root());
                command
            }
        })
    }

    /// Makes a cargo, or something that calls cargo, use the compiler that goes with this `core`, and nothing of the
    /// environment that would change the result.
    pub fn configure_cargo(self, mut cargo: Command) -> Command {
        for variable in [
            "RUSTFLAGS",
            "CARGO_BUILD_RUSTFLAGS",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
        ] {
            cargo.env_remove(variable);
        }
        match self {
            Self::Prebuilt => {
                cargo.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
            }
            // The toolchain `cargo xtask` was started with would win over the nightly.
            Self::Nightly => {
                for variable in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN"] {
                    cargo.env_remove(variable);
                }
            }
        }
        cargo
    }

    /// What selects a package and the target, and `core` where it has to be built. Goes after cargo's subcommand.
    pub fn cargo_target_arguments(self, package: &str) -> Vec<&OsStr> {
        let mut arguments = vec!["--package", package, "--target", TARGET];
        if self == Self::Nightly {
            arguments.push("-Zbuild-std=core");
        }
        arguments.into_iter().map(OsStr::new).collect()
    }
}

/// Whether Debian's compiler is there and new enough.
pub fn has_debian_rustc() -> bool {
    let version = command::stdout_of(Command::new(DEBIAN_RUSTC).arg("--version"));
    version
        .and_then(|version| release(&version))
        .is_some_and(|release| release >= DEBIAN_RUSTC_MINIMUM)
}

/// Whether its `core` for BPF is there.
pub fn has_debian_core() -> bool {
    Path::new("/usr/lib/rustlib").join(TARGET).join("lib").is_dir()
}

/// Whether rustup has a nightly with the source of `core`.
pub fn has_nightly_rust_src() -> bool {
    let mut command = Command::new("rustup");
    // Merely asking must not install a toolchain.
    command
        .args(["run", "nightly", "rustc", "--print", "sysroot"])
        .env("RUSTUP_AUTO_INSTALL", "0");
    command::stdout_of(&mut command).is_some_and(|sysroot| {
        Path::new(sysroot.trim())
            .join("lib/rustlib/src/rust/library/core")
            .is_dir()
    })
}

/// The bpf-linker of the right version: this clone's own, or one in PATH.
pub fn linker() -> Option<PathBuf> {
    let own = paths::tools().join("bin/bpf-linker");
    let (series, _) = LINKER_VERSION.rsplit_once('.')?;
    let wanted = format!("bpf-linker {series}.");
    let right = |linker: &PathBuf| {
        command::stdout_of(Command::new(linker).arg("--version")).is_some_and(|version| version.starts_with(&wanted))
    };
    [Some(own), command::find("bpf-linker")]
        .into_iter()
        .flatten()
        .find(right)
}

/// Debian's clippy, which alone knows Debian's `core` for BPF.
pub const DEBIAN_CLIPPY: &str = "/usr/bin/cargo-clippy";

/// Whether Debian's clippy goes with Debian's compiler.
pub fn has_debian_clippy() -> bool {
    let version = |command: &mut Command| command::stdout_of(command).and_then(|version| release(&version));
    let clippy = version(Command::new("/usr/bin/clippy-driver").args(["--rustc", "--version"]));
    Path::new(DEBIAN_CLIPPY).is_file()
        && clippy.is_some()
        && clippy == version(Command::new(DEBIAN_RUSTC).arg("--version"))
}

/// cargo-deny, of whatever version.
pub fn cargo_deny() -> Option<PathBuf> {
    let own = paths::tools().join("bin/cargo-deny");
    own.is_file().then_some(own).or_else(|| command::find("cargo-deny"))
}

/// The version of virtme-ng that guests were tried with.
pub const VIRTME_NG_VERSION: &str = "1.42";

/// Where packages of the Python Package Index are installed for this clone only.
pub fn python_environment() -> PathBuf {
    paths::tools().join("python")
}

/// The program that boots guests: this clone's own, or one in PATH.
pub fn virtme_ng() -> Option<PathBuf> {
    let own = python_environment().join("bin/vng");
    own.is_file().then_some(own).or_else(|| command::find("vng"))
}

/// LLVM's objcopy; any version will do.
pub fn objcopy() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    debian
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("llvm-"))
        .map(|entry| entry.path().join("bin/llvm-objcopy"))
        .find(|candidate| candidate.is_file())
        .or_else(|| command::find("llvm-objcopy"))
}

/// Major and minor release in the words of `rustc --version`.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.strip_prefix("rustc ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_number() {
        let debian = release("rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)");
        assert_eq!(debian, Some((1, 96)));
        assert!(release("rustc 1.100.0") > debian);
        assert_eq!(release("gcc 12"), None);
    }
}
