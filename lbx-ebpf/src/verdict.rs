//! What a step may end with.

use lbx_common::drops::DropReason;

/// Why a packet leaves the straight way early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Not ours: to the network stack, untouched.
    Pass,
    /// Ours and not to be forwarded.
    Drop(DropReason),
}

/// The outcome of a step.
pub type Step<T> = Result<T, Exit>;
