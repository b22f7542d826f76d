//! Whether a command ends well.
//!
//! It runs without a shell, in a process group of its own that is killed when its time is over. Its environment is
//! what the check says, `PATH`, and:
//!
//! | variable | value |
//! |---|---|
//! | `LBX_VIP` | the VIP |
//! | `LBX_RIP` | the real server's own address |
//! | `LBX_PORT` | the port |
//! | `LBX_TIMEOUT` | seconds after which it is killed, with a fraction |
//!
//! Which address it asks is its own affair. The director's own connections to the VIP go to any of the real servers, so
//! a command that is to find out about this one must ask the RIP.

use std::{
    env, io,
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::AsyncReadExt,
    process::{Child, ChildStderr, Command},
};

use super::{CheckError, socket::Deadline};
use crate::{
    desired::Exec,
    health::{
        failure::Failure,
        probe::{Aim, Outcome, Passed},
    },
};

/// Bytes of standard error that are kept, from its end.
const KEPT: usize = 200;

/// Whether there is a command.
///
/// # Errors
/// There is none.
pub fn validate(exec: &Exec) -> Result<(), CheckError> {
    match exec.command.first() {
        Some(program) if !program.is_empty() => Ok(()),
        _ => Err(CheckError::NoCommand),
    }
}

/// Probes once.
///
/// # Errors
/// How the command failed.
pub async fn run(exec: &Exec, aim: &Aim) -> Outcome {
    let deadline = Deadline::of(aim);
    let mut running = Running::start(exec, aim)?;
    let end = async { running.end().await.map_err(Failure::here) };
    let (status, said) = deadline.bound(Failure::Slow, end).await?;
    judge(status, said, exec.weight)
}

/// What the end of a command means, as keepalived's `MISC_CHECK`.
fn judge(status: ExitStatus, said: String, weight: bool) -> Outcome {
    let Some(code) = status.code() else {
        return Err(Failure::Killed(status.signal().unwrap_or_default()));
    };
    match u16::try_from(code) {
        Ok(0) => Ok(Passed::default()),
        Ok(code @ 2..) if weight => Ok(Passed { weight: Some(code - 2) }),
        _ => Err(Failure::Exit { code, said }),
    }
}

/// A command that is killed, with all of its group, when this is dropped before it has ended.
struct Running {
    child: Child,
    errors: Option<ChildStderr>,
}

impl Running {
    fn start(exec: &Exec, aim: &Aim) -> Result<Self, Failure> {
        let [program, arguments @ ..] = exec.command.as_slice() else {
            return Err(Failure::Local(CheckError::NoCommand.to_string()));
        };
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(env::var_os("PATH").map(|path| ("PATH", path)))
            .env("LBX_VIP", aim.vip.to_string())
            .env("LBX_RIP", aim.rip.to_string())
            .env("LBX_PORT", aim.port.to_string())
            .env("LBX_TIMEOUT", aim.timeout.as_secs_f64().to_string())
            .envs(&exec.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| Failure::Local(format!("{program}: {error}")))?;
        let errors = child.stderr.take();
        Ok(Self { child, errors })
    }

    /// Waits for its end; with the last line of its standard error.
    async fn end(&mut self) -> io::Result<(ExitStatus, String)> {
        let mut tail = Vec::new();
        if let Some(mut errors) = self.errors.take() {
            let mut buffer = [0; 1024];
            loop {
                tokio::select! {
                    // What was written before the end is read before it.
                    biased;
                    read = errors.read(&mut buffer) => match read? {
                        0 => break,
                        length => keep(&mut tail, &buffer[..length]),
                    },
                    // Somebody it has left behind may hold the pipe open.
                    status = self.child.wait() => return Ok((status?, last_line(&tail))),
                }
            }
        }
        Ok((self.child.wait().await?, last_line(&tail)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The number is known until the child is waited for, so it is nobody else's.
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id {
            // It may just have ended; tokio reaps it either way.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

fn keep(tail: &mut Vec<u8>, more: &[u8]) {
    tail.extend_from_slice(more);
    let over = tail.len().saturating_sub(KEPT);
    tail.drain(..over);
}

fn last_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let printable = |letter: &char| !letter.is_control();
    line.unwrap_or_default().chars().filter(printable).collect()
}
