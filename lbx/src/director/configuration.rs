//! The configuration: the file, the desired state that is in force, and one that is being loaded.

use std::{path::PathBuf, time::Duration};

use tokio::time::Instant;

use crate::desired::DesiredState;

/// How long a start or reload waits for the MAC addresses of so many new real servers: solicitations are paced.
#[must_use]
pub fn resolve_timeout(unresolved: usize) -> Duration {
    Duration::from_millis(1_500) + Duration::from_millis(1) * u32::try_from(unresolved).unwrap_or(u32::MAX)
}

/// The file and what of it is in force.
#[derive(Debug)]
pub struct Configuration {
    /// Where the file is.
    pub file: PathBuf,
    /// The desired state in force.
    pub desired: DesiredState,
    /// A reload that waits for MAC addresses.
    pending: Option<PendingReload>,
}

/// A valid configuration that waits for the MAC addresses of its real servers.
#[derive(Debug)]
struct PendingReload {
    desired: DesiredState,
    /// When it is loaded, whatever is known then.
    deadline: Instant,
}

impl Configuration {
    /// A configuration that is in force.
    #[must_use]
    pub const fn new(file: PathBuf, desired: DesiredState) -> Self {
        Self {
            file,
            desired,
            pending: None,
        }
    }

    /// Keeps a valid desired state until it can be loaded: until the MAC addresses of so many real servers are known, or have
    /// had their time. One that waits already is replaced.
    pub fn set_pending(&mut self, desired: DesiredState, unresolved: usize) {
        self.pending = Some(PendingReload {
            desired,
            deadline: Instant::now() + resolve_timeout(unresolved),
        });
    }

    /// Whether a reload waits.
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Waits until a pending reload is loaded, whatever is known then.
    pub async fn wait_for_pending(&self) {
        match &self.pending {
            Some(pending) => tokio::time::sleep_until(pending.deadline).await,
            None => std::future::pending().await,
        }
    }

    /// The pending desired state, if it can be loaded now: every MAC address is known, or it has waited long enough.
    pub fn take_pending_if_ready(&mut self, resolving: bool) -> Option<DesiredState> {
        let ready = |pending: &mut PendingReload| !resolving || Instant::now() >= pending.deadline;
        self.pending.take_if(ready).map(|pending| pending.desired)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    fn desired(vip: &str) -> DesiredState {
        let text = format!("interface: eth0\nservices:\n  - {{ vip: {vip}, port: 80, realservers: [10.0.0.1] }}\n");
        config::parse(&text, Path::new("test.yaml")).expect("a valid file")
    }

    #[test]
    fn a_reload_waits_for_mac_addresses_but_not_for_ever() {
        let mut configuration = Configuration::new(PathBuf::new(), desired("192.0.2.1"));
        assert!(
            configuration.take_pending_if_ready(false).is_none(),
            "nothing is pending"
        );
        configuration.set_pending(desired("192.0.2.2"), 1);
        assert!(configuration.take_pending_if_ready(true).is_none());
        assert!(configuration.take_pending_if_ready(false).is_some(), "all are resolved");
        configuration.set_pending(desired("192.0.2.2"), 1);
        let pending = configuration.pending.as_mut().expect("it waits");
        pending.deadline = Instant::now();
        assert!(configuration.take_pending_if_ready(true).is_some(), "the time is over");
    }
}
