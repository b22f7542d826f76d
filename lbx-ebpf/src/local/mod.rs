//! What the director itself sends to a VIP and gets back from there: probes of real servers, and connections to its own
//! VIPs (see [`lbx_common::session`]).
//!
//! - [`socket`]: leads sockets to a backend where they ask for a VIP (cgroup hooks)
//! - [`egress`]: on the way out the VIP takes the place of the RIP (tc)
//! - [`reply`]: on the way in the RIP takes the place of the VIP (XDP)
//! - [`session`]: what the latter two tell each other

#[cfg_attr(not(target_arch = "bpf"), expect(dead_code, reason = "called by a program"))]
pub mod egress;
pub mod reply;
mod session;
#[cfg_attr(not(target_arch = "bpf"), expect(dead_code, reason = "called by programs"))]
pub mod socket;
