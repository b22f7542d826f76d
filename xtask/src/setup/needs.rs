//! What lbx needs besides stable Rust, as a table.

use std::path::Path;

use crate::{command, toolchain};

/// What a need is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Compiling and linking the XDP program.
    Build,
    /// The hosts in network namespaces that tests and demonstration run.
    Lab,
    /// Checking the source.
    Lint,
}

impl Part {
    /// Its name in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Lab => "lab",
            Self::Lint => "lint",
        }
    }
}

/// Something that has to be on the machine.
pub struct Need {
    /// What it is for.
    pub part: Part,
    /// What it is called in listings.
    pub what: &'static str,
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
}

enum Probe {
    Program(&'static str),
    File(&'static str),
    Ask(fn() -> bool),
}

impl Need {
    const fn program(part: Part, program: &'static str, package: &'static str) -> Self {
        Self {
            part,
            what: program,
            source: Source::Apt(package),
            optional: false,
            present: Probe::Program(program),
        }
    }

    const fn file(what: &'static str, file: &'static str, package: &'static str) -> Self {
        Self {
            part: Part::Build,
            what,
            source: Source::Apt(package),
            optional: false,
            present: Probe::File(file),
        }
    }

    const fn ask(part: Part, what: &'static str, source: Source, present: fn() -> bool) -> Self {
        Self {
            part,
            what,
            source,
            optional: false,
            present: Probe::Ask(present),
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
            Probe::Ask(present) => present(),
        }
    }
}

/// Everything. Compiler and `core` may also be those of a nightly with its source.
pub const NEEDS: &[Need] = &[
    Need::ask(Part::Build, "compiler for BPF", Source::Apt("rustc-web"), || {
        toolchain::debian_rustc() || toolchain::nightly_source()
    }),
    Need::ask(
        Part::Build,
        "core for BPF",
        Source::Apt("libstd-rust-web-dev-bpf"),
        || toolchain::debian_core() || toolchain::nightly_source(),
    ),
    Need::ask(Part::Build, "bpf-linker 0.13", Source::Crate("bpf-linker"), || {
        toolchain::linker().is_some()
    }),
    Need::ask(Part::Build, "llvm-objcopy", Source::Apt("llvm-22"), || {
        toolchain::objcopy().is_some()
    })
    .optional(),
    Need::program(Part::Lab, "ip", "iproute2"),
    Need::program(Part::Lab, "nginx", "nginx-light"),
    Need::program(Part::Lab, "openssl", "openssl"),
    // The package without a service of the system's own.
    Need::program(Part::Lab, "dnsmasq", "dnsmasq-base"),
    Need::program(Part::Lab, "curl", "curl"),
    Need::program(Part::Lab, "wrk", "wrk"),
    Need::program(Part::Lab, "nft", "nftables"),
    Need::program(Part::Lab, "ethtool", "ethtool"),
    Need::program(Part::Lab, "bpftool", "bpftool"),
    Need::program(Part::Lab, "ping", "iputils-ping"),
    Need::program(Part::Lab, "arping", "iputils-arping"),
    Need::program(Part::Lab, "setpriv", "util-linux"),
    Need::program(Part::Lab, "tcpdump", "tcpdump"),
    Need::program(Part::Lab, "jq", "jq"),
    Need::ask(
        Part::Lint,
        "clippy",
        Source::Rustup("clippy", "rust-web-clippy"),
        || cargo_has("clippy"),
    ),
    Need::ask(Part::Lint, "rustfmt", Source::Rustup("rustfmt", "rustfmt-web"), || {
        cargo_has("fmt")
    }),
    Need::ask(
        Part::Lint,
        "clippy for BPF",
        Source::Apt("rust-web-clippy"),
        toolchain::debian_clippy,
    )
    .optional(),
    Need::ask(Part::Lint, "cargo-deny", Source::Crate("cargo-deny"), || {
        toolchain::cargo_deny().is_some()
    })
    .optional(),
];

/// What building bpf-linker needs in turn.
pub const LINKER_NEEDS: &[Need] = &[
    Need::program(Part::Build, "c++", "g++"),
    Need::file("LLVM 22", "/usr/lib/llvm-22/include/llvm-c/Core.h", "llvm-22-dev"),
    Need::file("Polly 22", "/usr/lib/llvm-22/lib/libPolly.a", "libpolly-22-dev"),
    Need::file("zlib", "/usr/include/zlib.h", "zlib1g-dev"),
    Need::file("zstd", "/usr/include/zstd.h", "libzstd-dev"),
    Need::file("libxml2", "/usr/include/libxml2/libxml/tree.h", "libxml2-dev"),
];

/// rustup leaves its stand-ins in PATH even where the component is not installed: only running one tells.
fn cargo_has(subcommand: &str) -> bool {
    command::answer(command::cargo().args([subcommand, "--version"])).is_some()
}
