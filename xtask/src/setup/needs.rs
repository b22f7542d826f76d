//! What lbx needs besides stable Rust, as a table.

use std::{path::Path, process::Command};

use crate::{command, toolchain};

/// What a need is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Compiling and linking the XDP program.
    Build,
    /// The hosts in network namespaces that tests and demonstration run.
    Lab,
    /// Checking the source.
    Lint,
    /// Guests with other kernels. `cargo xtask vm` installs it, and no other task.
    Vm,
}

impl Purpose {
    /// Its name in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Lab => "lab",
            Self::Lint => "lint",
            Self::Vm => "vm",
        }
    }
}

/// Something that has to be on the machine.
pub struct Need {
    /// What it is for.
    pub purpose: Purpose,
    /// What it is called in listings.
    pub label: &'static str,
    /// Where it comes from.
    pub source: Source,
    /// Whether the tasks do less without it, rather than nothing.
    pub optional: bool,
    present: Probe,
}

/// Where a need comes from.
#[derive(Clone, Copy)]
pub enum Source {
    /// A package of Debian.
    Apt(&'static str),
    /// A crate, built into target/tools.
    Crate(&'static str),
    /// A component of rustup's toolchain, or this package of Debian where there is no rustup.
    Rustup(&'static str, &'static str),
    /// A package of the Python Package Index, in target/tools.
    Python(&'static str),
}

enum Probe {
    Program(&'static str),
    File(&'static str),
    Predicate(fn() -> bool),
}

impl Need {
    const fn program(part: Purpose, program: &'static str, package: &'static str) -> Self {
        Self {
            purpose: part,
            label: program,
            source: Source::Apt(package),
            optional: false,
            present: Probe::Program(program),
        }
    }

    const fn file(what: &'static str, file: &'static str, package: &'static str) -> Self {
        Self {
            purpose: Purpose::Build,
            label: what,
            source: Source::Apt(package),
            optional: false,
            present: Probe::File(file),
        }
    }

    const fn ask(part: Purpose, what: &'static str, source: Source, present: fn() -> bool) -> Self {
        Self {
            purpose: part,
            label: what,
            source,
            optional: false,
            present: Probe::Predicate(present),
        }
    }

    const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Whether it is there.
    pub fn is_met(&self) -> bool {
        match self.present {
            Probe::Program(program) => command::find(program).is_some(),
            Probe::File(file) => Path::new(file).exists(),
            Probe::Predicate(present) => present(),
        }
    }
}

/// Everything. Compiler and `core` may also be those of a nightly with its source.
pub const NEEDS: &[Need] = &[
    Need::ask(Purpose::Build, "compiler for BPF", Source::Apt("rustc-web"), || {
        toolchain::has_debian_rustc() || toolchain::has_nightly_rust_src()
    }),
    Need::ask(
        Purpose::Build,
        "core for BPF",
        Source::Apt("libstd-rust-web-dev-bpf"),
        || toolchain::has_debian_core() || toolchain::has_nightly_rust_src(),
    ),
    Need::ask(Purpose::Build, "bpf-linker 0.13", Source::Crate("bpf-linker"), || {
        toolchain::linker().is_some()
    }),
    Need::ask(Purpose::Build, "llvm-objcopy", Source::Apt("llvm-22"), || {
        toolchain::objcopy().is_some()
    })
    .optional(),
    Need::program(Purpose::Lab, "ip", "iproute2"),
    Need::program(Purpose::Lab, "nginx", "nginx-light"),
    Need::program(Purpose::Lab, "openssl", "openssl"),
    // The package without a service of the system's own.
    Need::program(Purpose::Lab, "dnsmasq", "dnsmasq-base"),
    Need::program(Purpose::Lab, "curl", "curl"),
    Need::program(Purpose::Lab, "wrk", "wrk"),
    Need::program(Purpose::Lab, "nft", "nftables"),
    Need::program(Purpose::Lab, "iptables-legacy", "iptables"),
    Need::program(Purpose::Lab, "ethtool", "ethtool"),
    Need::program(Purpose::Lab, "bpftool", "bpftool"),
    Need::program(Purpose::Lab, "ping", "iputils-ping"),
    Need::program(Purpose::Lab, "arping", "iputils-arping"),
    Need::program(Purpose::Lab, "setpriv", "util-linux"),
    Need::program(Purpose::Lab, "tcpdump", "tcpdump"),
    Need::program(Purpose::Lab, "jq", "jq"),
    Need::ask(
        Purpose::Lint,
        "clippy",
        Source::Rustup("clippy", "rust-web-clippy"),
        || cargo_has("clippy"),
    ),
    Need::ask(
        Purpose::Lint,
        "rustfmt",
        Source::Rustup("rustfmt", "rustfmt-web"),
        || cargo_has("fmt"),
    ),
    Need::ask(
        Purpose::Lint,
        "clippy for BPF",
        Source::Apt("rust-web-clippy"),
        toolchain::has_debian_clippy,
    )
    .optional(),
    Need::ask(Purpose::Lint, "cargo-deny", Source::Crate("cargo-deny"), || {
        toolchain::cargo_deny().is_some()
    })
    .optional(),
    Need::program(Purpose::Vm, "qemu-system-x86_64", "qemu-system-x86"),
    Need::program(Purpose::Vm, "depmod", "kmod"),
    Need::program(Purpose::Vm, "teamd", "libteam-utils"),
    Need::program(Purpose::Vm, "busybox", "busybox-static"),
    Need::ask(Purpose::Vm, "vng", Source::Python("virtme-ng"), || {
        toolchain::virtme_ng().is_some()
    }),
];

/// What installing from the Python Package Index needs in turn.
pub const PYTHON_NEEDS: &[Need] = &[Need::ask(
    Purpose::Vm,
    "python3 -m venv",
    Source::Apt("python3-venv"),
    // Debian has the module without what it needs to install pip.
    || command::stdout_of(Command::new("python3").args(["-m", "ensurepip", "--version"])).is_some(),
)];

/// What building bpf-linker needs in turn.
pub const LINKER_NEEDS: &[Need] = &[
    Need::program(Purpose::Build, "c++", "g++"),
    Need::file("LLVM 22", "/usr/lib/llvm-22/include/llvm-c/Core.h", "llvm-22-dev"),
    Need::file("Polly 22", "/usr/lib/llvm-22/lib/libPolly.a", "libpolly-22-dev"),
    Need::file("zlib", "/usr/include/zlib.h", "zlib1g-dev"),
    Need::file("zstd", "/usr/include/zstd.h", "libzstd-dev"),
    Need::file("libxml2", "/usr/include/libxml2/libxml/tree.h", "libxml2-dev"),
];

/// rustup leaves its stand-ins in PATH even where the component is not installed: only running one tells.
fn cargo_has(subcommand: &str) -> bool {
    command::stdout_of(command::cargo().args([subcommand, "--version"])).is_some()
}
