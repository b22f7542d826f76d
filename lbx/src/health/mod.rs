//! Whether real servers do what clients need: probes, and what follows from them.
//!
//! - [`probe`]: whom a probe asks and how its sockets reach the VIP on one real server; [`failure`]: why it failed
pub mod failure;
pub mod probe;

pub use self::{
    failure::Failure,
    probe::{Aim, Dialer, Evidence, Outcome, Passed},
};
