//! The real server's side of direct server return: it accepts the VIP, and answers nobody who asks the
//! segment for it.
//!
//! - [`rules`]: what has to hold, judged from what was observed: pure, shared by all that follows;
//! - [`observe`]: what there is: links, addresses, routes, sysctls;
//! - [`sysctl`]: the ARP sysctls of NICs;
//! - [`state`]: what there was before, so that it can be restored;
//! - [`agent`]: applies the rules and keeps them;
//! - [`undo`]: undoes them.

pub mod agent;
pub mod observe;
pub mod rules;
pub mod state;
pub mod sysctl;
pub mod undo;

use std::{collections::BTreeSet, fmt::Write as _, io, net::IpAddr, path::PathBuf};

use crate::{
    desired::{DesiredState, Service},
    exit::ExitStatus,
    net::{InterfaceAddress, NetError},
    preflight::PreflightError,
};

use self::rules::Finding;

/// What can go wrong on a real server.
#[derive(Debug, thiserror::Error)]
pub enum RealServerError {
    /// A netlink request failed.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A file could not be read or written: a sysctl, the state, the lock.
    #[error("cannot {action} {}", path.display())]
    File {
        /// Read, write, ….
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The state file is not one of ours.
    #[error("state file {} is corrupt, former ARP sysctls cannot be restored from it: remove it, and set arp_ignore and arp_announce back by hand when lbx is no longer used", path.display())]
    InvalidStateFile {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// A privilege is missing, or another process looks after the same real server.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// There is no loopback interface.
    #[error("this network namespace has no interface named lo to put the VIP on")]
    NoLoopback,
    /// The netlink socket for changes has failed.
    #[error(
        "the netlink socket for network changes has failed: start lbx realserver again; VIPs on lo, their routes and ARP sysctls stay in place"
    )]
    WatchFailed,
    /// Something stands in the way of all VIPs that only the operator can decide about.
    #[error("nothing was changed, the operator has to act first: {}", reasons(.0))]
    AllVipsBlocked(Vec<Finding>),
    /// Something stands in the way of some VIPs.
    #[error("the other VIPs are ready, for these the operator has to act: {}", reasons(.0))]
    SomeVipsBlocked(Vec<Finding>),
}

impl RealServerError {
    /// The exit status it ends with.
    #[must_use]
    pub fn exit_status(&self) -> ExitStatus {
        let errno = match self {
            Self::Net(error) => error.errno(),
            Self::File { source, .. } => source.raw_os_error(),
            Self::InvalidStateFile { .. } | Self::WatchFailed => None,
            Self::Preflight(error) => return error.exit_status(),
            Self::NoLoopback | Self::AllVipsBlocked(_) | Self::SomeVipsBlocked(_) => return ExitStatus::Network,
        };
        match errno {
            Some(libc::EPERM | libc::EACCES | libc::EROFS) => ExitStatus::Privilege,
            _ => ExitStatus::Failure,
        }
    }
}

fn reasons(findings: &[Finding]) -> String {
    let mut text = String::new();
    for (number, finding) in findings.iter().enumerate() {
        let separator = if number == 0 { "" } else { "; " };
        // Writing to a String does not fail.
        let _ = write!(text, "{separator}{}", finding.violation());
    }
    text
}

/// The VIPs that the host with these addresses serves: those of the services that list one of them, or have one stand in.
#[must_use]
pub fn vips_for_host(desired: &DesiredState, own: &[InterfaceAddress]) -> BTreeSet<IpAddr> {
    let own: BTreeSet<_> = own.iter().map(|own| own.address).collect();
    let lists_us = |service: &&Service| service.server_addresses().any(|address| own.contains(&address));
    let services = desired.services.iter().filter(lists_us);
    services.map(|service| service.virtual_service.vip).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn takes_the_vips_of_its_own_services() {
        let text = "
interface: eth0
services:
  - {vip: 192.168.1.160, port: 80, realservers: [192.168.1.185, 192.168.1.190]}
  - {vip: 192.168.1.160, port: 443, realservers: [192.168.1.190]}
  - {vip: 192.168.1.161, port: 80, realservers: [192.168.1.185]}
";
        let desired = crate::config::parse(text, Path::new("lb.yaml")).unwrap();
        let own = |address: [u8; 4]| InterfaceAddress {
            ifindex: 2,
            address: address.into(),
            prefix_len: 24,
            added_by_lbx: false,
        };
        let vips = |address| vips_for_host(&desired, &[own([127, 0, 0, 1]), own(address)]);
        let (web, other) = (IpAddr::from([192, 168, 1, 160]), IpAddr::from([192, 168, 1, 161]));
        assert_eq!(vips([192, 168, 1, 190]), BTreeSet::from([web]));
        assert_eq!(vips([192, 168, 1, 185]), BTreeSet::from([web, other]));
        assert!(vips([192, 168, 1, 99]).is_empty());
    }
}
