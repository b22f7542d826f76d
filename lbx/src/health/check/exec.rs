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
    io,
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
};

use tokio::io::AsyncReadExt;

use super::{CheckError, socket::Deadline};
use crate::{
    command::RunningCommand,
    desired::Exec,
    health::{
        failure::ProbeFailure,
        probe::{Outcome, ProbeEndpoint, ProbeSuccess},
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
pub async fn run(exec: &Exec, endpoint: &ProbeEndpoint) -> Outcome {
    let deadline = Deadline::starting_now(endpoint);
    let mut running = start(exec, endpoint)?;
    let end = async { end(&mut running).await.map_err(ProbeFailure::from_local_error) };
    let (status, stderr) = deadline.run_with_timeout(ProbeFailure::IncompleteReply, end).await?;
    judge(status, stderr, exec.weight_from_exit_code)
}

/// What the end of a command means, as keepalived's `MISC_CHECK`.
fn judge(status: ExitStatus, stderr: String, weight: bool) -> Outcome {
    let Some(code) = status.code() else {
        return Err(ProbeFailure::CommandKilled(status.signal().unwrap_or_default()));
    };
    match u16::try_from(code) {
        Ok(0) => Ok(ProbeSuccess::default()),
        Ok(code @ 2..) if weight => Ok(ProbeSuccess { weight: Some(code - 2) }),
        _ => Err(ProbeFailure::CommandFailed { code, stderr }),
    }
}

/// Starts the command of a check.
fn start(exec: &Exec, endpoint: &ProbeEndpoint) -> Result<RunningCommand, ProbeFailure> {
    let variables = [
        ("LBX_VIP", endpoint.vip.to_string()),
        ("LBX_RIP", endpoint.rip.to_string()),
        ("LBX_PORT", endpoint.port.to_string()),
        ("LBX_TIMEOUT", endpoint.timeout.as_secs_f64().to_string()),
    ];
    let own = exec
        .environment
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()));
    let running = RunningCommand::start(&exec.command, variables.into_iter().chain(own), Stdio::piped());
    running.map_err(|error| {
        let program = exec.command.first().map_or("", String::as_str);
        ProbeFailure::CannotProbe(format!("{program}: {error}"))
    })
}

/// Waits for the end of a command; with the last line of its standard error.
async fn end(running: &mut RunningCommand) -> io::Result<(ExitStatus, String)> {
    let mut tail = Vec::new();
    if let Some(mut errors) = running.child.stderr.take() {
        let mut buffer = [0; 1024];
        loop {
            tokio::select! {
                // What was written before the end is read before it.
                biased;
                read = errors.read(&mut buffer) => match read? {
                    0 => break,
                    length => keep(&mut tail, &buffer[..length]),
                },
                // A process that it left behind may hold the pipe open.
                status = running.child.wait() => return Ok((status?, last_line(&tail))),
            }
        }
    }
    Ok((running.child.wait().await?, last_line(&tail)))
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
