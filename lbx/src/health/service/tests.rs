//! Services whose real servers come and go, events by hand.

mod first_round;
mod removed;

use std::{collections::BTreeMap, path::Path};

use proptest::prelude::*;

use super::*;
use crate::{
    config,
    desired::{HealthConfig, OnFailure},
    health::{CheckState, ProbeSuccess},
};

const UP: ServerHealth = ServerHealth::Up { weight: None };

fn weighs(weight: u16) -> ServerHealth {
    ServerHealth::Up { weight: Some(weight) }
}

fn refused() -> ServerHealth {
    ServerHealth::Down(ProbeFailure::Refused)
}

fn rip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

/// One service, what is known of its real servers, and what time it is.
struct Play {
    file: DesiredState,
    /// Out of the file, with flows.
    removed: BTreeSet<ServerKey>,
    known: BTreeMap<IpAddr, ServerHealth>,
    services: ServiceHealthStates,
    now: Duration,
}

impl Play {
    /// Three real servers of weight 1, all up, and not yet looked at.
    fn new(failure_policy: FailurePolicy) -> Self {
        let text = "interface: eth0\nservices:\n  - { vip: 192.0.2.1, port: 80, realservers: [10.0.0.1, 10.0.0.2, 10.0.0.3] }\n";
        let mut file = config::parse(text, Path::new("test.yaml")).expect("a good file");
        file.services[0].failure_policy = failure_policy;
        Self {
            file,
            removed: BTreeSet::new(),
            known: (1..=3).map(|last| (rip(last), UP)).collect(),
            services: ServiceHealthStates::default(),
            now: Duration::from_millis(10_700),
        }
    }

    fn with_sorry(mut self) -> Self {
        self.file.services[0].sorry_server = Some(rip(9));
        self
    }

    /// A real server is taken out of the file and keeps its flows.
    fn remove(&mut self, server: u8) {
        let service = &mut self.file.services[0];
        service.servers.retain(|other| other.address != rip(server));
        self.removed.insert((service.virtual_service, rip(server)));
    }

    /// The real servers out of the file that are down.
    fn failed_removed(&mut self) -> BTreeSet<IpAddr> {
        let known = &self.known;
        let known = |_, server: IpAddr| known[&server].clone();
        let (mut desired, _) = self
            .services
            .clone()
            .update_effective_state(&self.file, &self.removed, known, self.now);
        desired.services.swap_remove(0).failed_removed_servers
    }

    fn service(&mut self) -> &mut Service {
        &mut self.file.services[0]
    }

    fn tell(&mut self, known: impl IntoIterator<Item = (u8, ServerHealth)>) {
        self.known
            .extend(known.into_iter().map(|(last, known)| (rip(last), known)));
    }

    /// The states of the real servers, and the events.
    fn look(&mut self) -> (Vec<(u16, ServerState)>, Vec<HealthEventKind>) {
        let known = &self.known;
        let (desired, events) = self.services.update_effective_state(
            &self.file,
            &self.removed,
            |_, server| known[&server].clone(),
            self.now,
        );
        let servers = desired.services[0].servers.iter();
        (
            servers.map(|server| (server.weight, server.state)).collect(),
            events.into_iter().map(|event| event.kind).collect(),
        )
    }

    /// What happens to packets without a real server, after changes.
    fn on_empty(&mut self, known: impl IntoIterator<Item = (u8, ServerHealth)>) -> OnEmpty {
        self.tell(known);
        let known = &self.known;
        let (desired, _) = self.services.update_effective_state(
            &self.file,
            &self.removed,
            |_, server| known[&server].clone(),
            self.now,
        );
        desired.services[0].failure_policy.on_empty
    }

    /// The same, after changes.
    fn after(
        &mut self,
        known: impl IntoIterator<Item = (u8, ServerHealth)>,
    ) -> (Vec<(u16, ServerState)>, Vec<HealthEventKind>) {
        self.tell(known);
        self.look()
    }

    fn events(&mut self, known: impl IntoIterator<Item = (u8, ServerHealth)>) -> Vec<HealthEventKind> {
        self.after(known).1
    }

    fn quorum(&self) -> Option<bool> {
        self.services.has_quorum(self.file.services[0].virtual_service)
    }
}

fn failure_policy(quorum: u32, hysteresis: u32) -> FailurePolicy {
    FailurePolicy {
        quorum,
        hysteresis,
        ..FailurePolicy::default()
    }
}

fn is_up(server: u8) -> HealthEventKind {
    HealthEventKind::ServerUp {
        server: rip(server),
        weight: 1,
    }
}

fn is_down(server: u8) -> HealthEventKind {
    HealthEventKind::ServerDown {
        server: rip(server),
        reason: ProbeFailure::Refused,
    }
}

fn lost(weight: u32, quorum: u32, sorry: bool) -> HealthEventKind {
    HealthEventKind::QuorumLost { weight, quorum, sorry }
}

#[test]
fn what_is_as_it_should_be_is_not_told_and_nothing_is_changed() {
    let mut play = Play::new(FailurePolicy::default());
    for _ in 0..2 {
        assert_eq!(play.look(), (vec![(1, ServerState::Up); 3], vec![]));
    }
    assert_eq!(play.quorum(), Some(true));
}

#[test]
fn real_servers_come_and_go() {
    let mut play = Play::new(FailurePolicy {
        on_failure: OnFailure::Keep,
        ..FailurePolicy::default()
    });
    play.look();
    let (servers, events) = play.after([(2, refused())]);
    let down = (1, ServerState::Down(OnFailure::Keep));
    assert_eq!(servers, [(1, ServerState::Up), down, (1, ServerState::Up)]);
    assert_eq!(events, [is_down(2)]);
    assert_eq!(
        play.events([(2, ServerHealth::Down(ProbeFailure::UnexpectedHttpStatus(503)))]),
        [],
        "it is down already"
    );
    assert_eq!(play.events([(2, UP)]), [is_up(2)]);
}

#[test]
fn a_service_is_not_called_down_before_all_have_been_asked() {
    let mut play = Play::new(failure_policy(2, 0)).with_sorry();
    play.tell((1..=3).map(|server| (server, ServerHealth::Unknown)));
    let (servers, events) = play.look();
    assert!(
        events.is_empty()
            && servers
                .iter()
                .all(|(_, state)| *state == ServerState::Down(OnFailure::Rehash))
    );
    let (servers, events) = play.after([(1, UP)]);
    assert_eq!(
        (servers[0].1, events),
        (ServerState::Up, vec![is_up(1)]),
        "it works meanwhile"
    );
    assert_eq!((play.events([(2, refused())]), play.quorum()), (vec![is_down(2)], None));
    assert_eq!(play.events([(3, refused())]), [is_down(3), lost(1, 2, true)]);
    let mut play = Play::new(failure_policy(2, 0));
    play.tell((1..=3).map(|server| (server, ServerHealth::Unknown)));
    play.look();
    assert_eq!(play.events([(1, UP)]), [is_up(1)]);
    assert_eq!(
        play.events([(2, UP)]),
        [is_up(2), HealthEventKind::QuorumGained { weight: 2 }]
    );
}

#[test]
fn one_that_was_left_down_is_told_once_by_its_next_probe() {
    let not_probed = || ServerHealth::Down(ProbeFailure::NotProbed);
    let mut play = Play::new(FailurePolicy::default());
    assert_eq!(play.events([(1, not_probed()), (2, not_probed())]), []);
    assert_eq!(play.events([(1, UP), (2, refused())]), [is_up(1), is_down(2)]);
    assert_eq!(
        play.events([(2, ServerHealth::Down(ProbeFailure::ConnectionClosed))]),
        [],
        "once"
    );
    assert_eq!(play.events([(2, UP)]), [is_up(2)]);
    assert_eq!(play.events([(2, refused())]), [is_down(2)]);
    let mut play = Play::new(FailurePolicy::default());
    assert_eq!(play.events([(2, ServerHealth::Down(ProbeFailure::NoMac))]).len(), 1);
    assert_eq!(play.events([(2, refused())]), []);
}

#[test]
fn a_quorum_is_lost_and_gained_with_hysteresis() {
    let mut play = Play::new(failure_policy(2, 1));
    play.service().servers[0].weight = 2;
    play.look();
    // 4 → 2 → 1 → 0: lost below 1. 1 → 2 → 3: gained at 3.
    assert_eq!(play.events([(1, refused())]), [is_down(1)]);
    assert_eq!(play.events([(2, refused())]), [is_down(2)]);
    assert_eq!(play.events([(3, refused())]), [is_down(3), lost(0, 2, false)]);
    assert_eq!(play.events([(2, UP)]), [is_up(2)]);
    let (servers, events) = play.after([(3, UP)]);
    assert_eq!(events, [is_up(3)]);
    assert_eq!(
        servers[1..],
        [(1, ServerState::Up); 2],
        "without a sorry server nothing but the event follows"
    );
    play.tell([(2, refused())]);
    let events = play.events([(1, UP)]);
    let gained = HealthEventKind::QuorumGained { weight: 3 };
    let first = HealthEventKind::ServerUp {
        server: rip(1),
        weight: 2,
    };
    assert_eq!(events, [first, is_down(2), gained]);
}

/// keepalived's usual pair: up with both, down with none.
#[test]
fn a_hysteresis_as_large_as_the_quorum_is_down_with_none_only() {
    let mut play = Play::new(failure_policy(1, 1));
    play.service().servers.truncate(2);
    play.look();
    assert_eq!(play.events([(1, refused())]), [is_down(1)]);
    assert_eq!(play.events([(2, refused())]), [is_down(2), lost(0, 1, false)]);
    assert_eq!(play.events([(1, UP)]), [is_up(1)], "one is not enough to come back");
    assert_eq!(
        play.events([(2, UP)]),
        [is_up(2), HealthEventKind::QuorumGained { weight: 2 }]
    );
}

#[test]
fn below_the_quorum_those_that_are_up_rest_where_there_is_a_sorry_server() {
    let mut play = Play::new(failure_policy(2, 0)).with_sorry();
    play.look();
    let (servers, events) = play.after([(1, refused()), (2, refused())]);
    assert_eq!(events, [is_down(1), is_down(2), lost(1, 2, true)]);
    assert_eq!(servers[2], (1, ServerState::Draining));
    let (servers, _) = play.after([(1, UP)]);
    assert_eq!(servers[2], (1, ServerState::Up));
}

#[test]
fn the_weight_of_a_check_goes_before_that_of_the_file() {
    let mut play = Play::new(failure_policy(3, 0));
    play.look();
    let server = rip(2);
    let (servers, events) = play.after([(2, weighs(7))]);
    assert_eq!(
        (servers[1], events),
        (
            (7, ServerState::Up),
            vec![HealthEventKind::WeightChanged { server, from: 1, to: 7 }]
        )
    );
    let (servers, _) = play.after([(2, refused())]);
    assert_eq!(servers[1].0, 7, "shares of others do not change for that");
    let (_, events) = play.after([(2, weighs(7))]);
    assert!(events.contains(&HealthEventKind::ServerUp { server, weight: 7 }));
    // A weight of 0 drains, and is no part of a quorum.
    let (servers, events) = play.after([(2, weighs(0))]);
    assert_eq!(servers[1], (0, ServerState::Up));
    assert_eq!(
        events,
        [
            HealthEventKind::WeightChanged { server, from: 7, to: 0 },
            lost(2, 3, false)
        ]
    );
    assert_eq!(play.after([(2, UP)]).0[1], (1, ServerState::Up));
}

#[test]
fn slow_start_rises_a_step_a_second_and_ends_in_time() {
    let mut play = Play::new(FailurePolicy {
        slow_start_seconds: 30,
        ..FailurePolicy::default()
    });
    assert!(
        play.look().0.iter().all(|(_, state)| *state == ServerState::Up),
        "none of those at the start rises"
    );
    play.events([(2, refused())]);
    assert!(!play.services.is_slow_start_active());
    let (mut seen, mut state) = (Vec::new(), play.after([(2, UP)]).0[1].1);
    let came = play.now;
    while play.services.is_slow_start_active() {
        let ServerState::SlowStart(part) = state else {
            panic!("{state:?}")
        };
        if seen.last().is_none_or(|&(_, last)| last != part.get()) {
            seen.push((play.now.as_secs() - came.as_secs(), part.get()));
        }
        play.now += Duration::from_millis(100);
        let (servers, events) = play.look();
        assert!(events.is_empty());
        state = servers[1].1;
    }
    assert_eq!(state, ServerState::Up);
    assert_eq!(play.now.as_secs(), came.as_secs() + 30);
    assert_eq!(seen.first(), Some(&(0, 2)));
    assert!(
        seen.len() == 20 && seen.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1),
        "{seen:?}"
    );
    let even = |&(second, part): &(u64, u8)| u64::from(part).abs_diff(second * 100 / 30) <= 5;
    assert!(seen.iter().all(even), "{seen:?}");
}

#[test]
fn who_rises() {
    let mut play = Play::new(FailurePolicy {
        slow_start_seconds: 10,
        ..FailurePolicy::default()
    });
    play.tell([
        (1, ServerHealth::Unknown),
        (2, ServerHealth::Down(ProbeFailure::NotProbed)),
    ]);
    play.look();
    let rises = |(_, state): &(u16, ServerState)| matches!(state, ServerState::SlowStart(_));
    let (servers, _) = play.after([(1, UP), (2, UP)]);
    let rising: Vec<bool> = servers.iter().map(rises).collect();
    assert_eq!(
        rising,
        [false, true, false],
        "one that may have been up all the time does not, one that was down does"
    );
    // One that fails while it rises begins anew.
    play.now += Duration::from_secs(9);
    play.events([(2, refused())]);
    assert_eq!(play.after([(2, UP)]).0[1].1, play.after([]).0[1].1);
    assert!(play.services.is_slow_start_active());
    play.now += Duration::from_secs(9);
    assert!(rises(&play.look().0[1]));
    // One that is new in the file does.
    let mut fourth = play.service().servers[0];
    fourth.address = rip(4);
    play.service().servers.push(fourth);
    play.now += Duration::from_secs(5);
    let rising: Vec<bool> = play.after([(4, UP)]).0.iter().map(rises).collect();
    assert_eq!(rising, [false, false, false, true]);
    play.service().failure_policy.slow_start_seconds = 0;
    assert_eq!(play.look().0[3].1, ServerState::Up);
    assert!(!play.services.is_slow_start_active());
}

#[test]
fn what_the_file_no_longer_has_is_forgotten() {
    let mut play = Play::new(FailurePolicy::default());
    play.events([(1, refused()), (2, refused()), (3, refused())]);
    assert_eq!(play.quorum(), Some(false));
    play.file.services.clear();
    let (desired, events) = play
        .services
        .update_effective_state(&play.file, &play.removed, |_, _| UP, play.now);
    assert!(desired.services.is_empty() && events.is_empty());
    assert_eq!(play.services, ServiceHealthStates::default());
}

#[test]
fn all_checks_of_a_real_server_must_pass() {
    let text = "interface: eth0\nservices:\n  - { vip: 192.0.2.1, port: 80, realservers: [10.0.0.1], health: { tcp: {}, rise: 1, fall: 1 } }\n";
    let file = config::parse(text, Path::new("test.yaml")).expect("a good file");
    let health: &HealthConfig = file.services[0].health.as_ref().expect("a check");
    let monitor = |outcomes: &[Result<ProbeSuccess, ProbeFailure>]| {
        let mut monitor = CheckState::new(health, None);
        for outcome in outcomes {
            monitor.record_outcome(outcome, Duration::ZERO);
        }
        monitor
    };
    let asks = |weight| Ok(ProbeSuccess { weight });
    let (passes, fails, new) = (
        monitor(&[asks(None)]),
        monitor(&[Err(ProbeFailure::Refused)]),
        monitor(&[]),
    );
    let agent = monitor(&[asks(Some(5))]);
    assert_eq!(ServerHealth::of([], true), UP);
    assert_eq!(ServerHealth::of([], false), ServerHealth::Down(ProbeFailure::NoMac));
    assert_eq!(
        ServerHealth::of([&passes], false),
        ServerHealth::Down(ProbeFailure::NoMac)
    );
    assert_eq!(ServerHealth::of([&passes, &agent], true), weighs(5));
    assert_eq!(ServerHealth::of([&passes, &new], true), ServerHealth::Unknown);
    assert_eq!(ServerHealth::of([&passes, &new, &fails], true), refused());
}

fn known() -> impl Strategy<Value = ServerHealth> {
    prop_oneof![4 => Just(UP), 1 => (0..4u16).prop_map(weighs), 4 => Just(refused()), 1 => Just(ServerHealth::Unknown)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// The events alone say which real servers are up and whether the service is; and exactly the real servers that are up
    /// get packets.
    #[test]
    fn events_and_states_agree(
        (quorum, hysteresis) in (0..4u32, 0..4u32),
        sorry in any::<bool>(),
        steps in prop::collection::vec((1..=3u8, known(), 0..3u64), 1..60),
    ) {
        let mut play = Play::new(FailurePolicy { slow_start_seconds: 4, ..failure_policy(quorum, hysteresis) });
        if sorry {
            play = play.with_sorry();
        }
        play.look();
        let (mut up, mut service) = ([true; 3], true);
        for (server, known, seconds) in steps {
            play.now += Duration::from_secs(seconds);
            let unknown = known == ServerHealth::Unknown;
            let (servers, events) = play.after([(server, known)]);
            for what in events {
                let index = |server: IpAddr| (1..=3).position(|last| rip(last) == server).expect("one of three");
                match what {
                    HealthEventKind::ServerUp { server, .. } => prop_assert!(!std::mem::replace(&mut up[index(server)], true)),
                    HealthEventKind::ServerDown { server, .. } => up[index(server)] = false,
                    HealthEventKind::QuorumGained { .. } => prop_assert!(!std::mem::replace(&mut service, true)),
                    HealthEventKind::QuorumLost { .. } => prop_assert!(std::mem::replace(&mut service, false)),
                    HealthEventKind::FirstCheckOverdue { .. } | HealthEventKind::WeightChanged { .. } => {}
                }
            }
            // A real server whose checks begin anew is down until its first probe has ended, without an event.
            up[usize::from(server) - 1] &= !unknown;
            for ((_, state), up) in servers.iter().zip(up) {
                prop_assert_eq!(matches!(state, ServerState::Down(_)), !up);
                prop_assert_eq!(*state == ServerState::Draining, up && sorry && !service);
            }
            prop_assert_eq!(play.quorum(), Some(service));
            let known = play.known.values();
            let weight: u32 = known.map(|known| match known { ServerHealth::Up { weight } => u32::from(weight.unwrap_or(1)), _ => 0 }).sum();
            let (least, most) = (quorum.max(1).saturating_sub(hysteresis).max(1), quorum.max(1) + hysteresis);
            prop_assert!(if service { weight >= least } else { weight < most }, "{weight}, {service}");
        }
    }
}

#[test]
fn nothing_is_rejected_before_every_real_server_was_probed() {
    let all = |state: &ServerHealth| [1, 2, 3].map(|server| (server, state.clone()));
    let mut play = Play::new(FailurePolicy::default());
    assert_eq!(play.on_empty(all(&ServerHealth::Unknown)), OnEmpty::Drop);
    assert_eq!(
        play.on_empty([(1, refused()), (2, refused())]),
        OnEmpty::Drop,
        "the third may be up"
    );
    assert_eq!(
        play.on_empty([(3, ServerHealth::Down(ProbeFailure::NotProbed))]),
        OnEmpty::Drop
    );
    assert_eq!(play.on_empty([(3, refused())]), OnEmpty::Reject);
    assert_eq!(play.on_empty(all(&UP)), OnEmpty::Reject);
    assert_eq!(play.on_empty(all(&refused())), OnEmpty::Reject);
    // A check of another kind begins anew.
    assert_eq!(play.on_empty([(2, ServerHealth::Unknown)]), OnEmpty::Drop);

    let mut dropping = Play::new(FailurePolicy {
        on_empty: OnEmpty::Drop,
        ..FailurePolicy::default()
    });
    assert_eq!(dropping.on_empty(all(&refused())), OnEmpty::Drop);
}
