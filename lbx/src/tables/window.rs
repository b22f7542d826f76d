//! The slots of a service, from a change until they are settled.
//!
//! A change sets `current` and leaves `owner`: connections without a record in the slot stay with the owner. The window
//! of a slot opens when the two differ and lasts one idle timeout: by then every active flow of the owner has sent a
//! packet and has a record, so `owner` may be set to `current`. It closes at once when the two are equal again. A failed
//! owner is replaced at once.

use std::collections::HashSet;

use lbx_common::{
    flow::elapsed_ticks,
    slot::{NO_BACKEND, Slot},
};

use super::GRACE;

/// The slots of one service, and since when the window of each is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    slots: Vec<Slot>,
    /// The last tick at which `current` was `owner`, for slots whose window is open.
    opened: Vec<Option<u32>>,
    /// The last tick at which anything changed.
    changed: u32,
    /// No window is open and no slot has records.
    is_settled: bool,
}

/// Slots that changed: number within the service and new word.
pub type Changes = Vec<(u32, Slot)>;

impl Slots {
    /// A settled table.
    #[must_use]
    pub fn from_table(table: &[u16], now: u32) -> Self {
        Self {
            slots: table.iter().map(|&backend| Slot::without_window(backend)).collect(),
            opened: vec![None; table.len()],
            changed: now,
            is_settled: true,
        }
    }

    /// A table found in the maps. When its windows opened is not known: they start again.
    #[must_use]
    pub fn from_map(slots: Vec<Slot>, now: u32) -> Self {
        let opened = slots
            .iter()
            .map(|slot| (slot.current != slot.owner).then_some(now))
            .collect();
        Self {
            slots,
            opened,
            changed: now,
            is_settled: false,
        }
    }

    /// The slots.
    #[must_use]
    pub fn as_slice(&self) -> &[Slot] {
        &self.slots
    }

    /// Whether no window is open and no slot has records: nothing will expire.
    #[must_use]
    pub fn has_nothing_to_expire(&self) -> bool {
        self.is_settled
    }

    /// Sets `current` to a new table. `usable` says which backends still get packets.
    pub fn set_current(&mut self, table: &[u16], usable: impl Fn(u16) -> bool, now: u32) -> Changes {
        self.update(now, |slot, opened, index| {
            let current = table.get(index).copied().unwrap_or(NO_BACKEND);
            let moved = current != slot.current;
            slot.has_records |= moved;
            slot.current = current;
            if !usable(slot.owner) {
                slot.owner = current;
            }
            *opened = match *opened {
                _ if slot.owner == current => None,
                Some(since) => Some(since),
                None => Some(now),
            };
        })
    }

    /// All slots, for a table that no packet reads yet.
    #[must_use]
    pub fn all_as_changes(&self) -> Changes {
        (0..).zip(self.slots.iter().copied()).collect()
    }

    /// Marks every slot as having records: flows may have records that disagree with the slots.
    pub fn mark_all_has_records(&mut self, now: u32) -> Changes {
        self.update(now, |slot, _, _| slot.has_records = true)
    }

    /// The grace period begins again: backend selection has changed outside the slots, such as the ring.
    pub fn restart_grace_period(&mut self, now: u32) {
        self.changed = now;
    }

    /// Whether the window of any slot is open.
    #[must_use]
    pub fn has_open_windows(&self) -> bool {
        self.opened.iter().any(Option::is_some)
    }

    /// Whether every packet in flight sees the last change.
    #[must_use]
    pub fn is_grace_period_over(&self, now: u32) -> bool {
        elapsed_ticks(self.changed, now) >= GRACE
    }

    /// Sets `owner` to `current` where a window of `timeout` ticks has passed, counted from when packets saw it open.
    pub fn close_windows(&mut self, now: u32, timeout: u32) -> Changes {
        self.update(now, |slot, opened, _| {
            if opened.is_some_and(|since| elapsed_ticks(since, now) > timeout + GRACE) {
                slot.owner = slot.current;
                *opened = None;
            }
        })
    }

    /// Ends the tracking of slots without a record that disagrees with the owner, once every packet sees the last change: before,
    /// a packet in flight may have written a record after the scan.
    pub fn clear_has_records(&mut self, now: u32, disagrees: impl Fn(u32) -> bool) -> Changes {
        if self.is_settled || !self.is_grace_period_over(now) {
            return Vec::new();
        }
        let last = self.changed;
        let changes = self.update(now, |slot, opened, index| {
            slot.has_records &= opened.is_some() || disagrees(index as u32);
        });
        // Where a packet goes has not changed.
        self.changed = last;
        self.is_settled = !self.slots.iter().any(|slot| slot.has_records);
        changes
    }

    /// The backends that slots refer to.
    #[must_use]
    pub fn referenced_backends(&self) -> HashSet<u16> {
        self.slots.iter().flat_map(|slot| [slot.current, slot.owner]).collect()
    }

    fn update(&mut self, now: u32, mut change: impl FnMut(&mut Slot, &mut Option<u32>, usize)) -> Changes {
        let mut changes = Vec::new();
        for (index, (slot, opened)) in self.slots.iter_mut().zip(&mut self.opened).enumerate() {
            let before = *slot;
            change(slot, opened, index);
            if *slot != before {
                changes.push((index as u32, *slot));
            }
        }
        if !changes.is_empty() {
            self.changed = now;
            self.is_settled = false;
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use lbx_common::flow::TICK_MASK;

    use super::*;

    const TIMEOUT: u32 = 900;
    /// Ticks after its opening at which a window is still open.
    const OPEN: u32 = TIMEOUT + GRACE;

    fn slot(slots: &Slots) -> (u16, u16, bool) {
        let slot = slots.as_slice()[0];
        (slot.current, slot.owner, slot.has_records)
    }

    #[test]
    fn the_owner_is_replaced_after_one_timeout() {
        let mut slots = Slots::from_table(&[0], 0);
        assert_eq!(slots.set_current(&[1], |_| true, 10).len(), 1);
        assert_eq!(slot(&slots), (1, 0, true));
        assert!(slots.close_windows(10 + OPEN, TIMEOUT).is_empty());
        slots.close_windows(11 + OPEN, TIMEOUT);
        assert_eq!(slot(&slots), (1, 1, true));
        assert!(
            slots.clear_has_records(12 + OPEN, |_| false).is_empty(),
            "too soon after the change"
        );
        slots.clear_has_records(13 + OPEN, |_| true);
        assert_eq!(slot(&slots), (1, 1, true), "a record disagrees");
        slots.clear_has_records(14 + OPEN, |_| false);
        assert_eq!(slot(&slots), (1, 1, false));
    }

    #[test]
    fn a_second_change_does_not_prolong_the_window() {
        let mut slots = Slots::from_table(&[0], 0);
        slots.set_current(&[1], |_| true, 10);
        slots.set_current(&[2], |_| true, 500);
        slots.close_windows(11 + OPEN, TIMEOUT);
        assert_eq!(slot(&slots), (2, 2, true));
    }

    #[test]
    fn the_clock_wraps_within_a_window() {
        let mut slots = Slots::from_table(&[0], TICK_MASK - 20);
        slots.set_current(&[1], |_| true, TICK_MASK - 10);
        assert!(slots.close_windows(OPEN - 11, TIMEOUT).is_empty());
        assert_eq!(slots.close_windows(OPEN - 10, TIMEOUT).len(), 1);
        assert!(slots.clear_has_records(OPEN - 9, |_| false).is_empty());
        assert_eq!(slots.clear_has_records(OPEN - 8, |_| false).len(), 1);
    }

    #[test]
    fn there_and_back_again_restarts_the_window_but_stays_tracked() {
        let mut slots = Slots::from_table(&[0], 0);
        slots.set_current(&[1], |_| true, 10);
        slots.set_current(&[0], |_| true, 20);
        assert_eq!(slot(&slots), (0, 0, true));
        slots.set_current(&[1], |_| true, 800);
        slots.close_windows(11 + OPEN, TIMEOUT);
        assert_eq!(slot(&slots), (1, 0, true), "the owner took connections until 800");
    }

    #[test]
    fn a_failed_owner_is_replaced_at_once() {
        let mut slots = Slots::from_table(&[0], 0);
        slots.set_current(&[1], |backend| backend == 1, 10);
        assert_eq!(slot(&slots), (1, 1, true));
    }

    #[test]
    fn adopted_windows_start_again() {
        let open = Slot {
            current: 1,
            owner: 0,
            has_records: true,
        };
        let mut slots = Slots::from_map(vec![open], 5_000);
        assert!(slots.close_windows(5_000 + OPEN, TIMEOUT).is_empty());
        assert_eq!(slots.close_windows(5_001 + OPEN, TIMEOUT).len(), 1);
    }
}
