//! The state of one check of one real server: up or down, by its last probes.
//!
//! | probe | counts as |
//! |---|---|
//! | passed | a pass |
//! | failed | a failure |
//! | failed for a reason that is not the real server's ([`ProbeFailure::is_inconclusive`]) | no probe at all |
//!
//! So an error of the director itself (no free socket, another program that changes the probes) changes no state: it would
//! affect all real servers at once, and a director that sends to all of them is better than one that sends to none. It is
//! logged ([`CheckStateChange::Inconclusive`]) and listed ([`CheckState::inconclusive_reason`]).

use std::{collections::VecDeque, time::Duration};

use super::{failure::ProbeFailure, probe::Outcome};
use crate::desired::{Damping, HealthConfig, InitialState};

/// The state of one check of one real server. Time is what has passed since some beginning, and never runs back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckState {
    rise: u32,
    fall: u32,
    damping: Option<Damping>,
    up: bool,
    /// Whether the next probe decides alone.
    undecided: bool,
    /// Probes in a row that contradict `up`.
    against: u32,
    /// Inconclusive probes in a row.
    inconclusive: u32,
    /// Since when all probes have passed.
    passing_since: Option<Duration>,
    /// When it last went down, as many times as damping counts.
    failures: VecDeque<Duration>,
    damped: bool,
    reason: Option<ProbeFailure>,
    weight: Option<u16>,
}

/// A change of state by a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckStateChange {
    /// It is up.
    Up,
    /// It is down, for [`CheckState::reason`]; also where the first probe of all has failed.
    Down,
    /// It stays up and reports another [`CheckState::weight`].
    WeightChanged,
    /// `fall` probes in a row were inconclusive, for [`CheckState::reason`]. It keeps its last state.
    Inconclusive,
}

impl CheckState {
    /// A new check. `before` is the real server's state up to now, from a former daemon, another check or no check at all;
    /// none: the check's `initial` decides.
    #[must_use]
    pub fn new(health: &HealthConfig, before: Option<bool>) -> Self {
        let up = before.unwrap_or(health.initial == InitialState::Up);
        Self {
            rise: health.rise,
            fall: health.fall,
            damping: health.damping,
            up,
            undecided: before.is_none() && health.initial == InitialState::FirstProbe,
            against: 0,
            inconclusive: 0,
            passing_since: None,
            failures: VecDeque::new(),
            damped: false,
            reason: (!up).then_some(ProbeFailure::NotProbed),
            weight: None,
        }
    }

    /// A check that replaces another of the same real server: state, weight, reason and damping are kept, probes in a row
    /// are counted from zero. Where the other was undecided, this is a new check.
    #[must_use]
    pub fn replacing(health: &HealthConfig, before: &Self) -> Self {
        let Some(up) = before.up_if_known() else {
            return Self::new(health, None).with_weight(before.weight);
        };
        Self {
            passing_since: before.passing_since,
            failures: before.failures.clone(),
            damped: before.damped && health.damping.is_some(),
            reason: before.reason.clone(),
            weight: before.weight,
            ..Self::new(health, Some(up))
        }
    }

    /// The same with the weight that an earlier check reported: it holds until a probe passes.
    #[must_use]
    pub const fn with_weight(mut self, weight: Option<u16>) -> Self {
        self.weight = weight;
        self
    }

    /// Counts the outcome of a probe that ended at `now`.
    pub fn record_outcome(&mut self, outcome: &Outcome, now: Duration) -> Option<CheckStateChange> {
        match outcome {
            Ok(passed) => {
                self.inconclusive = 0;
                self.passed(passed.weight, now)
            }
            Err(failure) if failure.is_inconclusive() => self.inconclusive(failure),
            Err(failure) => {
                self.inconclusive = 0;
                self.failed(failure, now)
            }
        }
    }

    fn passed(&mut self, weight: Option<u16>, now: Duration) -> Option<CheckStateChange> {
        let passing_since = *self.passing_since.get_or_insert(now);
        let weight_changed = std::mem::replace(&mut self.weight, weight) != weight;
        if self.up {
            self.against = 0;
            return weight_changed.then_some(CheckStateChange::WeightChanged);
        }
        self.against = self.against.saturating_add(1);
        let held = |damping: Damping| now.saturating_sub(passing_since) < damping.hold_time;
        if self.damped && self.damping.is_some_and(held) {
            return None;
        }
        if self.against < self.rise && !self.undecided {
            return None;
        }
        self.set_up(true);
        self.damped = false;
        Some(CheckStateChange::Up)
    }

    fn failed(&mut self, failure: &ProbeFailure, now: Duration) -> Option<CheckStateChange> {
        self.passing_since = None;
        self.reason = Some(failure.clone());
        if self.undecided {
            self.set_up(false);
            return Some(CheckStateChange::Down);
        }
        if !self.up {
            self.against = 0;
            return None;
        }
        self.against = self.against.saturating_add(1);
        if self.against < self.fall {
            return None;
        }
        self.set_up(false);
        self.damp(now);
        Some(CheckStateChange::Down)
    }

    fn inconclusive(&mut self, failure: &ProbeFailure) -> Option<CheckStateChange> {
        self.reason = Some(failure.clone());
        self.inconclusive = self.inconclusive.saturating_add(1);
        (self.inconclusive == self.fall.max(1)).then_some(CheckStateChange::Inconclusive)
    }

    fn set_up(&mut self, up: bool) {
        self.up = up;
        self.undecided = false;
        self.against = 0;
    }

    /// Counts a change to down, and damps if there were too many.
    fn damp(&mut self, now: Duration) {
        let Some(damping) = self.damping else { return };
        self.failures.push_back(now);
        let counted = usize::try_from(damping.failures.max(1)).unwrap_or(usize::MAX);
        while self.failures.len() > counted {
            self.failures.pop_front();
        }
        let recent = |first: &Duration| now.saturating_sub(*first) <= damping.period;
        self.damped = self.failures.len() == counted && self.failures.front().is_some_and(recent);
    }

    /// Whether it is up.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.up
    }

    /// Whether it is up; none before the first probe if that one decides. The next check of the same real server begins
    /// with it.
    #[must_use]
    pub fn up_if_known(&self) -> Option<bool> {
        (!self.undecided).then_some(self.up)
    }

    /// Whether it is damped: it failed so often that it stays down until it has passed for `hold`.
    #[must_use]
    pub const fn is_damped(&self) -> bool {
        self.damped
    }

    /// The reason of the last probe, if the last `fall` probes were inconclusive (while undecided: the last one).
    #[must_use]
    pub fn inconclusive_reason(&self) -> Option<&ProbeFailure> {
        let enough = if self.undecided { 1 } else { self.fall.max(1) };
        self.reason.as_ref().filter(|_| self.inconclusive >= enough)
    }

    /// The reason of the last probe that did not pass.
    #[must_use]
    pub const fn reason(&self) -> Option<&ProbeFailure> {
        self.reason.as_ref()
    }

    /// The weight that the last passed probe reported, or that the check [began](Self::with_weight) with.
    #[must_use]
    pub const fn weight(&self) -> Option<u16> {
        self.weight
    }
}

#[cfg(test)]
mod tests;
