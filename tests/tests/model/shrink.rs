//! A history that fails, cut down to what it takes. Runs of steps go first, the longest first: proptest would try one step
//! after the other.

use std::time::{Duration, Instant};

use crate::history::{During, History, Step};

/// Nobody waits longer for a shorter history.
const LONGEST: Duration = Duration::from_secs(90);

/// The shortest history that was found to fail; `fails` tells at which step it does.
pub fn shrink(history: &History, mut fails: impl FnMut(&History) -> Option<usize>) -> History {
    let until = Instant::now() + LONGEST;
    let mut best = history.clone();
    let mut attempt = |best: &mut History, steps: Vec<Step>| {
        let shorter = History { steps, ..best.clone() };
        let Some(at) = fails(&shorter) else { return false };
        *best = shorter;
        best.steps.truncate(at + 1);
        true
    };
    loop {
        let before = best.steps.len();
        let mut size = best.steps.len().div_ceil(2);
        while size > 0 && Instant::now() < until {
            let mut end = best.steps.len();
            while end > 0 && Instant::now() < until {
                let start = end.saturating_sub(size);
                let mut steps = best.steps.clone();
                steps.drain(start..end.min(best.steps.len()));
                attempt(&mut best, steps);
                end = start.min(best.steps.len());
            }
            size /= 2;
        }
        if best.steps.len() == before || Instant::now() >= until {
            break;
        }
    }
    for place in 0..best.steps.len() {
        let mut simpler = simpler(&best.steps[place]);
        while let Some(step) = simpler.pop() {
            if place >= best.steps.len() || Instant::now() >= until {
                break;
            }
            let mut steps = best.steps.clone();
            steps[place] = step.clone();
            if attempt(&mut best, steps) {
                simpler = self::simpler(&step);
            }
        }
    }
    best
}

/// Steps that do less.
fn simpler(step: &Step) -> Vec<Step> {
    match step {
        Step::Plan { changes, during } => {
            let fewer = without_one(changes).map(|changes| Step::Plan {
                changes,
                during: during.clone(),
            });
            let calmer = calmer(during).map(|during| Step::Plan {
                changes: changes.clone(),
                during,
            });
            fewer.chain(calmer).collect()
        }
        Step::Age { during } => calmer(during).map(|during| Step::Age { during }).collect(),
        _ => Vec::new(),
    }
}

fn calmer(during: &During) -> impl Iterator<Item = During> + '_ {
    let fewer = without_one(&during.packets).map(|packets| During {
        packets,
        killed: during.killed,
    });
    let alive = during.killed.map(|_| During {
        packets: during.packets.clone(),
        killed: None,
    });
    fewer.chain(alive)
}

fn without_one<T: Clone>(all: &[T]) -> impl Iterator<Item = Vec<T>> + '_ {
    (0..all.len()).map(|gone| {
        let kept = all.iter().enumerate().filter(move |(place, _)| *place != gone);
        kept.map(|(_, one)| one.clone()).collect()
    })
}
