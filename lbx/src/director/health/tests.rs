//! Health checks that start and end, without probes.

use std::path::Path;

use super::*;
use crate::{
    config,
    health::{ProbeSuccess, event::HealthEventKind, probe::NoSteering},
};

fn desired(health: &str) -> DesiredState {
    let text = format!(
        "interface: eth0\nservices:\n  - {{ vip: 192.0.2.1, port: 80, health: {health}, realservers: [10.0.0.1, 10.0.0.2] }}\n"
    );
    config::parse(&text, Path::new("test.yaml")).expect("a good file")
}

fn checks() -> HealthChecks {
    let nothing = DesiredState {
        services: Vec::new(),
        ..desired("none")
    };
    HealthChecks::start("test", Arc::new(NoSteering), nothing).expect("a thread")
}

/// Takes a file into force where nothing was; nobody is probed.
fn take(checks: &mut HealthChecks, desired: &DesiredState, before: Option<PriorState>) -> Vec<HealthEvent> {
    take_after(checks, desired, before, no_prior_configuration())
}

/// The same with what was loaded before.
fn take_after(
    checks: &mut HealthChecks,
    desired: &DesiredState,
    before: Option<PriorState>,
    former: PriorConfiguration<'_>,
) -> Vec<HealthEvent> {
    let prior_states = &|_| before;
    let former = PriorConfiguration { prior_states, ..former };
    let view = checks.evaluate(desired, former, |_| true);
    checks.commit(view)
}

fn no_prior_configuration() -> PriorConfiguration<'static> {
    PriorConfiguration {
        prior_states: &|_| None,
        renamed: BTreeMap::new(),
        removed_servers: BTreeSet::new(),
        is_adopted: false,
    }
}

/// The same file without the second real server.
fn without_the_second(health: &str) -> (DesiredState, ServerKey) {
    let mut desired = desired(health);
    let service = &mut desired.services[0];
    let removed = service.servers.pop().expect("two real servers");
    let server = (service.virtual_service, removed.address);
    (desired, server)
}

/// The checks and ports by which a real server is probed.
fn probed_by(checks: &HealthChecks, server: ServerKey) -> Vec<(&'static str, u16)> {
    let targets = checks.probed.plan.targets_for(server).iter();
    targets
        .map(|target| (target.health.check.name(), target.port))
        .collect()
}

/// HealthUpdate of a real server that has answered.
fn passed(checks: &HealthChecks, server: IpAddr) -> HealthUpdate {
    let (probe_target, watched) = checks
        .probed
        .monitors
        .iter()
        .find(|(probe_target, _)| probe_target.rip == server)
        .expect("it is checked");
    let mut monitor = watched.check_state.clone();
    monitor.record_outcome(&Ok(ProbeSuccess::default()), checks.began.elapsed());
    HealthUpdate {
        probe_target: probe_target.clone(),
        generation: watched.generation,
        check_state: monitor,
    }
}

fn server_of(desired: &DesiredState) -> ServerKey {
    let service = &desired.services[0];
    (service.virtual_service, service.servers[0].address)
}

fn is_up(checks: &HealthChecks, server: ServerKey) -> Option<bool> {
    match checks.probe_state(server, true) {
        ServerHealth::Up { .. } => Some(true),
        ServerHealth::Down(_) => Some(false),
        ServerHealth::Unknown => None,
    }
}

#[tokio::test]
async fn what_the_task_of_a_former_check_has_found_is_old() {
    let (mut checks, file) = (checks(), desired("tcp"));
    take(&mut checks, &file, None);
    let server = server_of(&file);
    let old = passed(&checks, server.1);
    take(&mut checks, &desired("none"), None);
    take(&mut checks, &file, None);
    assert_eq!(checks.on_health_update(old), RequiredActions::NONE);
    assert_eq!(is_up(&checks, server), None);
    let new = passed(&checks, server.1);
    assert_eq!(checks.on_health_update(new), RequiredActions::replan_if(true));
    assert_eq!(is_up(&checks, server), Some(true));
}

#[tokio::test]
async fn a_check_by_other_numbers_goes_on_and_another_check_begins_where_it_was() {
    let (mut checks, file) = (checks(), desired("{ tcp: {}, interval: 2s }"));
    take(&mut checks, &file, None);
    let server = server_of(&file);
    let update = passed(&checks, server.1);
    checks.on_health_update(update);
    for edited in ["{ tcp: {}, interval: 3s, rise: 5 }", "{ http: {}, interval: 3s }"] {
        take(&mut checks, &desired(edited), None);
        assert_eq!(is_up(&checks, server), Some(true), "{edited}");
    }
}

#[tokio::test]
async fn whoever_stood_before_anybody_asked_stands_until_asked() {
    for up in [true, false] {
        let (mut checks, file) = (checks(), desired("tcp"));
        let prior_state = PriorState { up, weight: Some(1) };
        let events = take(&mut checks, &file, Some(prior_state));
        assert_eq!(is_up(&checks, server_of(&file)), Some(up));
        assert!(
            !events
                .iter()
                .any(|event| matches!(event.kind, HealthEventKind::ServerUp { .. })),
            "{events:?}"
        );
    }
}

#[tokio::test]
async fn an_outlook_that_is_refused_leaves_no_trace() {
    let (mut checks, file) = (checks(), desired("tcp"));
    take(&mut checks, &file, None);
    drop(checks.evaluate(&desired("{ http: {} }"), no_prior_configuration(), |_| true));
    assert!(
        checks
            .probed
            .monitors
            .keys()
            .all(|probe_target| probe_target.health.check.name() == "tcp")
    );
    let server = server_of(&file);
    let update = passed(&checks, server.1);
    assert_eq!(checks.on_health_update(update), RequiredActions::replan_if(true));
}

#[tokio::test]
async fn a_real_server_out_of_the_file_goes_on_with_its_last_check_until_it_has_drained() {
    let (mut checks, file) = (checks(), desired("tcp"));
    take(&mut checks, &file, None);
    let (removed, server) = without_the_second("{ http: {} }");
    let update = passed(&checks, server.1);
    checks.on_health_update(update);
    let draining = || PriorConfiguration {
        removed_servers: [server].into(),
        ..no_prior_configuration()
    };
    let generation = |checks: &HealthChecks| {
        let mut monitors = checks.probed.monitors.iter();
        let monitor = monitors.find(|(probe_target, _)| probe_target.rip == server.1);
        monitor.map(|(_, watched)| watched.generation)
    };
    let before = generation(&checks);
    for _ in 0..2 {
        take_after(&mut checks, &removed, None, draining());
        assert_eq!(probed_by(&checks, server), [("tcp", 80)]);
        assert_eq!(generation(&checks), before, "the same task goes on");
        assert_eq!(is_up(&checks, server), Some(true));
    }
    // The other one has the check that the file has now.
    assert_eq!(probed_by(&checks, server_of(&removed)), [("http", 80)]);
    let mut update = passed(&checks, server.1);
    for _ in 0..3 {
        update
            .check_state
            .record_outcome(&Err(ProbeFailure::Refused), checks.began.elapsed());
    }
    assert_eq!(checks.on_health_update(update), RequiredActions::replan_if(true));
    let view = checks.reevaluate(&removed, |_| true);
    assert_eq!(
        view.effective_state.services[0].failed_removed_servers,
        [server.1].into()
    );
    let events = checks.commit(view);
    assert!(
        matches!(
            events[..],
            [HealthEvent {
                kind: HealthEventKind::ServerDown { .. },
                ..
            }]
        ),
        "{events:?}"
    );
    take(&mut checks, &removed, None);
    assert_eq!(probed_by(&checks, server), [], "it has drained");
}

#[tokio::test]
async fn after_an_adoption_it_has_the_check_of_its_service() {
    for (health, expected) in [("{ http: {}, port: 8080 }", &[("http", 8080)][..]), ("none", &[])] {
        let (mut checks, prior_state) = (
            checks(),
            PriorState {
                up: true,
                weight: Some(0),
            },
        );
        let (removed, server) = without_the_second(health);
        let former = PriorConfiguration {
            removed_servers: [server].into(),
            is_adopted: true,
            ..no_prior_configuration()
        };
        take_after(&mut checks, &removed, Some(prior_state), former);
        assert_eq!(probed_by(&checks, server), expected);
        assert_eq!(is_up(&checks, server), Some(true), "as the former daemon left it");
    }
}

#[tokio::test]
async fn a_server_that_was_not_checked_is_not_checked_when_it_is_out_of_the_file() {
    let mut checks = checks();
    take(&mut checks, &desired("none"), None);
    let (removed, server) = without_the_second("tcp");
    let former = PriorConfiguration {
        removed_servers: [server].into(),
        ..no_prior_configuration()
    };
    take_after(&mut checks, &removed, None, former);
    assert_eq!(probed_by(&checks, server), []);
}

#[tokio::test]
async fn a_check_goes_on_when_the_service_loses_its_first_port() {
    let mut checks = checks();
    take(&mut checks, &desired("tcp"), None);
    let (mut removed, (former_id, address)) = without_the_second("{ tcp: {}, port: 443 }");
    let update = passed(&checks, address);
    checks.on_health_update(update);
    let id = VirtualService { port: 443, ..former_id };
    removed.services[0].virtual_service = id;
    let former = PriorConfiguration {
        renamed: [(id, former_id)].into(),
        removed_servers: [(id, address)].into(),
        ..no_prior_configuration()
    };
    take_after(&mut checks, &removed, None, former);
    assert_eq!(
        probed_by(&checks, (id, address)),
        [("tcp", 80)],
        "the last check it had"
    );
    assert_eq!(is_up(&checks, (id, address)), Some(true));
}
