//! What is probed, and whom it speaks for: services that agree in a check share it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use crate::desired::{Check, Desired, Health, Protocol, Service, Target, VirtualService};

/// One check of one real server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProbeTarget {
    /// The real server.
    pub rip: IpAddr,
    /// The VIP that is asked for.
    pub vip: IpAddr,
    /// The port.
    pub port: u16,
    /// Protocol of the service.
    pub protocol: Protocol,
    /// How much is asked.
    pub depth: Depth,
    /// What is asked, and how often.
    pub health: Arc<Health>,
}

impl ProbeTarget {
    /// Whether another probe_target asks the same of the same, be it at other times or by other numbers.
    #[must_use]
    pub fn asks_the_same(&self, other: &Self) -> bool {
        let whom = |probe_target: &Self| {
            (
                probe_target.rip,
                probe_target.vip,
                probe_target.port,
                probe_target.protocol,
                probe_target.depth,
            )
        };
        whom(self) == whom(other)
            && (&self.health.check, self.health.target) == (&other.health.check, other.health.target)
    }
}

/// How much is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Depth {
    /// The whole check.
    Full,
    /// Whether the VIP is there at all: the whole check is made on another VIP of the same real server.
    Presence,
}

/// A real server of a service.
pub type Place = (VirtualService, IpAddr);

/// The probe_targets that speak for each real server that is checked: it is up if all of them are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbePlan(BTreeMap<Place, Vec<ProbeTarget>>);

impl ProbePlan {
    /// Whom to probe for a desired state.
    #[must_use]
    pub fn of(desired: &Desired) -> Self {
        let mut first: BTreeMap<Shared<'_>, IpAddr> = BTreeMap::new();
        for (service, health, rip) in checked(desired) {
            let vip = service.virtual_service.vip;
            first
                .entry(Shared::of(service, health, rip))
                .and_modify(|least| *least = vip.min(*least))
                .or_insert(vip);
        }
        let speakers = checked(desired).map(|(service, health, rip)| {
            let shared = Shared::of(service, health, rip);
            let (own, full) = (service.virtual_service.vip, first[&shared]);
            let probe_target = |vip, depth| ProbeTarget {
                rip,
                vip,
                port: shared.port,
                protocol: shared.protocol,
                depth,
                health: Arc::clone(health),
            };
            let mut probe_targets = vec![probe_target(full, Depth::Full)];
            if own != full && asks_for_vip(health) {
                probe_targets.push(probe_target(own, Depth::Presence));
            }
            ((service.virtual_service, rip), probe_targets)
        });
        Self(speakers.collect())
    }

    /// The probe_targets that speak for a real server of a service; none: it is not checked.
    #[must_use]
    pub fn speakers(&self, place: Place) -> &[ProbeTarget] {
        self.0.get(&place).map_or(&[], Vec::as_slice)
    }

    /// Every probe_target with those it speaks for.
    #[must_use]
    pub fn probe_targets(&self) -> BTreeMap<&ProbeTarget, BTreeSet<Place>> {
        let mut probe_targets: BTreeMap<&ProbeTarget, BTreeSet<Place>> = BTreeMap::new();
        for (&place, speakers) in &self.0 {
            for probe_target in speakers {
                probe_targets.entry(probe_target).or_default().insert(place);
            }
        }
        probe_targets
    }
}

/// What services must agree in to share a check. A command is told the VIP, so it is another for each.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Shared<'d> {
    rip: IpAddr,
    port: u16,
    protocol: Protocol,
    vip: Option<IpAddr>,
    health: &'d Health,
}

impl<'d> Shared<'d> {
    fn of(service: &Service, health: &'d Health, rip: IpAddr) -> Self {
        let id = service.virtual_service;
        Self {
            rip,
            port: health.port.unwrap_or(id.port),
            protocol: id.protocol,
            vip: matches!(health.check, Check::Exec(_)).then_some(id.vip),
            health,
        }
    }
}

fn checked<'d>(desired: &'d Desired) -> impl Iterator<Item = (&'d Service, &'d Arc<Health>, IpAddr)> {
    let with_health = |service: &'d Service| service.health.as_ref().map(|health| (service, health));
    desired
        .services
        .iter()
        .filter_map(with_health)
        .flat_map(|(service, health)| {
            service
                .servers
                .iter()
                .map(move |server| (service, health, server.address))
        })
}

/// Whether a check goes to the VIP, so that another VIP is another matter.
const fn asks_for_vip(health: &Health) -> bool {
    matches!(health.target, Target::Vip) && !matches!(health.check, Check::Exec(_) | Check::Ping)
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use super::*;
    use crate::{
        config,
        desired::{Exec, Initial},
    };

    fn vip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn rip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn health(check: Check, target: Target) -> Arc<Health> {
        Arc::new(Health {
            check,
            target,
            port: None,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            initial: Initial::First,
            jitter: 10,
            damping: None,
        })
    }

    /// Services of these VIPs, each with two real servers.
    fn desired(vips: &[u8], health: Option<&Arc<Health>>) -> Desired {
        let list = vips
            .iter()
            .map(|last| format!("  - {{ vip: 192.0.2.{last}, port: 80, realservers: [10.0.0.1, 10.0.0.2] }}\n"));
        let text = format!("interface: eth0\nservices:\n{}", list.collect::<String>());
        let mut desired = config::parse(&text, Path::new("test.yaml")).expect("a good file");
        for service in &mut desired.services {
            service.health = health.map(Arc::clone);
        }
        desired
    }

    fn place(desired: &Desired, service: usize, server: u8) -> Place {
        (desired.services[service].virtual_service, rip(server))
    }

    fn asked(probe_plan: &ProbePlan, place: Place) -> Vec<(IpAddr, Depth)> {
        let speakers = probe_plan.speakers(place).iter();
        speakers
            .map(|probe_target| (probe_target.vip, probe_target.depth))
            .collect()
    }

    #[test]
    fn what_is_not_checked_has_no_speakers() {
        let desired = desired(&[1], None);
        let probe_plan = ProbePlan::of(&desired);
        assert_eq!(asked(&probe_plan, place(&desired, 0, 1)), []);
        assert!(probe_plan.probe_targets().is_empty());
    }

    #[test]
    fn one_full_check_for_many_vips_and_a_look_at_each_of_the_others() {
        let desired = desired(&[7, 3, 5], Some(&health(Check::Tcp, Target::Vip)));
        let probe_plan = ProbePlan::of(&desired);
        let full = (vip(3), Depth::Full);
        assert_eq!(
            asked(&probe_plan, place(&desired, 0, 1)),
            [full, (vip(7), Depth::Presence)]
        );
        assert_eq!(asked(&probe_plan, place(&desired, 1, 1)), [full]);
        assert_eq!(
            asked(&probe_plan, place(&desired, 2, 2)),
            [full, (vip(5), Depth::Presence)]
        );
        let probe_targets = probe_plan.probe_targets();
        assert_eq!(probe_targets.len(), 6, "three for each real server");
        let fully = probe_targets
            .iter()
            .filter(|(probe_target, _)| probe_target.depth == Depth::Full);
        assert!(fully.clone().count() == 2 && fully.clone().all(|(_, places)| places.len() == 3));
    }

    #[test]
    fn what_asks_the_rip_is_asked_once() {
        for health in [health(Check::Tcp, Target::Rip), health(Check::Ping, Target::Vip)] {
            let probe_plan = ProbePlan::of(&desired(&[1, 2, 3], Some(&health)));
            assert_eq!(probe_plan.probe_targets().len(), 2);
        }
    }

    #[test]
    fn a_command_is_told_the_vip_and_so_runs_for_each() {
        let exec = Check::Exec(Exec {
            command: vec!["/bin/true".to_owned()],
            environment: BTreeMap::new(),
            weight: false,
        });
        let probe_plan = ProbePlan::of(&desired(&[1, 2], Some(&health(exec, Target::Vip))));
        assert_eq!(probe_plan.probe_targets().len(), 4);
        assert!(
            probe_plan
                .probe_targets()
                .keys()
                .all(|probe_target| probe_target.depth == Depth::Full)
        );
    }

    #[test]
    fn services_that_check_differently_share_nothing() {
        let mut desired = desired(&[1, 2], Some(&health(Check::Tcp, Target::Vip)));
        let slower = Health {
            interval: Duration::from_secs(9),
            ..Health::clone(&health(Check::Tcp, Target::Vip))
        };
        desired.services[1].health = Some(Arc::new(slower));
        assert_eq!(ProbePlan::of(&desired).probe_targets().len(), 4);
    }
}
