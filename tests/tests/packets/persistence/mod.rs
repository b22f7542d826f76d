//! Clients that persist: all their connections go to one real server, for as long as they come back in time.
//!
//! - [`clients`]: who is a client, and for how long it is remembered
//! - [`connections`]: clients of whom a connection lives
//! - [`servers`]: what becomes of clients when real servers change, and when there is no room to remember them

mod clients;
mod connections;
mod servers;

use std::net::IpAddr;

use lbx::desired::{Persistence, PortSet, Scheduler, Service, VirtualService};
use lbx_tests::lab::VIP;

use crate::{
    cluster::{Flow, balanced, flow, tcp, tcp6, udp},
    director::Director,
    harness::{Fixture, story_of},
};

/// 80 and 443.
const WEB: VirtualService = tcp(VIP, 80);
/// Another service on the same VIP.
const OTHER: VirtualService = tcp(VIP, 8_080);
const RADIUS: VirtualService = udp(VIP, 1_812);
const WEB6: VirtualService = tcp6(80);

/// A client of another network than [`IN_NETWORK`].
const CLIENT: [u8; 4] = [10, 1, 2, 3];
/// Two clients of one network of 24 bits.
const IN_NETWORK: [[u8; 4]; 2] = [[10, 9, 9, 1], [10, 9, 9, 200]];

/// Seconds.
const TIMEOUT: u16 = 300;

fn persistence(prefix: u8) -> Persistence {
    Persistence {
        timeout_seconds: TIMEOUT,
        prefix,
        persist_while_draining: true,
    }
}

fn cluster() -> Vec<Service> {
    let of = |id: VirtualService, persistence| Service {
        persistence: Some(persistence),
        ..balanced(id, Scheduler::Rr, &[(1, 1), (2, 1), (3, 1)])
    };
    let web = Service {
        ports: PortSet::from_ports([80, 443]),
        ..of(WEB, persistence(32))
    };
    vec![
        web,
        of(OTHER, persistence(24)),
        of(RADIUS, persistence(32)),
        of(WEB6, persistence(64)),
    ]
}

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    [clients::fixtures(), connections::fixtures(), servers::fixtures()]
        .into_iter()
        .flatten()
        .collect()
}

fn story(says: &'static str, plays: fn(&mut Director) -> anyhow::Result<()>) -> Fixture {
    story_of(says, cluster, plays)
}

/// A flow from a port of a client.
fn from(client: impl Into<IpAddr>, service: VirtualService, port: u16) -> Flow {
    flow(service, port).from(client)
}
