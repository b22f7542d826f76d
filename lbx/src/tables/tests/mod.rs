//! Tests of the tables as a whole: no kernel, no network, no clock but a simulated one.
//!
//! - [`image`]: the maps in plain memory; [`packets`]: the packet rules over them
//! - [`cluster`], [`daemon`]: a small configuration and a daemon that plans for it; [`plans`], [`expiry`],
//!   [`server_states`], [`draining`]: examples
//! - [`model`], [`history`]: random histories; [`promise`], [`adoption`], [`invariants`]: what holds in all of them;
//!   [`regressions`]: those in which it once did not

mod adoption;
mod cluster;
mod daemon;
mod draining;
mod expiry;
mod history;
mod image;
mod invariants;
mod model;
mod packets;
mod plans;
mod promise;
mod regressions;
mod server_states;
mod signals;
