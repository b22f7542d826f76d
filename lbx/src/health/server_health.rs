//! The state of a real server of a service, by all of its checks.

use super::{failure::ProbeFailure, monitor::CheckState};

/// The state of a real server of a service, by its checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerHealth {
    /// It is up.
    Up {
        /// The weight that its check reports: it replaces that of the file and is not a percentage of it.
        weight: Option<u16>,
    },
    /// It is down.
    Down(ProbeFailure),
    /// Its first probe has not ended yet, and decides.
    Unknown,
}

impl ServerHealth {
    /// The state by all checks of a real server: up if all of them are, and its MAC address is `resolved`. Without checks it
    /// is up.
    #[must_use]
    pub fn of<'m>(monitors: impl IntoIterator<Item = &'m CheckState>, resolved: bool) -> Self {
        if !resolved {
            return Self::Down(ProbeFailure::NoMac);
        }
        let mut known = Self::Up { weight: None };
        for monitor in monitors {
            match (monitor.up_if_known(), &mut known) {
                (Some(false), _) => return Self::Down(monitor.reason().cloned().unwrap_or(ProbeFailure::NotProbed)),
                (None, _) => known = Self::Unknown,
                (Some(true), Self::Up { weight }) => *weight = weight.or(monitor.weight()),
                (Some(true), _) => {}
            }
        }
        known
    }

    /// Whether it is up; none while unknown.
    pub(super) const fn is_up(&self) -> Option<bool> {
        match self {
            Self::Up { .. } => Some(true),
            Self::Down(_) => Some(false),
            Self::Unknown => None,
        }
    }
}
