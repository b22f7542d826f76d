//! What schedulers promise about new connections, checked against what they did.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use lbx::desired::{RealServer, Scheduler, Service};
use lbx_common::load::BackendLoad;

/// What a service has scheduled since its last change.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    picks: Vec<u8>,
    hashed: BTreeMap<(u8, u8, u16), u8>,
}

/// A new connection and where it outcome.
#[derive(Clone, Copy, Debug)]
pub struct Pick {
    pub server: u8,
    pub client: u8,
    pub port: u8,
    pub vip_port: u16,
}

/// The loads of real servers before a packet.
pub type Loads = BTreeMap<u8, BackendLoad>;

/// Whether a real server may count as having too many connections: it has had as many, or it may have.
pub fn may_be_full(n: u8, server: &RealServer, loads: &Loads) -> bool {
    let load = loads.get(&n).copied().unwrap_or_default();
    let total = u64::from(load.active) + u64::from(load.inactive);
    let (upper, lower) = (u64::from(server.upper_threshold), u64::from(server.lower_threshold));
    let many = if lower == 0 {
        total * 4 >= upper * 3
    } else {
        total >= lower
    };
    upper != 0 && many
}

/// Whether a real server has as many connections as it may have.
pub fn is_full(n: u8, server: &RealServer, loads: &Loads) -> bool {
    let load = loads.get(&n).copied().unwrap_or_default();
    server.upper_threshold != 0 && load.active + load.inactive >= server.upper_threshold
}

/// Whether overflow has put more connections on a real server than its weight.
pub fn overflows(n: u8, server: &RealServer, loads: &Loads) -> bool {
    loads.get(&n).is_some_and(|load| load.active > u32::from(server.weight))
}

impl Turns {
    /// Holds a new connection against what the scheduler says, given those who may get one.
    pub fn check(&mut self, service: &Service, eligible: &[(u8, RealServer)], loads: &Loads, pick: Pick) -> Result<()> {
        let limited = service.servers.iter().any(|server| server.upper_threshold != 0);
        match service.scheduler {
            Scheduler::Rr | Scheduler::Wrr if !limited => self.evenly(service, eligible, pick.server),
            scheduler if scheduler.hashes() && !limited => self.hashed(service, pick),
            scheduler => by_load(scheduler, eligible, loads, pick.server),
        }
    }

    /// Any round holds everyone as often as the weights say.
    fn evenly(&mut self, service: &Service, eligible: &[(u8, RealServer)], server: u8) -> Result<()> {
        self.picks.push(server);
        let weight = |server: &RealServer| match service.scheduler {
            Scheduler::Rr => 1,
            _ => usize::from(server.weight),
        };
        let divisor = eligible.iter().map(|(_, server)| weight(server)).reduce(common_divisor);
        let Some(divisor) = divisor else { return Ok(()) };
        let round: usize = eligible.iter().map(|(_, server)| weight(server) / divisor).sum();
        let Some(start) = self.picks.len().checked_sub(round) else {
            return Ok(());
        };
        let last = &self.picks[start..];
        for (n, server) in eligible {
            let turns = last.iter().filter(|&other| other == n).count();
            let due = weight(server) / divisor;
            ensure!(
                turns == due,
                "{n} had {turns} turns of {round}, {due} are due: {last:?}"
            );
        }
        Ok(())
    }

    /// The same client, as far as it is hashed, has the same real server.
    fn hashed(&mut self, service: &Service, pick: Pick) -> Result<()> {
        let ports = service.hash_options.include_port && service.scheduler != Scheduler::Dh;
        let key = match (service.scheduler, ports) {
            (Scheduler::Dh, _) => (0, 0, 0),
            (_, true) => (pick.client, pick.port, pick.vip_port),
            (_, false) => (pick.client, 0, 0),
        };
        let before = *self.hashed.entry(key).or_insert(pick.server);
        ensure!(before == pick.server, "the hash led to {before} before");
        Ok(())
    }
}

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// Nobody who is not full would have been better.
fn by_load(scheduler: Scheduler, eligible: &[(u8, RealServer)], loads: &Loads, server: u8) -> Result<()> {
    let Some((_, own)) = eligible.iter().find(|(n, _)| *n == server) else {
        return Ok(());
    };
    let cost = |n: u8, server: &RealServer| {
        let load = loads.get(&n).copied().unwrap_or_default();
        let (active, inactive) = (f64::from(load.active), f64::from(load.inactive));
        let weight = f64::from(server.weight);
        match scheduler {
            Scheduler::Lc => active * 256.0 + inactive,
            Scheduler::Wlc => (active * 256.0 + inactive) / weight,
            Scheduler::P2c if same_pair(eligible) => active * 256.0 + inactive,
            Scheduler::Nq if load.active == 0 => 0.0,
            Scheduler::Sed | Scheduler::Nq => (active + 1.0) / weight,
            Scheduler::Fo => -weight,
            Scheduler::Ovf if overflows(n, server, loads) => f64::INFINITY,
            Scheduler::Ovf => -weight,
            _ => 0.0,
        }
    };
    let own = cost(server, own);
    ensure!(own.is_finite(), "{server} has overflowed");
    for (n, other) in eligible.iter().filter(|(n, other)| !may_be_full(*n, other, loads)) {
        let other = cost(*n, other);
        ensure!(own <= other, "{server} costs {own}, {n} only {other}: {loads:?}");
    }
    Ok(())
}

/// Two of one weight: both are looked at.
fn same_pair(eligible: &[(u8, RealServer)]) -> bool {
    matches!(eligible, [(_, a), (_, b)] if a.weight == b.weight && a.upper_threshold == 0 && b.upper_threshold == 0)
}
