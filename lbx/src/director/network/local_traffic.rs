//! The director's own traffic to VIPs: its probes, and whatever else on this host uses them.

use std::{collections::BTreeSet, time::Instant};

use super::topology::Topology;
use crate::{dataplane::Dataplane, desired::DesiredState};

/// Failures as they were logged last, so that each is logged once.
#[derive(Debug, Default)]
pub struct LocalTraffic {
    egress: String,
    hooks: String,
}

impl LocalTraffic {
    /// Has the program on every device that the director's own packets to VIPs leave by, and on its sockets, as far as the
    /// desired state and `probes_vips` want them. What another process has detached is attached again. What cannot be attached is logged, and
    /// tried again.
    pub fn reconcile(
        &mut self,
        dataplane: &mut Dataplane,
        topology: &Topology,
        desired: &DesiredState,
        probes_vips: bool,
    ) {
        let local = desired.services.iter().any(|service| service.local_access);
        let devices: BTreeSet<u32> = if local || probes_vips {
            topology.server_routes.values().map(|route| route.ifindex).collect()
        } else {
            BTreeSet::new()
        };
        let failed = dataplane.reconcile_egress_programs(&devices);
        let failed: Vec<String> = failed
            .into_iter()
            .map(|(device, error)| {
                let name = topology.device(device).map_or("?", |device| device.name.as_str());
                format!("{name}: {:#}", anyhow::Error::from(error))
            })
            .collect();
        log_once(
            &mut self.egress,
            failed.join("; "),
            "health checks and local connections can't reach VIPs on real servers",
        );
        let hooked = dataplane.set_local_vip_access(local).err();
        let reason = hooked.map(|error| format!("{:#}", anyhow::Error::from(error)));
        log_once(
            &mut self.hooks,
            reason.unwrap_or_default(),
            "local connections to VIPs not possible on this host",
        );
        if let Err(error) = dataplane.probe_sessions().expire_leases_and_sessions(Instant::now()) {
            tracing::error!(
                "cannot remove expired sessions of health checks and local connections, retrying: {:#}",
                anyhow::Error::from(error)
            );
        }
    }
}

fn log_once(last: &mut String, reason: String, consequence: &str) {
    if *last != reason && !reason.is_empty() {
        tracing::error!("{consequence}: {reason}");
    }
    *last = reason;
}
