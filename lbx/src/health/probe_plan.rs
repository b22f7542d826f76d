//! Which targets are probed, and for which real servers: services with the same check of a real server share its probes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use crate::desired::{Check, CheckedAddress, DesiredState, HealthConfig, Protocol, Service, VirtualService};

/// One check of one real server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProbeTarget {
    /// The real server.
    pub rip: IpAddr,
    /// The VIP.
    pub vip: IpAddr,
    /// The port.
    pub port: u16,
    /// Protocol of the service.
    pub protocol: Protocol,
    /// The whole check, or the presence of the VIP.
    pub scope: ProbeScope,
    /// The check and its intervals.
    pub health: Arc<HealthConfig>,
}

impl ProbeTarget {
    /// Whether another target has the same endpoint and check; intervals and counts may differ.
    #[must_use]
    pub fn is_same_check(&self, other: &Self) -> bool {
        let endpoint = |probe_target: &Self| {
            (
                probe_target.rip,
                probe_target.vip,
                probe_target.port,
                probe_target.protocol,
                probe_target.scope,
            )
        };
        endpoint(self) == endpoint(other)
            && (&self.health.check, self.health.target) == (&other.health.check, other.health.target)
    }
}

/// The extent of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProbeScope {
    /// The whole check.
    Full,
    /// Only whether the VIP is configured: another VIP of the same real server gets the whole check.
    VipPresence,
}

/// A real server of a service.
pub type ServerKey = (VirtualService, IpAddr);

/// A real server that is out of the file and has flows, with the last health check it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastCheck {
    /// The real server.
    pub server: ServerKey,
    /// The check.
    pub health: Arc<HealthConfig>,
    /// The port that is checked.
    pub port: u16,
}

/// The targets of each real server that is checked: it is up if all of them are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbePlan(BTreeMap<ServerKey, Vec<ProbeTarget>>);

impl ProbePlan {
    /// The plan of a desired state.
    #[must_use]
    pub fn of(desired: &DesiredState) -> Self {
        Self::with_removed(desired, &[])
    }

    /// The plan of a desired state, and of real servers that are out of it.
    #[must_use]
    pub fn with_removed(desired: &DesiredState, removed: &[LastCheck]) -> Self {
        let mut first: BTreeMap<Shared<'_>, IpAddr> = BTreeMap::new();
        for ((service, rip), health, port) in checked(desired, removed) {
            first
                .entry(Shared::of(service, health, port, rip))
                .and_modify(|least| *least = service.vip.min(*least))
                .or_insert(service.vip);
        }
        let targets = checked(desired, removed).map(|((service, rip), health, port)| {
            let shared = Shared::of(service, health, port, rip);
            let (own, full) = (service.vip, first[&shared]);
            let probe_target = |vip, scope| ProbeTarget {
                rip,
                vip,
                port: shared.port,
                protocol: shared.protocol,
                scope,
                health: Arc::clone(health),
            };
            let mut probe_targets = vec![probe_target(full, ProbeScope::Full)];
            if own != full && is_vip_probed(health) {
                probe_targets.push(probe_target(own, ProbeScope::VipPresence));
            }
            ((service, rip), probe_targets)
        });
        Self(targets.collect())
    }

    /// The targets of a real server of a service; none: it is not checked.
    #[must_use]
    pub fn targets_for(&self, server: ServerKey) -> &[ProbeTarget] {
        self.0.get(&server).map_or(&[], Vec::as_slice)
    }

    /// Every target with the real servers whose state it decides.
    #[must_use]
    pub fn servers_by_target(&self) -> BTreeMap<&ProbeTarget, BTreeSet<ServerKey>> {
        let mut probe_targets: BTreeMap<&ProbeTarget, BTreeSet<ServerKey>> = BTreeMap::new();
        for (&server, targets) in &self.0 {
            for probe_target in targets {
                probe_targets.entry(probe_target).or_default().insert(server);
            }
        }
        probe_targets
    }
}

/// What services must have in common to share a check. A command gets the VIP, so each VIP has its own.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Shared<'d> {
    rip: IpAddr,
    port: u16,
    protocol: Protocol,
    vip: Option<IpAddr>,
    health: &'d HealthConfig,
}

impl<'d> Shared<'d> {
    fn of(service: VirtualService, health: &'d HealthConfig, port: u16, rip: IpAddr) -> Self {
        Self {
            rip,
            port,
            protocol: service.protocol,
            vip: matches!(health.check, Check::Exec(_)).then_some(service.vip),
            health,
        }
    }
}

/// The port on which a service is checked.
#[must_use]
pub fn checked_port(service: VirtualService, health: &HealthConfig) -> u16 {
    health.port.unwrap_or(service.port)
}

/// Every real server that is checked, with its check and port.
fn checked<'d>(
    desired: &'d DesiredState,
    removed: &'d [LastCheck],
) -> impl Iterator<Item = (ServerKey, &'d Arc<HealthConfig>, u16)> {
    let with_health = |service: &'d Service| service.health.as_ref().map(|health| (service, health));
    let configured = desired
        .services
        .iter()
        .filter_map(with_health)
        .flat_map(|(service, health)| {
            let id = service.virtual_service;
            let servers = service.servers.iter();
            servers.map(move |server| ((id, server.address), health, checked_port(id, health)))
        });
    let removed = removed.iter().map(|last| (last.server, &last.health, last.port));
    configured.chain(removed)
}

/// Whether a check goes to the VIP, so that another VIP is another matter.
const fn is_vip_probed(health: &HealthConfig) -> bool {
    matches!(health.target, CheckedAddress::Vip) && !matches!(health.check, Check::Exec(_) | Check::Ping)
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use super::*;
    use crate::{
        config,
        desired::{Exec, InitialState},
    };

    fn vip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn rip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn health(check: Check, target: CheckedAddress) -> Arc<HealthConfig> {
        Arc::new(HealthConfig {
            check,
            target,
            port: None,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            initial: InitialState::FirstProbe,
            jitter_percent: 10,
            damping: None,
        })
    }

    /// Services of these VIPs, each with two real servers.
    fn desired(vips: &[u8], health: Option<&Arc<HealthConfig>>) -> DesiredState {
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

    fn place(desired: &DesiredState, service: usize, server: u8) -> ServerKey {
        (desired.services[service].virtual_service, rip(server))
    }

    fn asked(probe_plan: &ProbePlan, server: ServerKey) -> Vec<(IpAddr, ProbeScope)> {
        let speakers = probe_plan.targets_for(server).iter();
        speakers
            .map(|probe_target| (probe_target.vip, probe_target.scope))
            .collect()
    }

    #[test]
    fn what_is_not_checked_has_no_speakers() {
        let desired = desired(&[1], None);
        let probe_plan = ProbePlan::of(&desired);
        assert_eq!(asked(&probe_plan, place(&desired, 0, 1)), []);
        assert!(probe_plan.servers_by_target().is_empty());
    }

    #[test]
    fn one_full_check_for_many_vips_and_a_look_at_each_of_the_others() {
        let desired = desired(&[7, 3, 5], Some(&health(Check::Tcp, CheckedAddress::Vip)));
        let probe_plan = ProbePlan::of(&desired);
        let full = (vip(3), ProbeScope::Full);
        assert_eq!(
            asked(&probe_plan, place(&desired, 0, 1)),
            [full, (vip(7), ProbeScope::VipPresence)]
        );
        assert_eq!(asked(&probe_plan, place(&desired, 1, 1)), [full]);
        assert_eq!(
            asked(&probe_plan, place(&desired, 2, 2)),
            [full, (vip(5), ProbeScope::VipPresence)]
        );
        let probe_targets = probe_plan.servers_by_target();
        assert_eq!(probe_targets.len(), 6, "three for each real server");
        let fully = probe_targets
            .iter()
            .filter(|(probe_target, _)| probe_target.scope == ProbeScope::Full);
        assert!(fully.clone().count() == 2 && fully.clone().all(|(_, places)| places.len() == 3));
    }

    #[test]
    fn what_asks_the_rip_is_asked_once() {
        for health in [
            health(Check::Tcp, CheckedAddress::Rip),
            health(Check::Ping, CheckedAddress::Vip),
        ] {
            let probe_plan = ProbePlan::of(&desired(&[1, 2, 3], Some(&health)));
            assert_eq!(probe_plan.servers_by_target().len(), 2);
        }
    }

    #[test]
    fn a_command_is_told_the_vip_and_so_runs_for_each() {
        let exec = Check::Exec(Exec {
            command: vec!["/bin/true".to_owned()],
            environment: BTreeMap::new(),
            weight_from_exit_code: false,
        });
        let probe_plan = ProbePlan::of(&desired(&[1, 2], Some(&health(exec, CheckedAddress::Vip))));
        assert_eq!(probe_plan.servers_by_target().len(), 4);
        assert!(
            probe_plan
                .servers_by_target()
                .keys()
                .all(|probe_target| probe_target.scope == ProbeScope::Full)
        );
    }

    #[test]
    fn services_that_check_differently_share_nothing() {
        let mut desired = desired(&[1, 2], Some(&health(Check::Tcp, CheckedAddress::Vip)));
        let slower = HealthConfig {
            interval: Duration::from_secs(9),
            ..HealthConfig::clone(&health(Check::Tcp, CheckedAddress::Vip))
        };
        desired.services[1].health = Some(Arc::new(slower));
        assert_eq!(ProbePlan::of(&desired).servers_by_target().len(), 4);
    }
}
