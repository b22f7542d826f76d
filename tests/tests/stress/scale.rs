//! How much is run: by default as much as every run of all tests can bear, with `LBX_STRESS=full` as much as it takes to
//! believe it.

use std::env;

/// Numbers of packets.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Of each flood.
    pub flood: u64,
    /// Of each CPU.
    pub cpu: u64,
    /// Of the fuzz run.
    pub fuzz: u64,
}

const BOUNDED: Scale = Scale {
    flood: 50_000,
    cpu: 500_000,
    fuzz: 500_000,
};

const FULL: Scale = Scale {
    flood: 10_000_000,
    cpu: 50_000_000,
    fuzz: 60_000_000,
};

impl Scale {
    /// What the environment asks for.
    pub fn wanted() -> Self {
        if env::var_os("LBX_STRESS").is_some_and(|value| value == "full") {
            FULL
        } else {
            BOUNDED
        }
    }
}

/// The seed of all that is random: `LBX_STRESS_SEED`, or always the same.
pub fn seed() -> u64 {
    let seed = env::var("LBX_STRESS_SEED").ok();
    seed.and_then(|seed| seed.parse().ok()).unwrap_or(1)
}
