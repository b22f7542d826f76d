//! Root rights, asked for only where they are needed.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{self, IsTerminal as _},
    os::unix::fs::MetadataExt as _,
    process::{Command, Stdio},
};

use anyhow::{Result, bail};

use crate::command;

/// How a command gets root's rights.
#[derive(Clone, Copy)]
pub enum RootAccess {
    /// We are root.
    AlreadyRoot,
    /// Through sudo.
    Sudo,
}

impl RootAccess {
    /// The way this machine offers.
    ///
    /// # Errors
    /// When there is none, and why.
    pub fn find() -> Result<Self> {
        if fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
            return Ok(Self::AlreadyRoot);
        }
        if command::find("sudo").is_none() {
            bail!("this needs root: there is no sudo, so run it as root");
        }
        // Without a terminal sudo cannot ask for a password.
        let silent = Command::new("sudo").args(["-n", "true"]).stderr(Stdio::null()).status();
        if !io::stdin().is_terminal() && !silent.is_ok_and(|status| status.success()) {
            bail!("this needs root: sudo wants a password and there is no terminal to ask on, so run it as root");
        }
        Ok(Self::Sudo)
    }

    /// A command that runs as root with these variables: sudo drops the caller's.
    pub fn command(self, program: impl AsRef<OsStr>, variables: &[(&str, OsString)]) -> Command {
        match self {
            Self::AlreadyRoot => {
                let mut command = Command::new(program);
                command.envs(variables.iter().cloned());
                command
            }
            Self::Sudo => {
                let mut command = Command::new("sudo");
                command.arg("env");
                for (name, value) in variables {
                    let mut assignment = OsString::from(format!("{name}="));
                    assignment.push(value);
                    command.arg(assignment);
                }
                command.arg(program);
                command
            }
        }
    }
}
