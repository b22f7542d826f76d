//! Whether real servers do what clients need: probes, and what follows from them.
//!
//! - [`probe`]: whom a probe asks and how its sockets reach the VIP on one real server; [`failure`]: why it failed
//! - [`check`]: what each kind of check asks, and what it takes for an answer
//! - [`probe_plan`]: which targets are probed, and which real servers each result is about
//! - [`watch`]: the thread that probes
//! - [`monitor`]: what one check makes of one real server; [`service`]: what that makes of a service; [`event`]: what there
//!   is to tell

pub mod check;
pub mod event;
pub mod failure;
pub mod monitor;
pub mod probe;
pub mod probe_plan;
pub mod service;
pub mod watch;

pub use self::{
    check::{CheckError, Prepared},
    event::Event,
    failure::Failure,
    monitor::{Change, Monitor},
    probe::{Aim, Dialer, Evidence, Outcome, Passed},
    service::{ProbeState, Services},
};
