//! Running other programs.

use std::{
    env,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::paths;

/// The cargo that runs us, in the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(paths::root());
    command
}

/// Cargo for the BPF crate on the host: it uses compiler intrinsics, which stable gives only when asked in this way.
pub fn cargo_bpf_on_host() -> Command {
    let mut command = cargo();
    command.env("RUSTC_BOOTSTRAP", "1");
    command
}

/// Runs a command to its end; its output is the caller's.
///
/// # Errors
/// When it cannot be started or does not succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", shown(command));
    }
    Ok(())
}

/// What a short question to another program is answered with; nothing when it is not there or fails.
pub fn stdout_of(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// An executable built by cargo.
pub struct Executable {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it is a test runner.
    pub test: bool,
}

impl Executable {
    /// Its name without the hash cargo appends to test runners.
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match name.rsplit_once('-') {
            Some((stem, _)) if self.test => stem.to_owned(),
            _ => name,
        }
    }
}

/// Runs a cargo build and returns its executables: cargo alone knows where its target directory is.
///
/// # Errors
/// When it cannot be started or does not succeed.
pub fn build_executables(command: &mut Command) -> Result<Vec<Executable>> {
    command
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit());
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !output.status.success() {
        bail!("{} failed ({})", shown(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(executable)
        .collect())
}

/// The executable in one of cargo's JSON messages. A JSON parser would be compiled on every fresh clone for this alone.
fn executable(message: &str) -> Option<Executable> {
    let after = |key: &str| message.split_once(key).map(|(_, rest)| rest);
    let (path, _) = after(r#""executable":""#)?.split_once('"')?;
    let (profile, _) = after(r#""profile":{"#)?.split_once('}')?;
    Some(Executable {
        path: path.into(),
        test: profile.contains(r#""test":true"#),
    })
}

/// Finds a program in PATH, or where administrators' programs are when they are not in a user's PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".cargo/bin"));
    env::split_paths(&path)
        .chain(home)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// A command as one would type it.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let mut line = format!("`{}", program.to_string_lossy());
    for argument in command.get_args() {
        let _ = write!(line, " {}", argument.to_string_lossy());
    }
    line.push('`');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNER: &str = r#"{"reason":"compiler-artifact","target":{"kind":["test"],"test":true},"profile":{"opt_level":"0","test":true},"executable":"/t/debug/deps/packets-0f1e","fresh":true}"#;

    #[test]
    fn finds_test_runners_in_the_messages_of_cargo() {
        let runner = executable(RUNNER).unwrap();
        assert!(runner.test);
        assert_eq!(runner.path, Path::new("/t/debug/deps/packets-0f1e"));
        assert_eq!(runner.name(), "packets");
    }

    #[test]
    fn a_testable_binary_is_not_a_test_runner() {
        let message = RUNNER.replace(r#""0","test":true"#, r#""0","test":false"#);
        assert!(!executable(&message).unwrap().test);
    }

    #[test]
    fn libraries_have_no_executable() {
        assert!(executable(&RUNNER.replace(r#""/t/debug/deps/packets-0f1e""#, "null")).is_none());
    }
}
