//! The test runners of package lbx-tests, and what they need in their environment.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::{
    build::BuildOutput,
    command::{self, Executable},
    paths,
};

/// Variables of the caller that runners see too.
const PASSED_ON: [&str; 9] = [
    "LBX_LOG",
    "LBX_MODEL_SEED",
    "LBX_MODEL_STEPS",
    "LBX_STRESS",
    "LBX_STRESS_SEED",
    "LBX_TEST_PATIENCE",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "RUST_TEST_THREADS",
];

/// The package, and the directory in which its runners are started.
pub fn package() -> PathBuf {
    paths::root().join("tests")
}

/// Builds the runners; by name.
///
/// # Errors
/// When they do not build.
pub fn build() -> Result<Vec<Executable>> {
    let mut cargo = command::cargo();
    let mut runners = command::build_executables(cargo.args(["test", "--package", "lbx-tests", "--no-run"]))?;
    runners.retain(|executable| executable.test);
    runners.sort_by_key(Executable::name);
    Ok(runners)
}

/// The environment of a runner.
pub fn variables(built: &BuildOutput, stress_xdp: &Path) -> Vec<(&'static str, OsString)> {
    let mut variables: Vec<(&str, OsString)> = vec![
        ("CARGO_MANIFEST_DIR", package().into()),
        ("LBX_BINARY", built.lbx.clone().into()),
        ("LBX_BPF_OBJECT", built.xdp_object.clone().into()),
        ("LBX_STRESS_XDP_OBJECT", stress_xdp.into()),
    ];
    variables.extend(
        PASSED_ON
            .into_iter()
            .filter_map(|name| Some((name, env::var_os(name)?))),
    );
    variables
}
