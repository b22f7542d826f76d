//! Real servers' MAC addresses: solicited by lbx itself, from what they answer.
//!
//! Every real server is solicited about once a second, by unicast ([`resolution`]), where there are many of them less often
//! ([`pace`]); the whole segment is solicited only for those that are silent, and for one real server a second, to find others
//! that have its address. Behind a NIC without a carrier no answer is possible: its real servers keep their MAC addresses
//! until it is back. An entry of the kernel's table that the operator or another program keeps is used as it is.

pub mod entry;
pub mod pace;
pub mod resolution;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::Bound,
    time::{Duration, Instant},
};

use self::{
    entry::Entry,
    pace::{Counts, Pace},
    resolution::Resolution,
};
use super::{segment::Segment, topology::Topology};
use crate::{
    net::{AddressBinding, Keeper, Neighbour},
    tables::{NextHop, NextHops, Tables},
};

pub use self::{
    entry::{Outcome, Solicitation},
    resolution::ConflictEvent,
};

/// Between two solicitations of segments for real servers that answer.
const CONFLICT_PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Between two of them for the same real server.
const CONFLICT_PROBE_ROUND: Duration = Duration::from_secs(10);

/// Between two looks at a real server that cannot be solicited now.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);
/// Frames at a time that others come before: the rest is looked at the next time.
const MAX_DEFERRED: usize = 1_000;
/// Between two counts of real servers by what they need.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// The MAC address of every real server.
#[derive(Clone, Debug, Default)]
pub struct NeighbourTable {
    servers: BTreeMap<IpAddr, Entry>,
    /// When each is to be looked at, the next one first.
    schedule: BTreeSet<(Instant, IpAddr)>,
    /// When they were counted.
    counted: Option<Instant>,
    /// NICs without a carrier.
    disconnected: BTreeSet<u32>,
    /// Real servers whose route is gone for a moment: they keep their MAC addresses.
    kept: BTreeSet<IpAddr>,
    pace: Pace,
    /// The real server that the segment was solicited for last, and when it is for the next one.
    conflict_probe: (Option<IpAddr>, Option<Instant>),
}

impl NeighbourTable {
    /// The table for another topology, with the MAC addresses that stay known; to be filled while this one stays in force.
    #[must_use]
    pub fn for_topology(&self, topology: &Topology) -> Self {
        let mut table = Self {
            kept: BTreeSet::new(),
            ..self.clone()
        };
        table.set_topology(topology);
        table
    }

    /// Puts another table into force; returns the one before.
    pub fn replace(&mut self, other: Self) -> Self {
        std::mem::replace(self, other)
    }

    /// Takes over a topology: new real servers are unresolved, those with another route become so.
    pub fn set_topology(&mut self, topology: &Topology) {
        let now = Instant::now();
        let mut before = std::mem::take(&mut self.servers);
        for (&server, &route) in &topology.server_routes {
            let known = before.remove(&server).filter(|known| known.route == route);
            let unknown = || Entry {
                route,
                resolution: Resolution::unknown(now),
                wake: now,
            };
            self.servers.insert(server, known.unwrap_or_else(unknown));
        }
        self.schedule = self
            .servers
            .iter()
            .map(|(&server, known)| (known.wake, server))
            .collect();
        self.counted = None;
        // Those that have their route again get as long as behind a NIC that has its carrier again.
        for server in self
            .kept
            .iter()
            .filter(|server| !topology.route_lost_since.contains_key(*server))
        {
            if let Some(known) = self.servers.get_mut(server) {
                known.resolution.restart(now);
                known.reschedule(*server, &mut self.schedule);
            }
        }
        self.kept = topology.route_lost_since.keys().copied().collect();
        for device in topology.devices() {
            self.on_carrier(device.index, device.up && device.carrier);
        }
    }

    /// Takes MAC addresses over from adopted tables: better old ones than none until the real servers have answered.
    pub fn adopt_macs(&mut self, tables: &Tables) {
        let now = Instant::now();
        let members = tables.services.values().flat_map(|service| service.backends.values());
        for member in members.filter(|member| member.state.may_own_flows()) {
            if let Some(known) = self.servers.get_mut(&member.address)
                && known.route.segment == Segment::from(&member.next_hop)
            {
                known.resolution.adopt(member.next_hop.mac, now);
                known.reschedule(member.address, &mut self.schedule);
            }
        }
    }

    /// Takes in an entry of the kernel's neighbour table; whether that changes a next hop.
    pub fn on_kernel_entry(&mut self, neighbour: &Neighbour) -> bool {
        let Some(known) = self.servers.get_mut(&neighbour.address) else {
            return false;
        };
        if known.route.ifindex != neighbour.ifindex {
            return false;
        }
        let resolution = &mut known.resolution;
        let before = resolution.usable_mac();
        let kept_by_other = neighbour.keeper == Keeper::Other;
        resolution.on_kernel_entry(neighbour.mac, kept_by_other, Instant::now());
        let has_changed = resolution.usable_mac() != before;
        known.reschedule(neighbour.address, &mut self.schedule);
        has_changed
    }

    /// Takes in the kernel's whole table; whether that changes a next hop.
    pub fn on_kernel_table(&mut self, present: &[Neighbour]) -> bool {
        let here: BTreeSet<(u32, IpAddr)> = present.iter().map(|entry| (entry.ifindex, entry.address)).collect();
        let now = Instant::now();
        for (&server, known) in &mut self.servers {
            if known.resolution.is_kept_by_other() && !here.contains(&(known.route.ifindex, server)) {
                known.resolution.on_kernel_entry(None, false, now);
                known.reschedule(server, &mut self.schedule);
            }
        }
        let changes = present.iter().filter(|neighbour| self.on_kernel_entry(neighbour));
        changes.count() > 0
    }

    /// Takes in what hosts have stated by each device, in order.
    pub fn on_bindings(&mut self, bindings: &[(u32, AddressBinding)], now: Instant, outcome: &mut Outcome) {
        let mut events = Vec::new();
        for (ifindex, binding) in bindings {
            let Some(known) = self.servers.get_mut(&binding.address) else {
                continue;
            };
            if known.route.ifindex != *ifindex {
                continue;
            }
            let before = known.resolution.usable_mac();
            known.resolution.on_binding(binding.mac, now, &mut events);
            outcome.has_changed |= known.resolution.usable_mac() != before;
            outcome
                .conflicts
                .extend(events.drain(..).map(|event| (binding.address, event)));
            known.reschedule(binding.address, &mut self.schedule);
        }
    }

    /// Takes in that time has passed: what has not been answered, and what is to be sent. `unresolved_only`: what answers already
    /// is another table's affair.
    pub fn on_time(&mut self, now: Instant, unresolved_only: bool, outcome: &mut Outcome) {
        if self.counted.is_none_or(|at| now - at >= COUNT_INTERVAL) {
            self.counted = Some(now);
            self.pace.set_counts(self.counts());
        }
        let mut deferred = 0;
        while deferred < MAX_DEFERRED
            && let Some(&(wake, server)) = self.schedule.first()
            && wake <= now
        {
            self.schedule.pop_first();
            let Some(known) = self.servers.get_mut(&server) else {
                continue;
            };
            let is_idle = self.kept.contains(&server)
                || self.disconnected.contains(&known.route.ifindex)
                || known.resolution.is_kept_by_other()
                || (unresolved_only && known.resolution.usable_mac().is_some());
            known.wake = if is_idle {
                now + IDLE_INTERVAL
            } else {
                match known.on_time(server, now, &mut self.pace, outcome) {
                    Ok(()) => known.resolution.wakes_at().max(now + Duration::from_millis(1)),
                    Err(retry) => {
                        deferred += 1;
                        now + retry
                    }
                }
            };
            self.schedule.insert((known.wake, server));
        }
        if !unresolved_only {
            outcome.solicitations.extend(self.due_conflict_probe(now));
        }
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (server, Entry { resolution, .. }) in &self.servers {
            if !resolution.is_kept_by_other() && !self.is_disconnected(*server) {
                counts.solicited += 1;
                counts.silent += usize::from(resolution.is_silent());
                counts.unresolved += usize::from(resolution.usable_mac().is_none());
            }
        }
        counts
    }

    /// The solicitation of a segment for the next real server that answers: others may have its address too.
    fn due_conflict_probe(&mut self, now: Instant) -> Option<Solicitation> {
        let (last, at) = self.conflict_probe;
        if at.is_some_and(|at| now < at) {
            return None;
        }
        let after_last = (last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let next = self.servers.range(after_last).next().or(self.servers.iter().next());
        let (&server, Entry { route, resolution, .. }) = next?;
        let interval = CONFLICT_PROBE_ROUND / u32::try_from(self.servers.len()).unwrap_or(u32::MAX);
        self.conflict_probe = (Some(server), Some(now + interval.max(CONFLICT_PROBE_INTERVAL)));
        let answers = resolution.usable_mac().is_some() && !resolution.is_kept_by_other();
        (answers && !self.is_disconnected(server)).then_some(Solicitation {
            ifindex: route.ifindex,
            source: route.source,
            target: server,
            target_mac: None,
        })
    }

    /// Takes in whether a NIC has a carrier.
    pub fn on_carrier(&mut self, ifindex: u32, carrier: bool) {
        if !carrier {
            self.disconnected.insert(ifindex);
        } else if self.disconnected.remove(&ifindex) {
            let now = Instant::now();
            for (&server, known) in &mut self.servers {
                if known.route.ifindex == ifindex {
                    known.resolution.restart(now);
                    known.reschedule(server, &mut self.schedule);
                }
            }
        }
    }

    /// Whether a real server cannot be solicited: it is behind a NIC without a carrier, or its route is gone
    /// for a moment.
    #[must_use]
    pub fn is_disconnected(&self, server: IpAddr) -> bool {
        if self.kept.contains(&server) {
            return true;
        }
        let known = self.servers.get(&server);
        known.is_some_and(|known| self.disconnected.contains(&known.route.ifindex))
    }

    /// The next hops of real servers whose MAC address is known.
    #[must_use]
    pub fn next_hops(&self, topology: &Topology) -> NextHops {
        let hop = |(&server, known): (&IpAddr, &Entry)| {
            let Segment {
                ifindex,
                vlan_tags: vlan,
            } = known.route.segment;
            let hop = NextHop {
                mac: known.resolution.usable_mac()?,
                ifindex,
                vlan_tags: vlan,
                source: topology.segments.get(&known.route.segment)?.device.mac,
            };
            Some((server, hop))
        };
        self.servers.iter().filter_map(hop).collect()
    }

    /// The devices and MAC addresses of real servers that lbx resolves, for the kernel's own packets to them. It has none behind
    /// a NIC without a carrier.
    pub fn resolved(&self) -> impl Iterator<Item = (IpAddr, (u32, [u8; 6]))> {
        self.servers
            .iter()
            .filter_map(|(&server, Entry { route, resolution, .. })| {
                let is_ours = !resolution.is_kept_by_other() && !self.disconnected.contains(&route.ifindex);
                let mac = resolution.usable_mac().filter(|_| is_ours)?;
                Some((server, (route.ifindex, mac)))
            })
    }

    /// The MAC addresses of other hosts that have the address of a real server.
    pub fn conflicting_macs(&self, server: IpAddr) -> impl Iterator<Item = [u8; 6]> {
        let known = self.servers.get(&server);
        known.into_iter().flat_map(|known| known.resolution.conflicting_macs())
    }

    /// Whether the MAC address of a real server is known.
    #[must_use]
    pub fn is_resolved(&self, server: IpAddr) -> bool {
        self.servers
            .get(&server)
            .is_some_and(|known| known.resolution.usable_mac().is_some())
    }

    /// How many real servers have no MAC address.
    #[must_use]
    pub fn unresolved_count(&self) -> usize {
        let unresolved = self
            .servers
            .values()
            .filter(|known| known.resolution.usable_mac().is_none());
        unresolved.count()
    }
}

#[cfg(test)]
mod tests;
