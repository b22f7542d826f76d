//! The programs under test.

use std::fmt;

/// How lbx selects real servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SchedulerMode {
    /// Hash of client address and port.
    Maglev,
    /// Hash of the client's address.
    Sh,
    /// Round robin; every flow has a record.
    Rr,
    /// Weighted least connections; every flow has a record.
    Wlc,
    /// Round robin with persistence; every flow has a record, and every client.
    Persistent,
}

/// A program under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// Checks bounds, swaps the MAC addresses and sends the frame back.
    MacSwap,
    /// The reference: hash of services and LRU hash of flows.
    Reference,
    /// lbx, all slots without windows.
    Lbx(SchedulerMode),
    /// lbx after every real server has been replaced: all slots in windows.
    LbxInWindow(SchedulerMode),
}

impl Program {
    /// Whether every flow has an entry in a table.
    pub const fn records_every_flow(self) -> bool {
        match self {
            Self::MacSwap | Self::Lbx(SchedulerMode::Maglev | SchedulerMode::Sh) => false,
            Self::Reference
            | Self::LbxInWindow(_)
            | Self::Lbx(SchedulerMode::Rr | SchedulerMode::Wlc | SchedulerMode::Persistent) => true,
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mode, window) = match self {
            Self::MacSwap => return f.write_str("floor"),
            Self::Reference => return f.write_str("reference"),
            Self::Lbx(mode) => (mode, ""),
            Self::LbxInWindow(mode) => (mode, " in a window"),
        };
        let mode = match mode {
            SchedulerMode::Maglev => "maglev",
            SchedulerMode::Sh => "sh",
            SchedulerMode::Rr => "rr",
            SchedulerMode::Wlc => "wlc",
            SchedulerMode::Persistent => "rr, persistent",
        };
        write!(f, "lbx {mode}{window}")
    }
}
