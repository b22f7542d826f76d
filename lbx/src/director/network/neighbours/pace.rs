//! How many solicitations are sent in which time.

use std::time::{Duration, Instant};

use super::resolution::Due;

/// The shortest and the longest time between two solicitations of a real server that answers. With the longest, a MAC address
/// that has changed silently is found within five seconds.
const INTERVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));
/// Solicitations by unicast in a second; more only where the longest interval demands it.
const UNICASTS_PER_SECOND: usize = 200;
/// Solicitations of whole segments in a second: half of them for real servers that have just fallen silent, half for those
/// without a MAC address.
const BROADCASTS_PER_SECOND: usize = 200;
/// Solicitations of whole segments in a second for real servers that nothing is known of, after a start or a reload.
const FIRST_PER_SECOND: usize = 1_000;
/// Between two tries of a frame that others came before; at most the second, where many wait.
const RETRY_INTERVAL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// What of a second's number may be sent at once.
const BURST: f64 = 0.1;

/// So many in a second.
#[derive(Clone, Copy, Debug)]
struct Budget {
    available: f64,
    at: Option<Instant>,
}

impl Budget {
    const FULL: Self = Self {
        available: f64::INFINITY,
        at: None,
    };

    fn take(&mut self, per_second: f64, now: Instant) -> bool {
        let burst = (per_second * BURST).max(1.0);
        let since = self.at.replace(now).map_or(Duration::ZERO, |at| now - at);
        self.available = (self.available + per_second * since.as_secs_f64()).min(burst);
        let granted = self.available >= 1.0;
        if granted {
            self.available -= 1.0;
        }
        granted
    }
}

/// How many real servers there are, by what they need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// They are solicited.
    pub solicited: usize,
    /// They have just fallen silent.
    pub silent: usize,
    /// They have no MAC address.
    pub unresolved: usize,
}

/// The pace of one table.
#[derive(Clone, Debug)]
pub struct Pace {
    unicast: Budget,
    silent: Budget,
    unresolved: Budget,
    first: Budget,
    counts: Counts,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            unicast: Budget::FULL,
            silent: Budget::FULL,
            unresolved: Budget::FULL,
            first: Budget::FULL,
            counts: Counts::default(),
        }
    }
}

/// Seconds in which so many are sent at this pace, within the shortest and `longest` interval.
fn interval(count: usize, per_second: usize, longest: Duration) -> Duration {
    let (shortest, _) = INTERVAL;
    Duration::from_secs_f64(count as f64 / per_second as f64).clamp(shortest, longest)
}

impl Pace {
    /// Takes in how many there are.
    pub const fn set_counts(&mut self, counts: Counts) {
        self.counts = counts;
    }

    /// What of a frame that is due may be sent now, and after which time the next one of that real server is due.
    ///
    /// # Errors
    /// Others come first: after which time to try again.
    pub fn grant(&mut self, due: Due, now: Instant) -> Result<(Due, Duration), Duration> {
        let half = BROADCASTS_PER_SECOND / 2;
        let (shortest, longest) = RETRY_INTERVAL;
        let (granted, interval, retry) = match due {
            Due::Unicast(_) | Due::ConflictCheck(_) => return self.unicast(due, now).ok_or(shortest),
            Due::First => {
                let granted = self.first.take(FIRST_PER_SECOND as f64, now);
                (granted, INTERVAL.0, shortest)
            }
            // The rate bounds them; the last of a real server's solicitations must not be long in coming, since it is lost with it.
            Due::Silent(_) => (self.silent.take(half as f64, now), INTERVAL.0, shortest),
            Due::Unresolved => {
                let interval = interval(self.counts.unresolved, half, Duration::MAX);
                let granted = self.unresolved.take(half as f64, now);
                (granted, interval, (interval / 10).clamp(shortest, longest))
            }
        };
        match due {
            _ if granted => Ok((due, interval)),
            // The segment later, its last MAC address meanwhile.
            Due::Silent(mac) => match self.unicast(Due::Unicast(mac), now) {
                Some((due, _)) => Ok((due, INTERVAL.0)),
                None => Err(retry),
            },
            _ => Err(retry),
        }
    }

    fn unicast(&mut self, due: Due, now: Instant) -> Option<(Due, Duration)> {
        let interval = interval(self.counts.solicited, UNICASTS_PER_SECOND, INTERVAL.1);
        // A quarter more than on average, so that those which are late catch up.
        let per_second = self.counts.solicited as f64 / interval.as_secs_f64() * 1.25;
        let per_second = per_second.max(UNICASTS_PER_SECOND as f64);
        self.unicast.take(per_second, now).then_some((due, interval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    /// How many of `offered` frames a tick are sent in a second, with so many real servers.
    fn in_a_second(due: Due, counts: Counts, offered: usize) -> usize {
        let mut pace = Pace::default();
        pace.set_counts(counts);
        let begin = Instant::now();
        (0..20)
            .map(|tick| {
                let now = begin + Duration::from_millis(50) * tick;
                (0..offered).filter(|_| pace.grant(due, now).is_ok()).count()
            })
            .sum()
    }

    fn counts(all: usize) -> Counts {
        Counts {
            solicited: all,
            ..Counts::default()
        }
    }

    #[test]
    fn the_interval_grows_with_the_number_up_to_four_seconds() {
        let interval = |all| {
            let mut pace = Pace::default();
            pace.set_counts(counts(all));
            let (_, interval) = pace.grant(Due::Unicast(MAC), Instant::now()).expect("the first");
            interval.as_millis()
        };
        assert_eq!(
            [1, 200, 400, 800, 30_000].map(interval),
            [1_000, 1_000, 2_000, 4_000, 4_000]
        );
    }

    #[test]
    fn frames_are_paced() {
        let sent = in_a_second(Due::Unicast(MAC), counts(800), 1_000);
        assert!((190..=280).contains(&sent), "{sent}");
        let sent = in_a_second(Due::Unicast(MAC), counts(10_000), 10_000);
        assert!(
            (2_500..=3_500).contains(&sent),
            "{sent}: as many as four seconds demand"
        );
        let sent = in_a_second(Due::Unresolved, counts(10_000), 10_000);
        assert!((90..=115).contains(&sent), "{sent}");
        let sent = in_a_second(Due::First, counts(10_000), 10_000);
        assert!((950..=1_100).contains(&sent), "{sent}");
    }

    #[test]
    fn the_segment_is_solicited_at_most_so_often_and_the_rest_by_unicast() {
        let mut pace = Pace::default();
        let now = Instant::now();
        let granted: Vec<Due> = (0..20)
            .filter_map(|_| pace.grant(Due::Silent(MAC), now).ok())
            .map(|(due, _)| due)
            .collect();
        assert_eq!(granted.len(), 20);
        assert_eq!(granted.iter().filter(|due| **due == Due::Silent(MAC)).count(), 10);
    }

    #[test]
    fn those_without_a_mac_address_wait_for_each_other() {
        let mut pace = Pace::default();
        pace.set_counts(Counts {
            unresolved: 1_000,
            ..Counts::default()
        });
        let (_, interval) = pace.grant(Due::Unresolved, Instant::now()).expect("the first");
        assert_eq!(interval, Duration::from_secs(10));
    }
}
