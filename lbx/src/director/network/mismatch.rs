//! What of the desired state the network does not allow: logged once for every reason, and tried again.

/// Seconds between two tries, if no event comes first: 1, 2, 4, … and no more than this.
const MAX_DELAY: u32 = 8;

/// The state of a network that does not match.
#[derive(Debug, Default)]
pub struct NetworkMismatch {
    /// Why, as it was logged last; empty: it matches.
    reason: String,
    /// Seconds until the next try.
    wait: u32,
    /// Seconds between the last try and the next.
    delay: u32,
    /// The network has to be read again, whatever is known of it.
    recheck: bool,
}

impl NetworkMismatch {
    /// Has the network read again within a second.
    pub fn request_recheck(&mut self) {
        self.recheck = true;
    }

    /// A second has passed; whether the network is to be read again.
    pub fn on_second_elapsed(&mut self) -> bool {
        self.wait = self.wait.saturating_sub(1);
        self.recheck || (!self.reason.is_empty() && self.wait == 0)
    }

    /// The network is being read.
    pub fn begin_recheck(&mut self) {
        self.recheck = false;
    }

    /// A new configuration was accepted, so everything matches.
    pub fn clear(&mut self) {
        self.reason.clear();
    }

    /// Takes in why the network does not match (empty: it does), logs what is new, and sets the time of the next try.
    pub fn report(&mut self, reason: String, consequence: &str) {
        let known = reason == self.reason;
        self.delay = if known { (self.delay * 2).clamp(1, MAX_DELAY) } else { 1 };
        self.wait = self.delay;
        if known {
            return;
        }
        if reason.is_empty() {
            tracing::info!("the network matches the configuration again");
        } else {
            tracing::error!(
                "network and configuration do not match, or the kernel refused a change; {consequence}: {reason}"
            );
        }
        self.reason = reason;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds_until_due(mismatch: &mut NetworkMismatch) -> u32 {
        (1..100)
            .find(|_| mismatch.on_second_elapsed())
            .expect("it is due some time")
    }

    #[test]
    fn tries_are_spaced_up_to_eight_seconds() {
        let mut mismatch = NetworkMismatch::default();
        let mut waits = Vec::new();
        for _ in 0..6 {
            mismatch.report("eth0 is down".to_owned(), "skipped");
            waits.push(seconds_until_due(&mut mismatch));
        }
        assert_eq!(waits, [1, 2, 4, 8, 8, 8]);
        mismatch.report("eth1 is down".to_owned(), "skipped");
        assert_eq!(seconds_until_due(&mut mismatch), 1, "another reason is tried soon");
    }

    #[test]
    fn a_network_that_matches_is_read_on_request_only() {
        let mut mismatch = NetworkMismatch::default();
        assert!(!(0..20).any(|_| mismatch.on_second_elapsed()));
        mismatch.request_recheck();
        assert!(mismatch.on_second_elapsed());
        mismatch.begin_recheck();
        assert!(!mismatch.on_second_elapsed());
    }
}
