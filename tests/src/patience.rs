//! How long this machine may take: limits are written for an idle machine and scaled by what the machine shows.
//!
//! A guest under emulation, or a machine with other work on every core, is slower by a factor that no test can know in
//! advance. So the factor is measured once, at the start of the lab, and every limit is multiplied by it. What lbx promises is
//! among these limits: on a machine as fast as the reference it is tested at its own length, and nowhere at less.

use std::{
    env,
    process::{Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

/// Programs that one measurement starts, one after the other.
const STARTS: u32 = 20;
/// What they take on an idle machine with two cores of 2.6 GHz: 20 ms measured.
const REFERENCE: Duration = Duration::from_millis(25);
/// A machine that is slower than this by the measurement is broken, and waiting longer does not help.
const MAX: f64 = 20.0;
/// Overrides the measurement, for guests whose clock and work do not agree.
const OVERRIDE: &str = "LBX_TEST_PATIENCE";

/// How many times slower than the idle reference machine this one is: 1 to 20, or the value of `LBX_TEST_PATIENCE`.
#[must_use]
pub fn slowness() -> f64 {
    static SLOWNESS: OnceLock<f64> = OnceLock::new();
    *SLOWNESS.get_or_init(|| {
        let stated = env::var(OVERRIDE).ok();
        stated.map_or_else(|| from_measurement(measure()), |text| from_override(&text))
    })
}

/// A limit of the idle reference machine, for this one: on a machine as fast as that, the limit itself.
#[must_use]
pub fn scaled(limit: Duration) -> Duration {
    limit.mul_f64(slowness())
}

/// The slowest of three measurements: a burst of other work counts.
fn measure() -> Duration {
    let once = |_| {
        let begun = Instant::now();
        for _ in 0..STARTS {
            let status = Command::new("true").stdin(Stdio::null()).status();
            // A machine that can't start programs fails in the tests themselves, with a reason.
            drop(status);
        }
        begun.elapsed()
    };
    (0..3).map(once).max().unwrap_or(REFERENCE)
}

/// The value of the override.
///
/// # Panics
/// It is not a factor: the tests would run with limits that nobody has asked for.
fn from_override(text: &str) -> f64 {
    let factor = text
        .parse()
        .ok()
        .filter(|factor: &f64| (1.0..=1_000.0).contains(factor));
    factor.unwrap_or_else(|| panic!("{OVERRIDE}={text} is not a factor from 1 to 1000"))
}

fn from_measurement(taken: Duration) -> f64 {
    let ratio = taken.as_secs_f64() / REFERENCE.as_secs_f64();
    ratio.clamp(1.0, MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_machine_is_the_reference() {
        assert_eq!(from_measurement(REFERENCE / 2), 1.0);
        assert_eq!(from_measurement(REFERENCE), 1.0);
    }

    #[test]
    fn a_slower_machine_is_measured_up_to_the_maximum() {
        assert!((from_measurement(REFERENCE * 3) - 3.0).abs() < 1e-6);
        assert_eq!(from_measurement(REFERENCE * 1_000), MAX);
    }

    #[test]
    fn an_override_is_a_factor() {
        assert!((from_override("2.5") - 2.5).abs() < 1e-6);
        for text in ["", "fast", "0.5", "1001", "NaN"] {
            assert!(std::panic::catch_unwind(|| from_override(text)).is_err(), "{text:?}");
        }
    }

    #[test]
    fn limits_never_shrink() {
        let limit = Duration::from_secs(1);
        assert!(scaled(limit) >= limit);
    }
}
