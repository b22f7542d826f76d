//! How long each test takes: every runner ends with its slowest ones, and `cargo xtask test` with the slowest of all.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Tests that are named at the end.
const SLOWEST: usize = 10;

static TAKEN: Mutex<Vec<(Duration, String)>> = Mutex::new(Vec::new());

/// Runs a test and records how long it takes.
pub fn timed<T>(name: &str, test: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = test();
    let taken = (begun.elapsed(), name.to_owned());
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner).push(taken);
    result
}

/// Prints the tests that took longest. `cargo xtask test` reads these lines.
pub fn print_slowest() {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    taken.sort_by(|one, other| other.cmp(one));
    println!("slowest tests:");
    for (time, name) in taken.iter().take(SLOWEST) {
        println!("{:>8.1} s  {name}", time.as_secs_f64());
    }
}
