//! Scheduling of new connections: pure functions of real servers and weights.
//!
//! - [`ring`]: the order in which schedulers that do not hash visit the candidates; what they compare is in
//!   [`lbx_common::load`]
//! - [`eligible`]: which real servers have slots of the hash table; [`maglev`]: the table

pub mod eligible;
pub mod maglev;
pub mod ring;

#[cfg(test)]
mod tests;

use lbx_common::ring::RingEntry;

/// A candidate for new connections: a backend's index within the service, the address it is hashed by, and its weight (not 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Index within the service; [`NO_BACKEND`](lbx_common::slot::NO_BACKEND) for one that is not up and keeps its slots.
    pub backend_index: u16,
    /// RIP: the same on every director, whatever the indices.
    pub address: std::net::IpAddr,
    /// Weight.
    pub weight: u16,
}

impl Candidate {
    /// Its entry in a ring.
    #[must_use]
    pub const fn ring_entry(&self) -> RingEntry {
        RingEntry {
            backend_index: self.backend_index,
            weight: self.weight,
        }
    }
}

/// The greatest common divisor of all weights; 1 where there are none.
fn common_divisor(candidates: &[Candidate]) -> u32 {
    let gcd = candidates.iter().fold(0, |a, c| gcd(a, u32::from(c.weight)));
    gcd.max(1)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
