//! The director's own traffic with VIPs: probes of real servers, and connections to its own VIPs (see
//! [`lbx_common::session`]).
//!
//! - [`socket`]: steers sockets that connect to a VIP to a backend (cgroup hooks)
//! - [`egress`]: replaces the RIP by the VIP in sent packets (tc)
//! - [`reply`]: replaces the VIP by the RIP in received packets (XDP)
//! - [`session`]: the table that the former writes and the latter reads

#[cfg_attr(not(target_arch = "bpf"), expect(dead_code, reason = "called by a program"))]
pub mod egress;
pub mod reply;
mod session;
#[cfg_attr(not(target_arch = "bpf"), expect(dead_code, reason = "called by programs"))]
pub mod socket;
