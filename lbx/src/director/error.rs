//! Why a director cannot start or reload.

use super::network::{nics::NicError, topology::TopologyError};
use crate::{
    config::ConfigError,
    dataplane::DataplaneError,
    net::NetError,
    preflight::PreflightError,
    tables::{adopt::AdoptError, plan::PlanError},
};

/// Why a director cannot start or take a new configuration.
#[derive(Debug, thiserror::Error)]
pub enum DirectorError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Privileges, kernel, or another director.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// The network is not as the configuration needs it.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// A NIC cannot be attached to.
    #[error(transparent)]
    Nic(#[from] NicError),
    /// Netlink, ARP or neighbour discovery.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The kernel side.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    /// What a former daemon left cannot be read.
    #[error(transparent)]
    Adopt(#[from] AdoptError<DataplaneError>),
    /// A table is full.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The control socket cannot be made.
    #[error("cannot listen on the control socket")]
    Control(#[source] std::io::Error),
    /// The probing thread cannot be started.
    #[error("cannot start health checks")]
    StartHealthChecks(#[source] std::io::Error),
    /// The thread that probes has ended.
    #[error(
        "the thread of the health checks has ended: start lbx again; real servers keep their last state until then"
    )]
    ProbesStopped,
    /// The netlink socket has failed.
    #[error(
        "the netlink sockets for network changes have failed: start lbx again; packets are forwarded as loaded until then"
    )]
    NetworkEventsLost,
    /// The control socket no longer answers.
    #[error("the control socket has failed: start lbx again; packets are forwarded as loaded until then")]
    ControlSocketClosed,
}
