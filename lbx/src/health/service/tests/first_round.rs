//! New services, until their checks have their first results.

use std::sync::Arc;

use super::*;

/// What is waited for: an interval of two seconds and a timeout of one.
const LIMIT: Duration = Duration::from_secs(3);

/// Three real servers that have not been probed, with a check and a sorry server.
fn new_service(policy: FailurePolicy) -> Play {
    let text = "interface: eth0\nservices:\n  - { vip: 192.0.2.1, port: 80, realservers: [10.0.0.1], health: { tcp: {}, interval: 2s, timeout: 1s } }\n";
    let file = config::parse(text, Path::new("test.yaml")).expect("a good file");
    let mut play = Play::new(policy).with_sorry();
    play.service().health.clone_from(&file.services[0].health);
    play.tell((1..=3).map(|server| (server, ServerHealth::Unknown)));
    play
}

fn states(servers: &[(u16, ServerState)]) -> Vec<bool> {
    servers
        .iter()
        .map(|(_, state)| !matches!(state, ServerState::Down(_)))
        .collect()
}

/// Whether the service waits, as the tables are given it.
fn waits(play: &mut Play) -> bool {
    let known = &play.known;
    let (desired, _) =
        play.services
            .update_effective_state(&play.file, &play.removed, |_, server| known[&server].clone(), play.now);
    desired.services[0].awaits_checks
}

#[test]
fn a_new_service_begins_with_all_real_servers_at_once() {
    let mut play = new_service(failure_policy(2, 0));
    assert_eq!(
        play.look(),
        (vec![(1, ServerState::Down(OnFailure::Rehash)); 3], vec![])
    );
    for server in [3, 1] {
        let (servers, events) = play.after([(server, UP)]);
        assert_eq!((states(&servers), events), (vec![false; 3], vec![]));
        assert!(waits(&mut play) && play.quorum().is_none());
    }
    let (servers, events) = play.after([(2, UP)]);
    let gained = HealthEventKind::QuorumGained { weight: 3 };
    assert_eq!(
        (servers, events),
        (
            vec![(1, ServerState::Up); 3],
            vec![is_up(1), is_up(2), is_up(3), gained]
        )
    );
    assert!(!waits(&mut play));
}

#[test]
fn one_that_is_down_is_reported_at_once_and_not_waited_for() {
    let mut play = new_service(failure_policy(3, 0));
    play.look();
    assert_eq!(play.events([(1, UP)]), []);
    assert_eq!(play.events([(2, refused())]), [is_down(2)]);
    let (servers, events) = play.after([(3, UP)]);
    assert_eq!(events, [is_up(1), is_up(3), lost(2, 3, true)]);
    assert_eq!(servers[0].1, ServerState::Draining, "below the quorum");
}

#[test]
fn after_an_interval_and_a_timeout_a_service_begins_without_the_rest() {
    let mut play = new_service(FailurePolicy::default());
    play.look();
    play.after([(1, UP), (2, UP)]);
    play.now += LIMIT.checked_sub(Duration::from_millis(1)).expect("longer than that");
    assert_eq!(play.events([]), []);
    assert!(!play.services.has_overdue_first_round(play.now));
    play.now += Duration::from_millis(1);
    assert!(play.services.has_overdue_first_round(play.now));
    let overdue = HealthEventKind::FirstCheckOverdue {
        server: rip(3),
        after: LIMIT,
    };
    let (servers, events) = play.after([]);
    assert_eq!(states(&servers), [true, true, false]);
    let gained = HealthEventKind::QuorumGained { weight: 2 };
    assert_eq!(events, [overdue, is_up(1), is_up(2), gained]);
    assert!(!play.services.has_overdue_first_round(play.now) && !waits(&mut play));
    assert_eq!(play.events([(3, UP)]), [is_up(3)]);
}

#[test]
fn a_reload_may_change_how_long_a_new_service_waits() {
    let mut play = new_service(FailurePolicy::default());
    play.look();
    play.now += LIMIT / 2;
    let health = play.file.services[0].health.as_deref().expect("a check");
    let slower = HealthConfig {
        interval: health.interval + Duration::from_secs(5),
        ..health.clone()
    };
    play.service().health = Some(Arc::new(slower));
    play.look();
    play.now += LIMIT;
    assert!(waits(&mut play), "since it began");
    play.service().health = None;
    play.tell((1..=3).map(|server| (server, UP)));
    assert!(!waits(&mut play));
}

#[test]
fn nobody_waits_in_a_service_that_has_begun() {
    let mut play = new_service(FailurePolicy::default());
    play.tell((1..=3).map(|server| (server, UP)));
    play.look();
    let first = play.service().servers[0];
    play.service().servers.push(RealServer {
        address: rip(4),
        ..first
    });
    let (servers, _) = play.after([(4, ServerHealth::Unknown)]);
    assert_eq!(states(&servers), [true, true, true, false]);
    assert_eq!(play.events([(4, UP)]), [is_up(4)]);
}

/// One shares its check with another service, and is known to be up when the new one begins.
#[test]
fn none_of_those_that_waited_gets_a_slow_start() {
    let mut play = new_service(FailurePolicy {
        slow_start_seconds: 10,
        ..FailurePolicy::default()
    });
    play.tell([(1, UP)]);
    play.look();
    play.now += LIMIT / 2;
    let (servers, _) = play.after([(2, UP), (3, UP)]);
    assert_eq!(servers, [(1, ServerState::Up); 3]);
}
