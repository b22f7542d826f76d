//! Whether real servers do what clients need: probes, and what follows from them.
//!
//! - [`probe`]: whom a probe asks and how its sockets reach the VIP on one real server; [`failure`]: why it failed
//! - [`check`]: what each kind of check asks, and what it takes for an answer
pub mod check;
pub mod failure;
pub mod probe;

pub use self::{
    check::{CheckError, Prepared},
    failure::Failure,
    probe::{Aim, Dialer, Evidence, Outcome, Passed},
};
