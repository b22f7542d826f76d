//! The outcomes of a step.

use lbx_common::drops::DropReason;

/// Why a packet is not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not to be balanced: passed to the network stack, untouched.
    Pass,
    /// For a VIP, but dropped.
    Drop(DropReason),
    /// For a service without an eligible backend: `reject` decides.
    NoBackend,
    /// Replaced by an answer to the client, which the ingress NIC sends.
    Rejected,
}

/// The outcome of a step.
pub type VerdictResult<T> = Result<T, Verdict>;
