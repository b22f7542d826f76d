//! The director's own traffic to VIPs: its probes, and whatever else on this host uses them.

use std::{collections::BTreeSet, time::Instant};

use super::Director;
use crate::desired::{Desired, Target};

/// What was told last, so that it is told once.
#[derive(Debug, Default)]
pub struct Own {
    egress: String,
    hooks: String,
}

impl Director {
    /// Has the program on every device that the director's own packets to VIPs leave by, and on its sockets, as far as the
    /// desired state wants them. What somebody has detached is attached again. What cannot be is told, and tried again.
    pub(super) fn follow_own_traffic(&mut self) {
        let local = self.desired.services.iter().any(|service| service.local);
        let devices: BTreeSet<u32> = if local || probes_vips(&self.desired) {
            self.topology.ways.values().map(|way| way.ifindex).collect()
        } else {
            BTreeSet::new()
        };
        let failed = self.dataplane.sync_egress(&devices);
        let failed: Vec<String> = failed
            .into_iter()
            .map(|(device, error)| {
                let name = self.topology.device(device).map_or("?", |device| device.name.as_str());
                format!("{name}: {:#}", anyhow::Error::from(error))
            })
            .collect();
        tell_once(
            &mut self.own.egress,
            failed.join("; "),
            "neither probes nor this host itself can reach VIPs on real servers",
        );
        let hooked = self.dataplane.set_local_vips(local).err();
        let reason = hooked.map(|error| format!("{:#}", anyhow::Error::from(error)));
        tell_once(
            &mut self.own.hooks,
            reason.unwrap_or_default(),
            "this host itself cannot use the VIPs",
        );
        if let Err(error) = self.dataplane.probes().sweep(Instant::now()) {
            tracing::error!("cannot sweep the sessions of probes: {:#}", anyhow::Error::from(error));
        }
    }
}

fn probes_vips(desired: &Desired) -> bool {
    let mut checks = desired.services.iter().filter_map(|service| service.health.as_ref());
    checks.any(|health| health.target == Target::Vip)
}

fn tell_once(last: &mut String, reason: String, consequence: &str) {
    if *last != reason && !reason.is_empty() {
        tracing::error!("{consequence}: {reason}");
    }
    *last = reason;
}
