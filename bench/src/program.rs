//! The programs under test.

use std::fmt;

/// How lbx selects real servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
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
    Floor,
    /// The reference: hash of services and LRU hash of flows.
    Reference,
    /// lbx, all slots without windows.
    Lbx(Mode),
    /// lbx after every real server has been replaced: all slots in windows.
    InWindow(Mode),
}

impl Program {
    /// Whether every flow has an entry in a table.
    pub const fn records(self) -> bool {
        match self {
            Self::Floor | Self::Lbx(Mode::Maglev | Mode::Sh) => false,
            Self::Reference | Self::InWindow(_) | Self::Lbx(Mode::Rr | Mode::Wlc | Mode::Persistent) => true,
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mode, window) = match self {
            Self::Floor => return f.write_str("floor"),
            Self::Reference => return f.write_str("reference"),
            Self::Lbx(mode) => (mode, ""),
            Self::InWindow(mode) => (mode, " in a window"),
        };
        let mode = match mode {
            Mode::Maglev => "maglev",
            Mode::Sh => "sh",
            Mode::Rr => "rr",
            Mode::Wlc => "wlc",
            Mode::Persistent => "rr, persistent",
        };
        write!(f, "lbx {mode}{window}")
    }
}
