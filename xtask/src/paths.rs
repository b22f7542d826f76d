//! Where things are.

use std::{env, path::PathBuf};

/// The root of the workspace.
///
/// Cargo says at run time where the package is: the clone may have moved since xtask was compiled.
pub fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let mut root = PathBuf::from(package);
    root.pop();
    root
}

/// Tools built for this clone only, as `cargo install --root` wants it.
pub fn tools() -> PathBuf {
    root().join("target/tools")
}

/// Cargo's output for the real BPF target. Apart from the host's, so that neither invalidates the other.
pub fn bpf_target() -> PathBuf {
    root().join("target/bpf")
}

/// Cargo's output for the BPF crate compiled for the host. Apart, because build scripts of dependencies look at
/// `RUSTC_BOOTSTRAP`, which only that crate needs.
pub fn bpf_host_target() -> PathBuf {
    root().join("target/bpf-host")
}

/// The finished XDP program. lbx/build.rs looks here.
pub fn xdp_object() -> PathBuf {
    bpf_target().join("lbx.bpf.o")
}

/// The finished stress_xdp, a program of the stress tests. They look here too.
pub fn stress_xdp() -> PathBuf {
    bpf_target().join("stress_xdp.bpf.o")
}
