//! What one check makes of one real server: up or down, by its last probes.
//!
//! | probe | counts as |
//! |---|---|
//! | passed | a pass |
//! | failed | a failure |
//! | failed with something that says nothing of the real server ([`Failure::is_blind`]) | no probe at all |
//!
//! So what goes wrong on the director itself (no socket to be had, another program in the way of the probes) brings nobody
//! up and takes nobody down: it would concern all real servers at once, and a blind director that sends to all is better
//! than one that sends to none. It is told ([`Change::Blind`]), and shown ([`Monitor::blind`]).

use std::{collections::VecDeque, time::Duration};

use super::{failure::Failure, probe::Outcome};
use crate::desired::{Damping, Health, Initial};

/// The state of one check of one real server. Time is what has passed since some beginning, and never runs back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitor {
    rise: u32,
    fall: u32,
    damping: Option<Damping>,
    up: bool,
    /// Whether the next probe decides alone.
    undecided: bool,
    /// Probes in a row that contradict `up`.
    against: u32,
    /// Probes in a row that said nothing.
    blind: u32,
    /// Since when it passes without a break.
    well: Option<Duration>,
    /// When it last went down, so many times as damping counts.
    failures: VecDeque<Duration>,
    damped: bool,
    reason: Option<Failure>,
    weight: Option<u16>,
}

/// What a probe has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is up.
    Up,
    /// It is down, for [`Monitor::reason`]; also where the first probe of all has failed.
    Down,
    /// It stays up, and asks for another [`Monitor::weight`].
    Weight,
    /// Whether it is up is not known any more, for [`Monitor::reason`]: as many probes as make a real server fall said
    /// nothing. It stays what it was.
    Blind,
}

impl Monitor {
    /// A check that begins. `before` is whether the real server is up, as a former daemon, a former check or its absence
    /// has left it; none: as the check says.
    #[must_use]
    pub fn new(health: &Health, before: Option<bool>) -> Self {
        let up = before.unwrap_or(health.initial == Initial::Up);
        Self {
            rise: health.rise,
            fall: health.fall,
            damping: health.damping,
            up,
            undecided: before.is_none() && health.initial == Initial::First,
            against: 0,
            blind: 0,
            well: None,
            failures: VecDeque::new(),
            damped: false,
            reason: (!up).then_some(Failure::NotProbed),
            weight: None,
        }
    }

    /// A check that takes the place of another, of the same real server: up or down, the weight, the reason and what
    /// damping remembers stay; probes in a row count anew. Where the other had not decided, this begins as one that is new.
    #[must_use]
    pub fn resumed(health: &Health, before: &Self) -> Self {
        let Some(up) = before.known() else {
            return Self::new(health, None).with_weight(before.weight);
        };
        Self {
            well: before.well,
            failures: before.failures.clone(),
            damped: before.damped && health.damping.is_some(),
            reason: before.reason.clone(),
            weight: before.weight,
            ..Self::new(health, Some(up))
        }
    }

    /// The same, where a weight is known that an earlier check asked for: it holds until a probe passes.
    #[must_use]
    pub const fn with_weight(mut self, weight: Option<u16>) -> Self {
        self.weight = weight;
        self
    }

    /// Takes note of what came of a probe that ended now.
    pub fn note(&mut self, outcome: &Outcome, now: Duration) -> Option<Change> {
        match outcome {
            Ok(passed) => {
                self.blind = 0;
                self.passed(passed.weight, now)
            }
            Err(failure) if failure.is_blind() => self.saw_nothing(failure),
            Err(failure) => {
                self.blind = 0;
                self.failed(failure, now)
            }
        }
    }

    fn passed(&mut self, weight: Option<u16>, now: Duration) -> Option<Change> {
        let well_since = *self.well.get_or_insert(now);
        let reweighed = std::mem::replace(&mut self.weight, weight) != weight;
        if self.up {
            self.against = 0;
            return reweighed.then_some(Change::Weight);
        }
        self.against = self.against.saturating_add(1);
        let held = |damping: Damping| now.saturating_sub(well_since) < damping.hold;
        if self.damped && self.damping.is_some_and(held) {
            return None;
        }
        if self.against < self.rise && !self.undecided {
            return None;
        }
        self.turn(true);
        self.damped = false;
        Some(Change::Up)
    }

    fn failed(&mut self, failure: &Failure, now: Duration) -> Option<Change> {
        self.well = None;
        self.reason = Some(failure.clone());
        if self.undecided {
            self.turn(false);
            return Some(Change::Down);
        }
        if !self.up {
            self.against = 0;
            return None;
        }
        self.against = self.against.saturating_add(1);
        if self.against < self.fall {
            return None;
        }
        self.turn(false);
        self.damp(now);
        Some(Change::Down)
    }

    fn saw_nothing(&mut self, failure: &Failure) -> Option<Change> {
        self.reason = Some(failure.clone());
        self.blind = self.blind.saturating_add(1);
        (self.blind == self.fall.max(1)).then_some(Change::Blind)
    }

    fn turn(&mut self, up: bool) {
        self.up = up;
        self.undecided = false;
        self.against = 0;
    }

    /// Counts a fall, and sees whether there were too many.
    fn damp(&mut self, now: Duration) {
        let Some(damping) = self.damping else { return };
        self.failures.push_back(now);
        let counted = usize::try_from(damping.failures.max(1)).unwrap_or(usize::MAX);
        while self.failures.len() > counted {
            self.failures.pop_front();
        }
        let recent = |first: &Duration| now.saturating_sub(*first) <= damping.within;
        self.damped = self.failures.len() == counted && self.failures.front().is_some_and(recent);
    }

    /// Whether it counts as up.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.up
    }

    /// Whether it is up, as far as that is known: none before the first probe where that is to decide. What the next
    /// check of the same real server begins with.
    #[must_use]
    pub fn known(&self) -> Option<bool> {
        (!self.undecided).then_some(self.up)
    }

    /// Whether it has failed so often that it stays down until it has been well for some time.
    #[must_use]
    pub const fn is_damped(&self) -> bool {
        self.damped
    }

    /// Why nothing is known of it: the last `fall` probes, or more, said nothing of the real server; where the next one
    /// decides alone, the last one. None as long as probes say something, or none has ended yet.
    #[must_use]
    pub fn blind(&self) -> Option<&Failure> {
        let enough = if self.undecided { 1 } else { self.fall.max(1) };
        self.reason.as_ref().filter(|_| self.blind >= enough)
    }

    /// Why it is down, or why its last probe that did not pass did not, if there was one.
    #[must_use]
    pub const fn reason(&self) -> Option<&Failure> {
        self.reason.as_ref()
    }

    /// The weight that the last probe that passed asked for, or that the check [began](Self::with_weight) with.
    #[must_use]
    pub const fn weight(&self) -> Option<u16> {
        self.weight
    }
}

#[cfg(test)]
mod tests;
