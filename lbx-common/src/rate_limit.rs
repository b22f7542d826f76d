//! The rate of the RSTs and ICMP errors of a service without a usable real server: a token bucket in one word, so that all CPUs share
//! it without a lock.
//!
//! The word is the time at which the bucket is full again (the theoretical arrival time of the generic cell rate algorithm, ITU-T
//! I.371), in nanoseconds of the monotonic clock. Zero is a full bucket.

/// Answers of a service a second, and as many at once after a second without any.
pub const RATE: u64 = 1_000;

const SECOND: u64 = 1_000_000_000;
/// Nanoseconds in which a token is added.
const INTERVAL: u64 = SECOND / RATE;

/// The bucket after a token has been taken at a time; none where it is empty.
#[inline(always)]
#[must_use]
pub const fn take(full_at: u64, now: u64) -> Option<u64> {
    let start = if full_at > now { full_at } else { now };
    let next = start + INTERVAL;
    if next - now > SECOND { None } else { Some(next) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many tokens can be taken at one time, and the bucket then.
    fn drain(mut bucket: u64, now: u64) -> (u64, u64) {
        let mut taken = 0;
        while let Some(next) = take(bucket, now) {
            bucket = next;
            taken += 1;
        }
        (taken, bucket)
    }

    #[test]
    fn a_full_bucket_has_a_second_of_tokens_and_gets_one_a_millisecond() {
        let now = 5 * SECOND;
        let (taken, empty) = drain(0, now);
        assert_eq!(taken, RATE);
        assert_eq!(drain(empty, now).0, 0);
        assert_eq!(drain(empty, now + INTERVAL - 1).0, 0);
        assert_eq!(drain(empty, now + 10 * INTERVAL).0, 10);
        assert_eq!(drain(empty, now + 60 * SECOND).0, RATE, "it holds no more");
    }
}
