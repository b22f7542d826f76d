//! Progress: a line when a step begins and one with its time when it ends; what runs in between writes freely.

use std::time::Instant;

/// The steps of a task.
pub struct Steps {
    total: usize,
    done: usize,
}

impl Steps {
    /// A task of so many steps.
    pub const fn new(total: usize) -> Self {
        Self { total, done: 0 }
    }

    /// Carries out the next step.
    pub fn run<T>(&mut self, what: &str, step: impl FnOnce() -> T) -> T {
        self.done += 1;
        let line = format!("[{}/{}] {what} …", self.done, self.total);
        eprintln!("{line}");
        let begun = Instant::now();
        let outcome = step();
        eprintln!("{line} {:.1} s", begun.elapsed().as_secs_f64());
        outcome
    }
}
