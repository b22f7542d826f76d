//! The outcomes of a step.

use lbx_common::drops::DropReason;

/// Why a packet is not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not to be balanced: passed to the network stack, untouched.
    Pass,
    /// For a VIP, but dropped.
    Drop(DropReason),
}

/// The outcome of a step.
pub type VerdictResult<T> = Result<T, Verdict>;
