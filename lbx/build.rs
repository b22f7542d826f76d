//! Puts the XDP program into the binary: `OUT_DIR/lbx.bpf.o` and the cfg `lbx_program`.
//!
//! The program is built apart, with another toolchain. Without it lbx still compiles (an empty object, no cfg), so that
//! checks and unit tests need nothing but stable Rust.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Names an object elsewhere.
const OVERRIDE: &str = "LBX_BPF_OBJECT";

fn main() {
    let variable = |name| PathBuf::from(env::var_os(name).expect("cargo sets it for build scripts"));
    let object = env::var_os(OVERRIDE).map_or_else(
        || variable("CARGO_MANIFEST_DIR").join("../target/bpf/lbx.bpf.o"),
        PathBuf::from,
    );
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", watched(&object).display());

    let copy = variable("OUT_DIR").join("lbx.bpf.o");
    match fs::read(&object) {
        Ok(program) => {
            fs::write(copy, program).expect("OUT_DIR is writable");
            println!("cargo::rustc-cfg=lbx_program");
        }
        Err(_) => {
            fs::write(copy, []).expect("OUT_DIR is writable");
            println!("cargo::warning=built without the XDP program; run `cargo xtask build`");
        }
    }
}

/// What changes when the object does.
///
/// Cargo takes a watched file that does not exist for one that always changes, and would compile lbx each time. So as
/// long as the object is not there, its folder is watched, made if need be.
fn watched(object: &Path) -> &Path {
    match object.parent() {
        Some(folder) if !object.exists() && fs::create_dir_all(folder).is_ok() => folder,
        _ => object,
    }
}
