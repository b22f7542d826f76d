//! The MAC address of one real server: from what hosts state about its address, and from what stays unanswered. Time and
//! frames come from outside.
//!
//! The host that has the MAC address in use is solicited by unicast. Only when it is silent the whole segment is, and only when
//! it stays silent another host that states the address takes its place: as long as it answers, its connections stay with
//! it, whatever others state. A statement of another host that is followed by one of its own is an address conflict.

use std::time::{Duration, Instant};

/// How long a reply may take.
const REPLY_TIMEOUT: Duration = Duration::from_millis(150);
/// When one that has answered again, or for the first time, is solicited next, however many others there are.
const SOON: Duration = Duration::from_secs(1);
/// Solicitations without a reply after which another host that states the address takes its place.
const UNANSWERED_UNTIL_MOVED: u32 = 2;
/// How long and how many solicitations a real server may be silent before its MAC address is lost.
const LOST_AFTER: (Duration, u32) = (Duration::from_secs(8), 3);
/// Another host in conflict is solicited this often: whether it is still there.
const CONFLICT_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// How long a conflict is kept after the other host was last seen.
const CONFLICT_LIFETIME: Duration = Duration::from_secs(30);
/// A move back to the MAC address before within this time is a conflict.
const MOVED_BACK_WITHIN: Duration = Duration::from_secs(60);
/// Other MAC addresses kept of one real server: a flood of forged frames must not fill memory and log.
const MAX_OTHERS: usize = 4;

/// What is known of one real server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The last MAC address it had.
    mac: Option<[u8; 6]>,
    /// It was silent for too long.
    lost: bool,
    /// When it was last stated, or taken from the kernel or from adopted tables.
    confirmed: Instant,
    /// Solicitations since that had no reply in time.
    unanswered: u32,
    /// When the one was sent whose reply may still come.
    awaiting: Option<Instant>,
    /// When the next one is due.
    due: Instant,
    /// Whether there has been one.
    solicited: bool,
    /// The entry in the kernel's table is the operator's or another program's.
    kept_by_other: bool,
    /// Other MAC addresses that hosts have stated.
    others: Vec<OtherMac>,
    /// The MAC address before this one, and until when.
    replaced: Option<([u8; 6], Instant)>,
}

/// A MAC address that another host has stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OtherMac {
    mac: [u8; 6],
    seen: Instant,
    /// The address was stated at the MAC address in use afterwards: both hosts have it.
    in_conflict: bool,
    next_check: Instant,
}

/// A frame that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// To the MAC address in use.
    Unicast([u8; 6]),
    /// To a MAC address in conflict with it.
    ConflictCheck([u8; 6]),
    /// To the segment, for a real server that nothing is known of.
    First,
    /// To the segment, for one that has just fallen silent: its MAC address.
    Silent([u8; 6]),
    /// To the segment, for one that was solicited before and has no MAC address.
    Unresolved,
}

/// What an operator should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConflictEvent {
    /// Another host has the address too.
    Begun {
        /// The MAC address in use.
        mac: [u8; 6],
        /// The other.
        other: [u8; 6],
    },
    /// The other host has not been seen for a while.
    Ended {
        /// Its MAC address.
        other: [u8; 6],
    },
}

impl Resolution {
    /// Of a real server that nothing is known of.
    #[must_use]
    pub const fn unknown(now: Instant) -> Self {
        Self {
            mac: None,
            lost: false,
            confirmed: now,
            unanswered: 0,
            awaiting: None,
            due: now,
            solicited: false,
            kept_by_other: false,
            others: Vec::new(),
            replaced: None,
        }
    }

    /// Its MAC address, unless it has been silent for too long.
    #[must_use]
    pub fn usable_mac(&self) -> Option<[u8; 6]> {
        self.mac.filter(|_| !self.lost)
    }

    /// Whether it has a MAC address and did not answer the last solicitation.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.unanswered > 0 && self.usable_mac().is_some()
    }

    /// Whether somebody else keeps its entry, so that it is not solicited.
    #[must_use]
    pub const fn is_kept_by_other(&self) -> bool {
        self.kept_by_other
    }

    /// The MAC addresses in conflict with the one in use.
    pub fn conflicting_macs(&self) -> impl Iterator<Item = [u8; 6]> {
        let in_conflict = self.others.iter().filter(|other| other.in_conflict);
        in_conflict.map(|other| other.mac)
    }

    /// Takes a MAC address that is better than none until the real server has answered.
    pub fn adopt(&mut self, mac: [u8; 6], now: Instant) {
        if self.mac.is_none() {
            self.mac = Some(mac);
            self.confirmed = now;
            self.due = now;
        }
    }

    /// Takes in the kernel's entry; `kept_by_other`: the operator or another program keeps it. What the kernel has learned
    /// itself is only a start: what hosts state arrives here too.
    pub fn on_kernel_entry(&mut self, mac: Option<[u8; 6]>, kept_by_other: bool, now: Instant) {
        match mac {
            Some(mac) if kept_by_other => {
                *self = Self {
                    mac: Some(mac),
                    kept_by_other: true,
                    ..Self::unknown(now)
                };
            }
            _ => {
                if self.kept_by_other {
                    self.kept_by_other = false;
                    self.restart(now);
                }
                if let Some(mac) = mac {
                    self.adopt(mac, now);
                }
            }
        }
    }

    /// It can be solicited again: it has as long to answer as one that has just fallen silent.
    pub fn restart(&mut self, now: Instant) {
        self.due = now;
        self.awaiting = None;
        if !self.lost {
            self.confirmed = now;
            self.unanswered = 0;
        }
    }

    /// Takes in that a host has stated the address at `mac`.
    pub fn on_binding(&mut self, mac: [u8; 6], now: Instant, events: &mut Vec<ConflictEvent>) {
        if self.kept_by_other {
            return;
        }
        if self.mac == Some(mac) {
            self.confirm(now);
            for other in self.others.iter_mut().filter(|other| !other.in_conflict) {
                other.in_conflict = true;
                let other = other.mac;
                events.push(ConflictEvent::Begun { mac, other });
            }
        } else if self.usable_mac().is_none() {
            self.move_to(mac, now, events);
        } else {
            self.on_other(mac, now);
        }
    }

    fn confirm(&mut self, now: Instant) {
        if self.lost || self.unanswered > 0 {
            self.due = self.due.min(now + SOON);
        }
        self.lost = false;
        self.confirmed = now;
        self.unanswered = 0;
        self.awaiting = None;
    }

    fn on_other(&mut self, mac: [u8; 6], now: Instant) {
        let known = self.others.iter().position(|other| other.mac == mac);
        let other = OtherMac {
            mac,
            seen: now,
            in_conflict: known.is_some_and(|known| self.others[known].in_conflict),
            next_check: now + CONFLICT_CHECK_INTERVAL,
        };
        match known {
            Some(known) => self.others[known] = other,
            None if self.others.len() < MAX_OTHERS => self.others.push(other),
            None => return,
        }
        // Is the one in use still there?
        if !other.in_conflict {
            self.due = self.due.min(now);
        }
    }

    fn move_to(&mut self, mac: [u8; 6], now: Instant, events: &mut Vec<ConflictEvent>) {
        let moved_back = self
            .replaced
            .is_some_and(|(before, at)| before == mac && now - at < MOVED_BACK_WITHIN);
        self.others.retain(|other| other.mac != mac);
        self.due = self.due.min(now + SOON);
        if let Some(before) = self.mac.replace(mac) {
            self.replaced = Some((before, now));
            if moved_back {
                self.others.push(OtherMac {
                    mac: before,
                    seen: now,
                    in_conflict: true,
                    next_check: now + CONFLICT_CHECK_INTERVAL,
                });
                events.push(ConflictEvent::Begun { mac, other: before });
            }
        }
        self.confirm(now);
    }

    /// Takes in what has not been answered until now.
    pub fn on_time(&mut self, now: Instant, events: &mut Vec<ConflictEvent>) {
        if self.awaiting.is_some_and(|sent| now - sent >= REPLY_TIMEOUT) {
            self.awaiting = None;
            self.unanswered = self.unanswered.saturating_add(1);
            let (silence, unanswered) = LOST_AFTER;
            self.lost |= self.unanswered >= unanswered && now - self.confirmed >= silence;
            if self.unanswered < UNANSWERED_UNTIL_MOVED && self.usable_mac().is_some() {
                self.due = now;
            }
        }
        if self.unanswered >= UNANSWERED_UNTIL_MOVED {
            let since = self.others.iter().filter(|other| other.seen >= self.confirmed);
            if let Some(mac) = since.max_by_key(|other| other.seen).map(|other| other.mac) {
                self.move_to(mac, now, events);
            }
        }
        self.others.retain(|other| {
            let kept = now - other.seen < CONFLICT_LIFETIME;
            if !kept && other.in_conflict {
                events.push(ConflictEvent::Ended { other: other.mac });
            }
            kept
        });
    }

    /// When [`Resolution::on_time`] and [`Resolution::due`] have something new to say, if nothing comes first.
    #[must_use]
    pub fn wakes_at(&self) -> Instant {
        let next = self.awaiting.map_or(self.due, |sent| sent + REPLY_TIMEOUT);
        let others = self.others.iter().map(|other| {
            let over = other.seen + CONFLICT_LIFETIME;
            if other.in_conflict {
                over.min(other.next_check)
            } else {
                over
            }
        });
        others.fold(next, Instant::min)
    }

    /// The frame that is due now.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Due> {
        if self.kept_by_other {
            return None;
        }
        if self.awaiting.is_none() && self.due <= now {
            return Some(match self.usable_mac() {
                Some(mac) if self.unanswered == 0 => Due::Unicast(mac),
                Some(mac) => Due::Silent(mac),
                None if self.solicited => Due::Unresolved,
                None => Due::First,
            });
        }
        let mut others = self.others.iter();
        let check = others.find(|other| other.in_conflict && other.next_check <= now)?;
        Some(Due::ConflictCheck(check.mac))
    }

    /// The frame that was due is sent; the next one after `interval`.
    pub fn sent(&mut self, due: Due, now: Instant, interval: Duration) {
        if let Due::ConflictCheck(mac) = due {
            for other in self.others.iter_mut().filter(|other| other.mac == mac) {
                other.next_check = now + CONFLICT_CHECK_INTERVAL;
            }
        } else {
            self.awaiting = Some(now);
            self.solicited = true;
            self.due = now + interval;
        }
    }
}

#[cfg(test)]
mod tests;
