//! A model that remembers everything and counts anew at every probe, held against the monitor in random histories; and
//! examples.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    desired::{Check, CheckedAddress},
    health::ProbeSuccess,
};

fn health(rise: u32, fall: u32, initial: InitialState, damping: Option<Damping>) -> HealthConfig {
    HealthConfig {
        check: Check::Tcp,
        target: CheckedAddress::Vip,
        port: None,
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        rise,
        fall,
        initial,
        jitter_percent: 0,
        damping,
    }
}

const PASS: Outcome = Ok(ProbeSuccess { weight: None });

fn asks(weight: u16) -> Outcome {
    Ok(ProbeSuccess { weight: Some(weight) })
}

fn local() -> Outcome {
    Err(ProbeFailure::CannotProbe("too many open files".to_owned()))
}

/// Every probe that said something, and every change.
#[derive(Default)]
struct Model {
    /// When, and whether it passed.
    probes: Vec<(Duration, bool)>,
    /// After how many probes, when, and to what.
    changes: Vec<(usize, Duration, bool)>,
    damped: bool,
}

impl Model {
    fn up(&self, health: &HealthConfig, before: Option<bool>) -> Option<bool> {
        let initially = match health.initial {
            InitialState::FirstProbe => None,
            InitialState::Up => Some(true),
            InitialState::Down => Some(false),
        };
        self.changes.last().map(|(.., up)| *up).or(before).or(initially)
    }

    /// The last probes since the last change that all came out alike.
    fn row(&self, passed: bool) -> &[(Duration, bool)] {
        let since = self.changes.last().map_or(0, |(after, ..)| *after);
        let others = self.probes[since..].iter().rposition(|(_, other)| *other != passed);
        &self.probes[since + others.map_or(0, |last| last + 1)..]
    }

    fn probe(&mut self, health: &HealthConfig, before: Option<bool>, passed: bool, now: Duration) {
        self.probes.push((now, passed));
        let to = match self.up(health, before) {
            None => Some(passed),
            Some(true) => (!passed && self.row(false).len() >= health.fall as usize).then_some(false),
            Some(false) => {
                let row = self.row(true);
                let long = !self.damped
                    || row
                        .first()
                        .is_some_and(|(first, _)| now - *first >= health.damping.unwrap().hold_time);
                (passed && row.len() >= health.rise as usize && long).then_some(true)
            }
        };
        let Some(to) = to else { return };
        let fell = self.up(health, before) == Some(true);
        self.changes.push((self.probes.len(), now, to));
        self.damped = fell
            && health
                .damping
                .is_some_and(|damping| self.falls(health, before, now, damping.period) >= damping.failures as usize);
    }

    /// How often it went from up to down lately.
    fn falls(&self, health: &HealthConfig, before: Option<bool>, now: Duration, within: Duration) -> usize {
        let untold = Self::default().up(health, before);
        let states: Vec<Option<bool>> = [untold]
            .into_iter()
            .chain(self.changes.iter().map(|(.., up)| Some(*up)))
            .collect();
        let fell = |n: usize| states[n] == Some(true) && states[n + 1] == Some(false);
        (0..self.changes.len())
            .filter(|&n| fell(n) && now - self.changes[n].1 <= within)
            .count()
    }
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        6 => Just(PASS),
        1 => (0..3u16).prop_map(asks),
        5 => Just(Err(ProbeFailure::Refused)),
        1 => Just(Err(ProbeFailure::UnexpectedHttpStatus(503))),
        1 => Just(local()),
        1 => Just(Err(ProbeFailure::NotSteered)),
    ]
}

fn seconds(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_secs)
}

prop_compose! {
    fn damping()(failures in 1..4u32, period in seconds(1..60), hold_time in seconds(0..20)) -> Damping {
        Damping { failures, period, hold_time }
    }
}

/// Outcomes in runs, as servers are up and down for a while.
fn history() -> impl Strategy<Value = Vec<(Outcome, Duration)>> {
    let run = (outcome(), prop::collection::vec(seconds(0..6), 1..6));
    prop::collection::vec(run, 1..40).prop_map(|runs| {
        let probes = runs
            .into_iter()
            .flat_map(|(outcome, pauses)| pauses.into_iter().map(move |pause| (outcome.clone(), pause)));
        probes.collect()
    })
}

fn initial() -> impl Strategy<Value = InitialState> {
    prop_oneof![
        Just(InitialState::FirstProbe),
        Just(InitialState::Up),
        Just(InitialState::Down)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_says_what_the_model_says(
        (rise, fall) in (1..4u32, 1..4u32),
        initial in initial(),
        before in any::<Option<bool>>(),
        damping in proptest::option::of(damping()),
        history in history(),
    ) {
        let health = health(rise, fall, initial, damping);
        let mut monitor = CheckState::new(&health, before);
        let mut model = Model::default();
        let (mut now, mut weight, mut reason) = (Duration::ZERO, None, monitor.reason().cloned());
        for (outcome, pause) in history {
            now += pause;
            let (was, asked) = (monitor.up_if_known(), weight);
            let change = monitor.record_outcome(&outcome, now);
            match &outcome {
                Ok(passed) => {
                    model.probe(&health, before, true, now);
                    weight = passed.weight;
                }
                Err(failure) => {
                    reason = Some(failure.clone());
                    if !failure.is_inconclusive() {
                        model.probe(&health, before, false, now);
                    }
                }
            }
            prop_assert_eq!(monitor.up_if_known(), model.up(&health, before));
            prop_assert_eq!(monitor.is_up(), model.up(&health, before) == Some(true), "what is not known is not up");
            prop_assert_eq!(monitor.is_damped(), model.damped);
            prop_assert_eq!(monitor.weight(), weight);
            prop_assert_eq!(monitor.reason(), reason.as_ref());
            let expected = match (was, monitor.up_if_known()) {
                (was, known) if was != known => Some(if monitor.is_up() { CheckStateChange::Up } else { CheckStateChange::Down }),
                (Some(true), _) if weight != asked => Some(CheckStateChange::WeightChanged),
                _ => None,
            };
            prop_assert_eq!(change.filter(|change| *change != CheckStateChange::Inconclusive), expected);
        }
    }
}

/// A monitor after probes a second apart, and what they have changed.
fn after(
    health: &HealthConfig,
    before: Option<bool>,
    outcomes: &[Outcome],
) -> (CheckState, Vec<Option<CheckStateChange>>) {
    let mut monitor = CheckState::new(health, before);
    let times = (1..).map(Duration::from_secs);
    let changes = outcomes
        .iter()
        .zip(times)
        .map(|(outcome, now)| monitor.record_outcome(outcome, now))
        .collect();
    (monitor, changes)
}

#[test]
fn the_first_probe_decides_alone_unless_more_is_known() {
    let first = health(2, 3, InitialState::FirstProbe, None);
    let refused = [Err(ProbeFailure::Refused)];
    assert_eq!(CheckState::new(&first, None).reason(), Some(&ProbeFailure::NotProbed));
    assert_eq!(after(&first, None, &[PASS]).1, [Some(CheckStateChange::Up)]);
    assert_eq!(after(&first, None, &refused).1, [Some(CheckStateChange::Down)]);
    assert_eq!(after(&first, Some(true), &refused).1, [None], "no flap at a restart");
    assert_eq!(
        after(&first, Some(false), &[PASS, PASS]).1,
        [None, Some(CheckStateChange::Up)]
    );
    let up = health(2, 3, InitialState::Up, None);
    assert!(CheckState::new(&up, None).is_up() && !CheckState::new(&up, Some(false)).is_up());
}

#[test]
fn a_director_that_cannot_see_changes_nothing_and_says_so_once() {
    let health = health(1, 2, InitialState::FirstProbe, None);
    for outcome in [Err(ProbeFailure::NotSteered), local()] {
        let inconclusive = || outcome.clone();
        let (monitor, changes) = after(
            &health,
            Some(true),
            &[
                inconclusive(),
                inconclusive(),
                inconclusive(),
                PASS,
                inconclusive(),
                inconclusive(),
            ],
        );
        let expected = Some(CheckStateChange::Inconclusive);
        assert_eq!(changes, [None, expected, None, None, None, expected]);
        assert!(monitor.is_up() && monitor.reason() == inconclusive().as_ref().err());
        assert_eq!(monitor.inconclusive_reason(), inconclusive().as_ref().err());
        assert_eq!(
            after(&health, Some(true), &[inconclusive()]).0.inconclusive_reason(),
            None,
            "once is chance"
        );
        for seen in [PASS, Err(ProbeFailure::Refused)] {
            let (monitor, _) = after(
                &health,
                Some(true),
                &[inconclusive(), inconclusive(), seen, inconclusive()],
            );
            assert_eq!(monitor.inconclusive_reason(), None);
        }
        assert_eq!(
            after(&health, None, &[]).0.inconclusive_reason(),
            None,
            "not probed yet"
        );
        let (undecided, _) = after(&health, None, &[inconclusive()]);
        assert_eq!(
            undecided.inconclusive_reason(),
            inconclusive().as_ref().err(),
            "it holds everything up"
        );
        for before in [None, Some(false)] {
            let (monitor, _) = after(&health, before, &[inconclusive(), inconclusive(), inconclusive()]);
            assert!(!monitor.is_up() && monitor.up_if_known() == before);
        }
        // What it sees in between counts as if it were all.
        let (monitor, _) = after(
            &health,
            Some(true),
            &[Err(ProbeFailure::Refused), inconclusive(), Err(ProbeFailure::Refused)],
        );
        assert_eq!(
            (monitor.is_up(), monitor.reason()),
            (false, Some(&ProbeFailure::Refused))
        );
    }
}

#[test]
fn who_comes_and_goes_stays_down_until_it_has_been_well_for_a_while() {
    let damping = Damping {
        failures: 2,
        period: Duration::from_secs(60),
        hold_time: Duration::from_secs(3),
    };
    let health = health(1, 1, InitialState::FirstProbe, Some(damping));
    let fail = || Err(ProbeFailure::Refused);
    let (monitor, changes) = after(
        &health,
        None,
        &[PASS, fail(), PASS, fail(), PASS, PASS, fail(), PASS, PASS, PASS, PASS],
    );
    let (up, down) = (Some(CheckStateChange::Up), Some(CheckStateChange::Down));
    assert_eq!(changes, [up, down, up, down, None, None, None, None, None, None, up]);
    assert!(!monitor.is_damped());
    let (damped, _) = after(&health, None, &[PASS, fail(), PASS, fail(), PASS]);
    assert!(damped.is_damped());
}

#[test]
fn a_check_goes_on_by_other_numbers() {
    let lax = health(1, 3, InitialState::FirstProbe, None);
    let fail = || Err(ProbeFailure::Refused);
    let (before, _) = after(&lax, None, &[asks(7), fail(), fail()]);
    let now = Duration::from_secs(9);
    let mut monitor = CheckState::replacing(&health(3, 2, InitialState::Down, None), &before);
    assert_eq!((monitor.up_if_known(), monitor.weight()), (Some(true), Some(7)));
    assert_eq!(monitor.record_outcome(&fail(), now), None, "it counts anew");
    assert_eq!(monitor.record_outcome(&fail(), now), Some(CheckStateChange::Down));
    let mut monitor = CheckState::replacing(&health(2, 1, InitialState::Up, None), &monitor);
    assert_eq!((monitor.up_if_known(), monitor.weight()), (Some(false), Some(7)));
    assert_eq!(monitor.reason(), Some(&ProbeFailure::Refused));
    assert_eq!(
        [PASS, PASS].map(|pass| monitor.record_outcome(&pass, now)),
        [None, Some(CheckStateChange::Up)]
    );
    assert_eq!(monitor.weight(), None, "the new check asks for none");
}

#[test]
fn a_check_that_had_not_decided_begins_anew() {
    let (before, _) = after(&health(1, 1, InitialState::FirstProbe, None), None, &[local()]);
    for initial in [InitialState::FirstProbe, InitialState::Up, InitialState::Down] {
        let health = health(2, 2, initial, None);
        assert_eq!(CheckState::replacing(&health, &before), CheckState::new(&health, None));
    }
}

#[test]
fn damping_remembers_across_checks() {
    let damping = |hold| Damping {
        failures: 2,
        period: Duration::from_secs(60),
        hold_time: Duration::from_secs(hold),
    };
    let holding = |hold| health(1, 1, InitialState::FirstProbe, Some(damping(hold)));
    let fail = || Err(ProbeFailure::Refused);
    let (once, _) = after(&holding(3), None, &[PASS, fail(), PASS]);
    let mut monitor = CheckState::replacing(&holding(2), &once);
    monitor.record_outcome(&fail(), Duration::from_secs(4));
    assert!(monitor.is_damped(), "the second time, though the check is another");
    let mut monitor = CheckState::replacing(&holding(2), &monitor);
    let changes = [5, 6, 7].map(|now| monitor.record_outcome(&PASS, Duration::from_secs(now)));
    assert_eq!(changes, [None, None, Some(CheckStateChange::Up)]);
    let (damped, _) = after(&holding(3), None, &[PASS, fail(), PASS, fail()]);
    let mut monitor = CheckState::replacing(&health(1, 1, InitialState::FirstProbe, None), &damped);
    assert_eq!(
        monitor.record_outcome(&PASS, Duration::from_secs(5)),
        Some(CheckStateChange::Up)
    );
}

#[test]
fn a_weight_that_is_known_holds_until_a_probe_passes() {
    let health = health(1, 3, InitialState::FirstProbe, None);
    let mut monitor = CheckState::new(&health, Some(true)).with_weight(Some(7));
    let now = Duration::ZERO;
    assert_eq!(monitor.record_outcome(&Err(ProbeFailure::Refused), now), None);
    assert_eq!(monitor.weight(), Some(7));
    assert_eq!(monitor.record_outcome(&asks(7), now), None, "no change, no news");
    assert_eq!(
        monitor.record_outcome(&asks(8), now),
        Some(CheckStateChange::WeightChanged)
    );
}
