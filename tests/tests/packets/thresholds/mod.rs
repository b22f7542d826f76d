//! Upper and lower thresholds, and the sorry server: who is full gets no new connections, and keeps those it has.
//!
//! - [`limits`]: who is full, and until when
//! - [`overflow`]: who gets what is too much: the sorry server, or another by hash

mod limits;
mod overflow;

use lbx::desired::{Scheduler, Service, VirtualService};
use lbx_tests::lab::VIP;

use crate::{
    cluster::{Flow, balanced, server_of, tcp, tcp6, udp},
    director::{Director, To},
    harness::{Fixture, story_of},
};

const HTTP: VirtualService = tcp(VIP, 80);
const HTTP6: VirtualService = tcp6(80);
const DNS: VirtualService = udp(VIP, 53);

/// Two real servers with the same thresholds.
fn limited(id: VirtualService, scheduler: Scheduler, upper: u32, lower: u32) -> Service {
    let mut service = balanced(id, scheduler, &[(1, 1), (2, 1)]);
    for server in &mut service.servers {
        (server.upper_threshold, server.lower_threshold) = (upper, lower);
    }
    service
}

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    [limits::fixtures(), overflow::fixtures()]
        .into_iter()
        .flatten()
        .collect()
}

fn story(
    says: &'static str,
    service: impl Fn() -> Service + Send + 'static,
    plays: fn(&mut Director) -> anyhow::Result<()>,
) -> Fixture {
    story_of(says, move || vec![service()], plays)
}

/// Whether the n-th real server owns the slot of a flow.
fn owned(director: &Director, flow: Flow, number: u8) -> bool {
    let server = director.server(flow, To::Owner);
    server.is_ok_and(|owner| owner == server_of(flow.service.vip, number))
}
