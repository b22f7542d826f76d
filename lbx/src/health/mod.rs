//! Health checks of real servers: probes, the states that follow from them, and events.
//!
//! - [`probe`]: the endpoint of a probe, and how its sockets reach the VIP on one real server; [`failure`]: why it failed
//! - [`check`]: the kinds of checks: what each sends and which reply passes
//! - [`probe_plan`]: which targets are probed, and which real servers each result is about
//! - [`probe_thread`]: the thread that probes
//! - [`monitor`]: the state of one check of one real server; [`server_health`]: the state by all of them; [`service`]: the states of
//!   services; [`event`]: what is logged and notified

pub mod check;
pub mod event;
pub mod failure;
pub mod monitor;
pub mod probe;
pub mod probe_plan;
pub mod probe_thread;
pub mod server_health;
pub mod service;

pub use self::{
    check::{CheckError, PreparedCheck},
    event::HealthEvent,
    failure::ProbeFailure,
    monitor::{CheckState, CheckStateChange},
    probe::{Outcome, ProbeEndpoint, ProbeSteering, ProbeSuccess, RequiredTraffic},
    server_health::ServerHealth,
    service::ServiceHealthStates,
};
