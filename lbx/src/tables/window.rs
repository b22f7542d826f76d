//! The slots of a service between a change and their rest.
//!
//! A change sets `current` and leaves `owner`: whoever has connections without a record in the slot keeps them. The window
//! of a slot opens when the two part and lasts one idle timeout: by then every active flow of the owner has sent a
//! packet and has a record, so `owner` may follow. It closes at once when the two meet again. A failed owner is
//! replaced at once: there is nothing left to keep.

use lbx_common::slot::{NONE, Slot};

/// The slots of one service, and since when each has two masters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    slots: Vec<Slot>,
    /// The last tick at which `current` was `owner`, for slots whose window is open.
    opened: Vec<Option<u32>>,
    /// The last tick at which anything changed.
    changed: u32,
    /// No window is open and nothing is tracked.
    at_rest: bool,
}

/// Slots that changed: number within the service and new word.
pub type Changes = Vec<(u32, Slot)>;

impl Slots {
    /// A table at rest.
    #[must_use]
    pub fn resting(table: &[u16], now: u32) -> Self {
        Self {
            slots: table.iter().map(|&backend| Slot::resting(backend)).collect(),
            opened: vec![None; table.len()],
            changed: now,
            at_rest: true,
        }
    }

    /// A table found in the maps. When its windows opened nobody knows any more: they start again.
    #[must_use]
    pub fn adopted(slots: Vec<Slot>, now: u32) -> Self {
        let opened = slots
            .iter()
            .map(|slot| (slot.current != slot.owner).then_some(now))
            .collect();
        Self {
            slots,
            opened,
            changed: now,
            at_rest: false,
        }
    }

    /// The slots.
    #[must_use]
    pub fn as_slice(&self) -> &[Slot] {
        &self.slots
    }

    /// Number of slots.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Whether no window is open and nothing is tracked: time will bring nothing.
    #[must_use]
    pub fn at_rest(&self) -> bool {
        self.at_rest
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Lets `current` follow a new table. `usable` says which backends still get packets.
    pub fn follow(&mut self, table: &[u16], usable: impl Fn(u16) -> bool, now: u32) -> Changes {
        self.update(now, |slot, opened, place| {
            let current = table.get(place).copied().unwrap_or(NONE);
            let moved = current != slot.current;
            slot.tracked |= moved;
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

    /// Marks every slot as tracked: flows may have records that the slots do not know of.
    pub fn track_all(&mut self, now: u32) -> Changes {
        self.update(now, |slot, _, _| slot.tracked = true)
    }

    /// Lets `owner` follow where a window of `timeout` ticks has passed.
    pub fn close_windows(&mut self, now: u32, timeout: u32) -> Changes {
        self.update(now, |slot, opened, _| {
            if opened.is_some_and(|since| now.wrapping_sub(since) > timeout) {
                slot.owner = slot.current;
                *opened = None;
            }
        })
    }

    /// Ends the tracking of slots without a record that disagrees with the owner. Nothing is done within two ticks of a
    /// change: a packet that was under way may have written a record since they were counted.
    pub fn come_to_rest(&mut self, now: u32, disagrees: impl Fn(u32) -> bool) -> Changes {
        if self.at_rest || now.wrapping_sub(self.changed) < 2 {
            return Vec::new();
        }
        let changed = self.changed;
        let changes = self.update(now, |slot, opened, place| {
            slot.tracked &= opened.is_some() || disagrees(place as u32);
        });
        self.changed = changed;
        self.at_rest = !self.slots.iter().any(|slot| slot.tracked);
        changes
    }

    /// Whether some slot names a backend.
    #[must_use]
    pub fn names(&self, backend: u16) -> bool {
        self.slots
            .iter()
            .any(|slot| slot.current == backend || slot.owner == backend)
    }

    fn update(&mut self, now: u32, mut change: impl FnMut(&mut Slot, &mut Option<u32>, usize)) -> Changes {
        let mut changes = Vec::new();
        for (place, (slot, opened)) in self.slots.iter_mut().zip(&mut self.opened).enumerate() {
            let before = *slot;
            change(slot, opened, place);
            if *slot != before {
                changes.push((place as u32, *slot));
            }
        }
        if !changes.is_empty() {
            self.changed = now;
            self.at_rest = false;
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: u32 = 900;

    fn slot(slots: &Slots) -> (u16, u16, bool) {
        let slot = slots.as_slice()[0];
        (slot.current, slot.owner, slot.tracked)
    }

    #[test]
    fn the_owner_follows_after_one_timeout() {
        let mut slots = Slots::resting(&[0], 0);
        assert_eq!(slots.follow(&[1], |_| true, 10).len(), 1);
        assert_eq!(slot(&slots), (1, 0, true));
        assert!(slots.close_windows(10 + TIMEOUT, TIMEOUT).is_empty());
        slots.close_windows(11 + TIMEOUT, TIMEOUT);
        assert_eq!(slot(&slots), (1, 1, true));
        assert!(
            slots.come_to_rest(12 + TIMEOUT, |_| false).is_empty(),
            "too soon after the change"
        );
        slots.come_to_rest(13 + TIMEOUT, |_| true);
        assert_eq!(slot(&slots), (1, 1, true), "a record disagrees");
        slots.come_to_rest(14 + TIMEOUT, |_| false);
        assert_eq!(slot(&slots), (1, 1, false));
    }

    #[test]
    fn a_second_change_does_not_prolong_the_window() {
        let mut slots = Slots::resting(&[0], 0);
        slots.follow(&[1], |_| true, 10);
        slots.follow(&[2], |_| true, 500);
        slots.close_windows(11 + TIMEOUT, TIMEOUT);
        assert_eq!(slot(&slots), (2, 2, true));
    }

    #[test]
    fn there_and_back_again_restarts_the_window_but_stays_tracked() {
        let mut slots = Slots::resting(&[0], 0);
        slots.follow(&[1], |_| true, 10);
        slots.follow(&[0], |_| true, 20);
        assert_eq!(slot(&slots), (0, 0, true));
        slots.follow(&[1], |_| true, 800);
        slots.close_windows(11 + TIMEOUT, TIMEOUT);
        assert_eq!(slot(&slots), (1, 0, true), "the owner took connections until 800");
    }

    #[test]
    fn a_failed_owner_is_replaced_at_once() {
        let mut slots = Slots::resting(&[0], 0);
        slots.follow(&[1], |backend| backend == 1, 10);
        assert_eq!(slot(&slots), (1, 1, true));
    }

    #[test]
    fn adopted_windows_start_again() {
        let open = Slot {
            current: 1,
            owner: 0,
            tracked: true,
        };
        let mut slots = Slots::adopted(vec![open], 5_000);
        assert!(slots.close_windows(5_000 + TIMEOUT, TIMEOUT).is_empty());
        assert_eq!(slots.close_windows(5_001 + TIMEOUT, TIMEOUT).len(), 1);
    }
}
