//! Waiting for something to become true, never longer than it may take on this machine (see [`patience`]).

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::patience;

const PAUSE: Duration = Duration::from_millis(10);

/// Calls `probe` until it gives a value, and says `what` was waited for when it does not within `limit`.
///
/// # Errors
/// The probe's own error at once, or that the time is over.
pub fn until<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let limit = patience::scaled(limit);
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("not within {limit:?}: {what}");
        }
        thread::sleep(PAUSE);
    }
}

/// Like [`until`] for a condition.
///
/// # Errors
/// The condition's own error at once, or that the time is over.
pub fn until_true(limit: Duration, what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    until(limit, what, || Ok(condition()?.then_some(())))
}
