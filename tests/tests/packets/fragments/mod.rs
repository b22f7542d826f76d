//! Fragments of both families: the first has the ports, the others follow it.
//!
//! - [`following`]: those that do
//! - [`unsteered`]: those that come without their first, and those that are broken

mod following;
mod unsteered;

use std::net::IpAddr;

use anyhow::Result;
use lbx::desired::{HashOptions, Protocol, Scheduler, Service, VirtualService};
use lbx_tests::{
    lab::{DIP, VIP},
    mac::Mac,
    packet::Frame,
};

use crate::{
    cluster::{Flow, SECOND_VIP, SECOND_VIP6, balanced, tcp, tcp6, udp, udp6},
    director::Director,
    harness::{Fixture, story_of},
};

const HTTP: VirtualService = tcp(VIP, 80);
const TLS: VirtualService = tcp(VIP, 443);
const DNS: VirtualService = udp(VIP, 53);
const SYSLOG: VirtualService = udp(VIP, 514);
const HTTP6: VirtualService = tcp6(80);
const DNS6: VirtualService = udp6(53);
const SYSLOG6: VirtualService = udp6(514);
/// sh on all ports, by the client's address.
const ALL: VirtualService = tcp(SECOND_VIP, 0);
/// rr on all ports.
const ALL_UDP: VirtualService = udp(SECOND_VIP, 0);
/// sh on all ports, by the client's address and port.
const ALL6: VirtualService = tcp6(0);
/// sh on all ports, by the client's address.
const ALL6_UDP: VirtualService = VirtualService {
    vip: IpAddr::V6(SECOND_VIP6),
    ..udp6(0)
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

fn cluster() -> Vec<Service> {
    const EVEN: &[(u8, u16)] = &[(1, 1), (2, 1)];
    let by_address = |id| Service {
        hash_options: HashOptions {
            include_port: false,
            fallback: false,
        },
        ..balanced(id, Scheduler::Sh, EVEN)
    };
    vec![
        balanced(HTTP, Scheduler::Rr, EVEN),
        balanced(TLS, Scheduler::Maglev, EVEN),
        balanced(DNS, Scheduler::Rr, EVEN),
        balanced(SYSLOG, Scheduler::Maglev, EVEN),
        balanced(HTTP6, Scheduler::Rr, EVEN),
        balanced(DNS6, Scheduler::Rr, EVEN),
        balanced(SYSLOG6, Scheduler::Maglev, EVEN),
        by_address(ALL),
        balanced(ALL_UDP, Scheduler::Rr, EVEN),
        balanced(ALL6, Scheduler::Sh, EVEN),
        by_address(ALL6_UDP),
    ]
}

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    [following::fixtures(), unsteered::fixtures()]
        .into_iter()
        .flatten()
        .collect()
}

fn story(says: &'static str, plays: impl FnOnce(&mut Director) -> Result<()> + Send + 'static) -> Fixture {
    story_of(says, cluster, plays)
}

/// The first 64 bytes of something of a flow, by TCP or UDP.
fn first(flow: Flow, identification: u32) -> Frame {
    let whole = match flow.service.protocol {
        Protocol::Tcp => flow.data().payload(&[0x5a; 44]),
        // The length is that of the whole datagram.
        Protocol::Udp => flow.datagram().payload(&[0x5a; 56]).lying_udp_length(1_448),
    };
    whole.identified(identification).fragment(0, true)
}

/// What comes behind the first fragment: at an offset in units of eight bytes.
fn later(flow: Flow, identification: u32, offset: u16, more: bool) -> Frame {
    let protocol = flow.service.protocol.number();
    from_to(flow.client.ip(), flow.service.vip, protocol)
        .identified(identification)
        .fragment(offset, more)
}

/// Fragments have 64 bytes here.
fn from_to(client: impl Into<IpAddr>, vip: impl Into<IpAddr>, protocol: u8) -> Frame {
    let frame = Frame::protocol(client, vip, protocol);
    frame.payload(&[0xa5; 64]).sent_to(Mac::of(DIP))
}
