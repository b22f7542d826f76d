//! A real server of the table, and what its moments bring.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    pace::Pace,
    resolution::{ConflictEvent, Due, Resolution},
};
use crate::director::network::topology::ServerRoute;

/// A real server of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// How it is reached.
    pub route: ServerRoute,
    /// What is known of its MAC address.
    pub resolution: Resolution,
    /// When it is to be looked at, as in the schedule.
    pub wake: Instant,
}

impl Entry {
    /// Takes in that time has passed, and sends what is due; an error says when it may be tried again, where others come first.
    pub fn on_time(
        &mut self,
        server: IpAddr,
        now: Instant,
        pace: &mut Pace,
        outcome: &mut Outcome,
    ) -> Result<(), Duration> {
        let Self { route, resolution, .. } = self;
        let mut events = Vec::new();
        let before = resolution.usable_mac();
        resolution.on_time(now, &mut events);
        outcome.has_changed |= resolution.usable_mac() != before;
        outcome
            .conflicts
            .extend(events.into_iter().map(|event| (server, event)));
        let Some(due) = resolution.due(now) else {
            return Ok(());
        };
        let (due, interval) = pace.grant(due, now)?;
        resolution.sent(due, now, interval);
        let mac = match due {
            Due::Unicast(mac) | Due::ConflictCheck(mac) => Some(mac),
            Due::First | Due::Silent(_) | Due::Unresolved => None,
        };
        outcome.solicitations.push(Solicitation {
            ifindex: route.ifindex,
            source: route.source,
            target: server,
            target_mac: mac,
        });
        Ok(())
    }

    /// Has it looked at as soon as there is something to do.
    pub fn reschedule(&mut self, server: IpAddr, schedule: &mut BTreeSet<(Instant, IpAddr)>) {
        let wake = self.resolution.wakes_at();
        if wake < self.wake {
            schedule.remove(&(self.wake, server));
            self.wake = wake;
            schedule.insert((wake, server));
        }
    }
}

/// A solicitation to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// By this device.
    pub ifindex: u32,
    /// From this address of it (DIP).
    pub source: IpAddr,
    /// For this real server.
    pub target: IpAddr,
    /// To this MAC address; none: to the whole segment.
    pub target_mac: Option<[u8; 6]>,
}

/// What a moment has brought.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Whether a next hop is another, or lost, or known now.
    pub has_changed: bool,
    /// Conflicts that have begun or ended, with their real servers.
    pub conflicts: Vec<(IpAddr, ConflictEvent)>,
    /// What is to be sent.
    pub solicitations: Vec<Solicitation>,
}
