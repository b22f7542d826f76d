//! The socket between the daemon and the operator's commands: `/run/lbx/NAME.sock`, for root alone.
//!
//! A client sends one [`Request`] as a line of JSON. `list` is answered by one [`StatusReport`] line; `trace` by a line of text
//! for every decision, until the client goes.

pub mod client;
pub mod report;
pub mod scheduling;
pub mod server;
pub mod table;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use self::report::StatusReport;

/// The name of a director that was given none.
pub const DEFAULT_NAME: &str = "lbx";

/// What a client may ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "lowercase")]
pub enum Request {
    /// Everything there is to list.
    List,
    /// Decisions as they are made.
    Trace(TraceRequest),
}

/// The packets that are traced; with neither, all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceRequest {
    /// A client.
    pub client: Option<IpAddr>,
    /// A service, by name.
    pub service: Option<String>,
}

/// How a request is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Response {
    /// The list.
    Report(Box<StatusReport>),
    /// A decision.
    Trace(String),
    /// It cannot be answered, and why.
    Error(String),
}
