//! What became of a packet, held against what may and what must.

use anyhow::{Result, bail, ensure};
use lbx::{
    desired::{RealServer, Scheduler, ServerState},
    tables::templates::REARM_TICKS,
};
use lbx_common::{drops::DropReason, flow::elapsed_ticks, fragment::LIFETIME_TICKS};

use crate::{
    cluster::{Cluster, FORGOTTEN, SERVERS, SORRY, identity, number},
    expectations::persisting,
    expected::Signal,
    history::Kind,
    model::Model,
    packet_case::{PacketCase, PacketOutcome},
    schedule::{self, Loads, Pick},
};

impl Model<'_> {
    /// Holds what became of a packet against what its client may expect, and new connections against the file.
    pub fn verify(&mut self, case: &PacketCase, outcome: PacketOutcome) -> Result<()> {
        match case.kind {
            Kind::Later | Kind::Orphan => return self.judge_fragment(case, outcome),
            _ => {}
        }
        if let Some(expected) = case.expected.filter(|_| case.signal != Signal::Open) {
            let mut clusters = self.in_force.iter();
            let held = |cluster: &Cluster| cluster.holds(expected.service, expected.server);
            let kept = match outcome {
                PacketOutcome::Sent { service, server, .. } => {
                    (service, server) == (expected.service, expected.server) && !clusters.all(held)
                }
                PacketOutcome::Dropped(DropReason::NoBackend) => clusters.any(held),
                _ => false,
            };
            ensure!(kept, "the promise is broken");
            self.tally.kept += 1;
            self.tally.held += u64::from(matches!(outcome, PacketOutcome::Dropped(_)));
            return Ok(());
        }
        match outcome {
            PacketOutcome::Passed => ensure!(case.services.contains(&None), "it has a service"),
            PacketOutcome::Dropped(DropReason::NoBackend) => self.judge_refusal(case)?,
            PacketOutcome::Dropped(reason) => bail!("{reason:?} is no reason"),
            PacketOutcome::Sent { service, server, new } => {
                ensure!(case.services.contains(&Some(service)), "it is not of this service");
                if self.is_new(case, service) {
                    self.judge_new(case, service, server, new)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a packet begins a connection without doubt.
    fn is_new(&self, case: &PacketCase, service: usize) -> bool {
        let now = self.now();
        let seen = self.seen.get(&(case.id, service));
        let fresh = seen.is_none_or(|&seen| elapsed_ticks(seen, now) > FORGOTTEN);
        let one_packet = |cluster: &Cluster| cluster.services[service].service.one_packet;
        let every = self.in_force.iter().all(one_packet) && case.kind != Kind::First;
        let begins = match case.signal {
            Signal::Open => fresh,
            Signal::Datagram => (fresh && self.records_all(service)) || every,
            _ => false,
        };
        self.roomy && begins
    }

    /// Where a new connection outcome.
    fn judge_new(&mut self, case: &PacketCase, service: usize, server: u8, new: bool) -> Result<()> {
        let now = self.now();
        let id = &case.id;
        let mut proper = false;
        for cluster in self
            .in_force
            .iter()
            .filter(|cluster| id.service(cluster) == Some(service))
        {
            let wish = &cluster.services[service].service;
            let eligible = cluster.eligible(service);
            let failed = matches!(cluster.server_state(service, server), ServerState::Down(_));
            let persisted = !failed
                && wish.persistence.is_some_and(|_| {
                    let begun = self.persisted.get(&(service, id.client / 2, server));
                    begun.is_some_and(|&begun| elapsed_ticks(begun, now) <= FORGOTTEN + REARM_TICKS)
                });
            let sorry = server == SORRY && may_refuse(cluster, service, &case.loads);
            proper |= sorry || persisted || eligible.iter().any(|(n, _)| *n == server);
        }
        ensure!(proper, "{server} gets no new connections");
        let [cluster] = self.in_force.as_slice() else {
            return Ok(());
        };
        let cluster = cluster.clone();
        let wish = &cluster.services[service].service;
        ensure!(new, "a new connection was not counted");
        if let Some(persistence) = wish.persistence {
            let Some(template) = self
                .templates
                .get(&(service, persisting(persistence, id.client)))
                .copied()
            else {
                return Ok(());
            };
            // One that has been taken out of the file keeps its connections and gets no new ones, from nobody.
            let state = wish
                .servers
                .iter()
                .find(|other| number(other.address) == template.server);
            let keeps = state.is_some_and(|server| match server.state {
                ServerState::Up | ServerState::SlowStart(_) => server.weight > 0 || persistence.persist_while_draining,
                ServerState::Draining => persistence.persist_while_draining,
                ServerState::Down(_) => false,
            });
            if template.lives(now) && keeps && template.server != SORRY {
                ensure!(server == template.server, "its client persists with {template:?}");
                self.tally.kept += 1;
                self.tally.re_armed += u64::from(template.re_armed);
            }
        }
        Ok(())
    }

    /// Holds whom the scheduler chose against whom it should have chosen.
    pub fn verify_scheduler(&mut self, case: &PacketCase, outcome: PacketOutcome) -> Result<()> {
        let ([cluster], PacketOutcome::Sent { service, server, new }) = (self.in_force.as_slice(), outcome) else {
            return Ok(());
        };
        let wish = &cluster.services[service].service;
        let by_itself = wish.one_packet && !matches!(case.kind, Kind::Later | Kind::Orphan | Kind::Error);
        let scheduled = new || by_itself;
        if !self.roomy || !scheduled || wish.persistence.is_some() {
            return Ok(());
        }
        let eligible = cluster.eligible(service);
        let Some((n, own)) = eligible.iter().find(|(n, _)| *n == server) else {
            return Ok(());
        };
        ensure!(
            !schedule::is_full(*n, own, &case.loads),
            "{server} is full: {:?}",
            case.loads
        );
        let pick = Pick {
            server,
            client: case.id.client,
            port: case.id.port,
            vip_port: case.id.vip_port,
        };
        self.turns[service].check(wish, &eligible, &case.loads, pick)?;
        self.tally.scheduled += 1;
        Ok(())
    }

    /// Whether a packet that nobody got may have been dropped for that.
    fn judge_refusal(&self, case: &PacketCase) -> Result<()> {
        let nobody = self.in_force.iter().any(|cluster| {
            let Some(service) = case.id.service(cluster) else {
                return false;
            };
            let wish = &cluster.services[service].service;
            // A flow that may be older than what is known of it may be of one that is held.
            if !self.is_new(case, service) && (0..SERVERS).any(|server| cluster.holds(service, server)) {
                return true;
            }
            if case.begins() || wish.one_packet {
                may_refuse(cluster, service, &case.loads)
                    && !(cluster.has_sorry(service) && falls_to_sorry(cluster, service))
            } else {
                nobody_is_up(cluster, service)
            }
        });
        ensure!(nobody, "somebody was there to get it");
        Ok(())
    }

    /// A fragment without ports.
    fn judge_fragment(&mut self, case: &PacketCase, outcome: PacketOutcome) -> Result<()> {
        let now = self.now();
        let first = self.fragments.get(&case.id).filter(|first| {
            case.kind == Kind::Later
                && case.fragment == Some(first.id)
                && elapsed_ticks(first.at, now) <= LIFETIME_TICKS
        });
        if let Some(first) = first {
            let PacketOutcome::Sent { service, server, .. } = outcome else {
                bail!("it did not follow {first:?}");
            };
            ensure!(
                (service, server) == (first.service, first.server),
                "it did not follow {first:?}"
            );
            return Ok(());
        }
        match outcome {
            PacketOutcome::Passed => ensure!(
                self.in_force.iter().any(|cluster| !cluster.has_vip(case.id.vip)),
                "it is for a VIP"
            ),
            PacketOutcome::Dropped(DropReason::OrphanFragment | DropReason::NoBackend) => {}
            PacketOutcome::Dropped(reason) => bail!("{reason:?} is no reason"),
            PacketOutcome::Sent { service, .. } => {
                let same = identity(service).vip == case.id.vip && identity(service).protocol == case.id.protocol;
                ensure!(same, "it is for another service");
                let all = identity(service).port == 0;
                ensure!(all || case.kind == Kind::Later, "nobody knows its ports");
            }
        }
        Ok(())
    }
}

/// Whether nobody may be there for new connections but the sorry server.
fn may_refuse(cluster: &Cluster, service: usize, loads: &Loads) -> bool {
    let wish = &cluster.services[service].service;
    let eligible = cluster.eligible(service);
    let limited = wish.servers.iter().any(|server| server.upper_threshold != 0);
    let none = |refuses: &dyn Fn(u8, &RealServer) -> bool| eligible.iter().all(|(n, server)| refuses(*n, server));
    let overflown =
        |n: u8, server: &_| schedule::may_be_full(n, server, loads) || schedule::overflows(n, server, loads);
    nobody_is_up(cluster, service)
        || none(&|n, server| schedule::may_be_full(n, server, loads))
        || (wish.scheduler == Scheduler::Ovf && none(&overflown))
        || (limited && !falls_back(cluster, service))
}

/// Whether some slots may lead nowhere.
fn nobody_is_up(cluster: &Cluster, service: usize) -> bool {
    let wish = &cluster.services[service].service;
    let weighty = wish.servers.iter().filter(|server| server.weight > 0).count();
    let up = cluster.eligible(service).len();
    up == 0 || (up < weighty && !falls_back(cluster, service))
}

/// Whether the hash, if there is one, leads to somebody else where it led to one who gets nothing.
fn falls_back(cluster: &Cluster, service: usize) -> bool {
    let wish = &cluster.services[service].service;
    !wish.scheduler.hashes() || (wish.hash_options.fallback && wish.scheduler != Scheduler::Dh)
}

/// Whether the sorry server takes what nobody else does: a hash without fallback may drop instead.
fn falls_to_sorry(cluster: &Cluster, service: usize) -> bool {
    cluster.eligible(service).is_empty() || falls_back(cluster, service)
}
