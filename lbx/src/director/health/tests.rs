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
    let view = checks.evaluate(desired, &|_| before, |_| true);
    checks.commit(view)
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
    drop(checks.evaluate(&desired("{ http: {} }"), &|_| None, |_| true));
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
