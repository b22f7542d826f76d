//! ICMP errors about what a real server sent go to that real server; other ICMP is the stack's.
//!
//! - [`flows`]: which real server that is
//! - [`quotes`]: what an error must quote, and what it must not

mod flows;
mod quotes;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use lbx::desired::{Protocol, Scheduler, Service, VirtualService};
use lbx_tests::{
    lab::{DIP, VIP},
    mac::Mac,
    packet::{ACK, Frame, PSH},
};

use crate::{
    cluster::{Flow, SECOND_VIP, balanced, tcp, tcp6, udp, udp6},
    director::Director,
    harness::{Fixture, story_of},
};

const HTTP: VirtualService = tcp(VIP, 80);
const TLS: VirtualService = tcp(VIP, 443);
const DNS: VirtualService = udp(VIP, 53);
const SYSLOG: VirtualService = udp(VIP, 514);
const SECOND: VirtualService = tcp(SECOND_VIP, 80);
const HTTP6: VirtualService = tcp6(80);
const TLS6: VirtualService = tcp6(443);
const DNS6: VirtualService = udp6(53);

/// Who reports an error.
const ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);

/// Types and codes.
const PORT_UNREACHABLE: (u8, u8) = (3, 3);
const FRAGMENTATION_NEEDED: (u8, u8) = (3, 4);
const PACKET_TOO_BIG: (u8, u8) = (2, 0);

fn cluster() -> Vec<Service> {
    const EVEN: &[(u8, u16)] = &[(1, 1), (2, 1)];
    vec![
        balanced(HTTP, Scheduler::Rr, EVEN),
        balanced(TLS, Scheduler::Maglev, EVEN),
        balanced(DNS, Scheduler::Rr, EVEN),
        balanced(SYSLOG, Scheduler::Maglev, EVEN),
        balanced(SECOND, Scheduler::Rr, EVEN),
        balanced(HTTP6, Scheduler::Rr, EVEN),
        balanced(TLS6, Scheduler::Maglev, EVEN),
        balanced(DNS6, Scheduler::Rr, EVEN),
    ]
}

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    [flows::fixtures(), quotes::fixtures()].into_iter().flatten().collect()
}

fn story(says: &'static str, plays: impl FnOnce(&mut Director) -> Result<()> + Send + 'static) -> Fixture {
    story_of(says, cluster, plays)
}

/// What a real server answered.
fn answer(flow: Flow) -> Frame {
    let (from, to) = (flow.destination(), flow.client);
    let frame = match flow.service.protocol {
        Protocol::Tcp => Frame::tcp(from, to, PSH | ACK),
        Protocol::Udp => Frame::udp(from, to),
    };
    frame.payload(&[0x5a; 1_400])
}

/// An error of a type and code that quotes something, to a VIP.
fn error((kind, code): (u8, u8), vip: IpAddr, quote: &[u8]) -> Frame {
    let rest = [0, 0, 0x05, 0x78];
    let frame = match vip {
        IpAddr::V4(vip) => Frame::icmp(ROUTER, vip, kind, code, rest),
        IpAddr::V6(vip) => Frame::icmp(ROUTER6, vip, kind, code, rest),
    };
    frame.payload(quote).sent_to(Mac::of(DIP))
}

/// An error about the answer of a flow, which quotes as much as is usual.
fn about(flow: Flow, kind: (u8, u8)) -> Frame {
    quoting(flow, &answer(flow), kind)
}

/// An error about something a real server sent: IPv4 quotes eight bytes behind the header at least, IPv6 as much as fits
/// into 1,280 bytes (RFC 792, RFC 4443 section 2.4).
fn quoting(flow: Flow, sent: &Frame, kind: (u8, u8)) -> Frame {
    let packet = sent.packet();
    let length = if flow.client.is_ipv4() { 28 } else { 1_232 };
    error(kind, flow.service.vip, &packet[..length.min(packet.len())])
}
