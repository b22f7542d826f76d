//! Local traffic of the director to VIPs: probes of real servers, and connections to its own VIPs
//! (see [`lbx_common::session`]).
//!
//! - [`probes`]: sockets of probes, steered to the VIP on one real server
//! - [`ports`]: the local ports they may take
//! - `sessions`: the tables; `sweeper`: expiry of sessions
//! - [`egress`]: the egress program on NICs
//! - [`hooks`]: the socket hooks, at the root of the cgroups

pub mod egress;
pub mod hooks;
pub mod ports;
pub mod probes;
mod sessions;
mod sweeper;

use std::io;

use aya::programs::ProgramError;

use super::DataplaneError;

/// Why local traffic to VIPs cannot be steered.
#[derive(Debug, thiserror::Error)]
pub enum LocalTrafficError {
    /// No cgroup2 file system is mounted.
    #[error("cgroup2 is not mounted: mount it (mount -t cgroup2 none /sys/fs/cgroup/unified)")]
    NoCgroup2,
    /// The root of the cgroups cannot be opened.
    #[error("cannot open the root cgroup {path}")]
    Cgroup {
        /// Where.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refuses to load or to attach a program.
    #[error("cannot attach the program {program}: {why}")]
    Refused {
        /// Its name.
        program: &'static str,
        /// What the kernel says.
        why: String,
    },
    /// A pin cannot be made or removed.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
}

impl LocalTrafficError {
    fn refused(program: &'static str, error: &ProgramError) -> Self {
        Self::Refused {
            program,
            why: super::attach::error_chain(error),
        }
    }
}
