//! Commands of the operator's: run without a shell, in a process group of their own that goes with them.

use std::{env, io, process::Stdio};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::process::{Child, Command};

/// A command that is killed, with all of its group, when this is dropped before it has ended.
#[derive(Debug)]
pub struct RunningCommand {
    /// The command itself.
    pub child: Child,
}

impl RunningCommand {
    /// Starts a command: its environment is `PATH` and what is given, its standard error `errors`, input and output lead
    /// nowhere.
    ///
    /// # Errors
    /// There is no such program, or it cannot be run.
    pub fn start<N: AsRef<str>, V: AsRef<str>>(
        command: &[String],
        environment: impl IntoIterator<Item = (N, V)>,
        errors: Stdio,
    ) -> io::Result<Self> {
        let [program, arguments @ ..] = command else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the command is empty: name a program",
            ));
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(env::var_os("PATH").map(|path| ("PATH", path)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .process_group(0);
        for (name, value) in environment {
            command.env(name.as_ref(), value.as_ref());
        }
        Ok(Self {
            child: command.spawn()?,
        })
    }
}

impl Drop for RunningCommand {
    fn drop(&mut self) {
        // The number is known until the child is waited for, so no other process has it.
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id {
            // It may just have ended; tokio reaps it either way.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}
