//! The lab: whole clusters on one machine, of real programs and a real network stack.
//!
//! - [`lab`]: hosts ([`host`]) in network namespaces ([`netns`]), joined by bridges; what a killed run left is swept
//!   ([`leftovers`]), and their bonds ([`bond`]);
//! - [`lbx`](mod@lbx): the program under test as director and as a real server's agent, its file ([`cluster`]) and its listing
//!   ([`listing`]);
//! - [`server_states`], [`notifications`]: the states of real servers in its listing, and its notify command;
//! - [`nginx`], [`tls`], [`dns`], [`servers`]: who serves;
//! - [`clients`], [`datagram_stream`], [`load`], [`wrk`], [`download`], [`payload`], [`cgroup`]: who asks;
//! - [`manual_setup`], [`xdp`]: an LVS-DR cluster without lbx, by which the lab proves itself;
//! - [`packet`]: frames for fixtures, whole and broken;
//! - [`process`], [`wait`], [`patience`], [`timing`], [`mac`], [`bpffs`]: what all of these need.
//!
//! The library needs root to do anything, but its unit tests do not.

pub mod bond;
pub mod bpffs;
pub mod cgroup;
pub mod clients;
pub mod cluster;
pub mod datagram_stream;
pub mod dns;
pub mod download;
pub mod host;
pub mod lab;
pub mod lbx;
pub mod leftovers;
pub mod listing;
pub mod load;
pub mod mac;
pub mod manual_setup;
pub mod netns;
pub mod nginx;
pub mod notifications;
pub mod packet;
pub mod patience;
pub mod payload;
pub mod process;
pub mod server_states;
pub mod servers;
pub mod timing;
pub mod tls;
pub mod wait;
pub mod wrk;
pub mod xdp;
