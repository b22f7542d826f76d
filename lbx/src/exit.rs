//! Every exit status, in one place.

use std::process::ExitCode;

/// What the process ends with. Part of the interface: documented in the README, relied on by units and scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// Something unexpected went wrong.
    Failure = 1,
    /// The command line is wrong (clap's own status).
    Usage = 2,
    /// The configuration is wrong: syntax, field, value.
    Config = 3,
    /// Not root or a capability is missing, or the kernel cannot do it.
    Privilege = 4,
    /// The network is not as the configuration needs it: NIC missing or down, real server not on-link, foreign XDP program.
    Network = 5,
    /// A director of this name is already running, or none is where one is needed.
    Running = 6,
    /// A check was carried out and found something wrong (`lbx realserver check`).
    CheckFailed = 7,
}

/// An error on its way out of the process.
#[derive(Debug)]
pub struct ExitError {
    /// The exit status it ends with.
    pub exit_status: ExitStatus,
    /// What is wrong, where, and what to do; printed with its causes.
    pub error: anyhow::Error,
}

impl ExitError {
    /// A failure with a status and a reason.
    pub fn new(exit: ExitStatus, error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit_status: exit,
            error: error.into(),
        }
    }
}

impl From<anyhow::Error> for ExitError {
    fn from(error: anyhow::Error) -> Self {
        Self::new(ExitStatus::Failure, error)
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(exit: ExitStatus) -> Self {
        Self::from(exit as u8)
    }
}

/// Gives a typed error its exit status.
pub trait WithExitStatus<T> {
    /// The value, or the error with this exit status.
    ///
    /// # Errors
    /// The error it was given.
    fn with_exit_status(self, exit: ExitStatus) -> Result<T, ExitError>;
}

impl<T, E: Into<anyhow::Error>> WithExitStatus<T> for Result<T, E> {
    fn with_exit_status(self, exit: ExitStatus) -> Result<T, ExitError> {
        self.map_err(|error| ExitError::new(exit, error))
    }
}
