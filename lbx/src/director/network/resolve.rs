//! Resolving the real servers' MAC addresses: what hosts state, what is sent, and what the kernel's table holds.

use std::{net::IpAddr, time::Instant};

use super::{
    Network, NextNetwork,
    neighbours::{ConflictEvent, Outcome},
    segment_sockets::SegmentSockets,
    topology::Topology,
};
use crate::{
    director::required_actions::RequiredActions,
    net::{Neighbour, NetError},
    tables::event,
};

impl Network {
    /// Takes in an entry of the kernel's neighbour table.
    pub(super) fn on_neighbour_event(&mut self, neighbour: &Neighbour) -> RequiredActions {
        // Only the table in force has a say in what is loaded.
        if let Some(next) = &mut self.next {
            next.neighbours.on_kernel_entry(neighbour);
        }
        self.kernel_neighbours.on_kernel_entry(neighbour);
        let has_changed = self.neighbours.on_kernel_entry(neighbour);
        if has_changed {
            self.kernel_neighbours.mark_changed();
        }
        RequiredActions::replan_if(has_changed)
    }

    /// Takes in what hosts have stated about their addresses, and solicits the real servers that are due.
    pub fn resolve_neighbours(&mut self) -> RequiredActions {
        let bindings = self.sockets.read();
        self.conflicts.on_bindings(&bindings);
        let now = Instant::now();
        let mut outcome = Outcome::default();
        self.neighbours.on_bindings(&bindings, now, &mut outcome);
        self.neighbours.on_time(now, false, &mut outcome);
        solicit(&mut self.sockets, &self.topology, &outcome);
        if let Some(NextNetwork { topology, neighbours }) = &mut self.next {
            // What happens to real servers in force is logged once.
            let mut outcome = Outcome::default();
            neighbours.on_bindings(&bindings, now, &mut outcome);
            neighbours.on_time(now, true, &mut outcome);
            solicit(&mut self.sockets, topology, &outcome);
        }
        for (real_server, event) in &outcome.conflicts {
            log_conflict(*real_server, event);
        }
        if outcome.has_changed {
            self.kernel_neighbours.mark_changed();
        }
        self.kernel_neighbours.reconcile(self.neighbours.resolved());
        RequiredActions::replan_if(outcome.has_changed)
    }

    /// Reads the kernel's neighbour table into a table of real servers.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn read_kernel_neighbours(&mut self) -> Result<(), NetError> {
        let present = self.netlink.neighbours().await?;
        self.neighbours.on_kernel_table(&present);
        self.kernel_neighbours.on_kernel_table(&present);
        Ok(())
    }

    /// Removes what lbx has put into the kernel's neighbour table.
    pub async fn remove_kernel_neighbours(&mut self) {
        self.kernel_neighbours.remove_all().await;
    }

    /// How many real servers of a new configuration have no MAC address that is known.
    #[must_use]
    pub fn pending_unresolved_count(&self) -> usize {
        self.next.as_ref().map_or(0, |next| next.neighbours.unresolved_count())
    }
}

/// Sends solicitations by the devices of a topology.
fn solicit(sockets: &mut SegmentSockets, topology: &Topology, outcome: &Outcome) {
    for solicitation in &outcome.solicitations {
        let Some(device) = topology.device(solicitation.ifindex) else {
            continue;
        };
        if let Err(error) = sockets.solicit(device.mac, solicitation) {
            let real_server = solicitation.target;
            tracing::debug!(%real_server, error = %anyhow::Error::from(error), "cannot solicit the MAC address");
        }
    }
}

fn log_conflict(real_server: IpAddr, event: &ConflictEvent) {
    let resolver = event::resolver(real_server);
    match *event {
        ConflictEvent::Begun { mac, other } => tracing::warn!(
            %real_server,
            mac = event::mac(mac),
            other_mac = event::mac(other),
            "real server {real_server}: address conflict: {} and {} both answer {resolver} for it; packets go to {} as long \
             as it answers; give one of the two hosts another address",
            event::mac(mac),
            event::mac(other),
            event::mac(mac),
        ),
        ConflictEvent::Ended { other } => tracing::info!(
            %real_server,
            other_mac = event::mac(other),
            "real server {real_server}: address conflict over: {} no longer answers {resolver} for it",
            event::mac(other),
        ),
    }
}
