//! Replies from VIPs that come to this host because it is the real servers' gateway: they pass, and are counted.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use lbx::{desired::Scheduler, tables::lookup};
use lbx_common::{backend::VlanTags, nic};
use lbx_tests::{
    lab::{CLIENT, DIP, VIP, rip},
    mac::Mac,
    packet::{ACK, FIN, Frame, PSH, RST, SYN, VLAN},
};

use crate::{
    cluster::{CLIENT6, DNS, LO, NO_VIP, RR, VIP6, balanced, tcp6},
    director::Director,
    harness::{Fixture, story, story_of},
    outcome::Expected,
};

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    let replies = [
        ("a SYN with ACK from a VIP is counted", from(VIP, RR.port, SYN | ACK)),
        ("a datagram from a VIP is counted", datagram(VIP, DNS.port)),
        (
            "the first fragment of a datagram from a VIP is counted",
            datagram(VIP, DNS.port)
                .payload(&[7; 64])
                .identified(9)
                .fragment(0, true),
        ),
        (
            "a frame with a priority tag is counted",
            datagram(VIP, DNS.port).tagged(VLAN, 0xa000),
        ),
    ];
    let others = [
        (
            "an ACK from a VIP is not counted",
            from(VIP, RR.port, PSH | ACK).payload(b"x"),
        ),
        ("a FIN from a VIP is not counted", from(VIP, RR.port, FIN | ACK)),
        ("an RST from a VIP is not counted", from(VIP, RR.port, RST | ACK)),
        ("a SYN from a VIP is not counted", from(VIP, RR.port, SYN)),
        (
            "a SYN with ACK from a port without a service is not counted",
            from(VIP, RR.port + 9, SYN | ACK),
        ),
        (
            "a datagram from a port with a service over TCP is not counted",
            datagram(VIP, RR.port),
        ),
        ("a datagram from port 0 is not counted", datagram(VIP, 0)),
        (
            "a reply from another address is not counted",
            from(NO_VIP, RR.port, SYN | ACK),
        ),
        ("a reply from a RIP is not counted", from(rip(1), RR.port, SYN | ACK)),
        (
            "a reply to another host's MAC address is not counted",
            from(VIP, RR.port, SYN | ACK).sent_to(Mac::of(CLIENT)),
        ),
        (
            "a reply on a VLAN that is none of the director's is not counted",
            from(VIP, RR.port, SYN | ACK).tagged(VLAN, 10),
        ),
        (
            "a later fragment from a VIP is not counted",
            datagram(VIP, DNS.port)
                .payload(&[7; 64])
                .identified(9)
                .fragment(9, false),
        ),
        (
            "an ICMP error from a VIP is not counted",
            Frame::icmp(VIP, CLIENT, 3, 3, [0; 4])
                .payload(&datagram(VIP, DNS.port).packet()[..28])
                .sent_to(Mac::of(DIP)),
        ),
    ];
    let replies = replies.map(|(says, frame)| story(says, move |director| counts(director, &frame, [1, 0])));
    let others = others.map(|(says, frame)| story(says, move |director| counts(director, &frame, [0, 0])));
    let last = story("the last reply is known by its addresses and its segment", last);
    let over_ipv6 = story_of(
        "a SYN with ACK over IPv6 is counted",
        || vec![balanced(tcp6(80), Scheduler::Rr, &[(1, 1)])],
        |director| {
            let frame = reply(
                VIP6.into(),
                CLIENT6.into(),
                |from, to| Frame::tcp(from, to, SYN | ACK),
                80,
            );
            counts(director, &frame, [0, 1])
        },
    );
    replies.into_iter().chain(others).chain([last, over_ipv6]).collect()
}

/// A frame from a real server to the director, which is no address of the packet's.
fn reply(from: IpAddr, to: IpAddr, frame: impl Fn(SocketAddr, SocketAddr) -> Frame, port: u16) -> Frame {
    frame((from, port).into(), (to, 40_000).into())
        .sent_by(Mac::of(rip(1)))
        .sent_to(Mac::of(DIP))
}

fn from(address: std::net::Ipv4Addr, port: u16, flags: u8) -> Frame {
    reply(
        address.into(),
        CLIENT.into(),
        |from, to| Frame::tcp(from, to, flags),
        port,
    )
}

fn datagram(address: std::net::Ipv4Addr, port: u16) -> Frame {
    reply(address.into(), CLIENT.into(), Frame::udp, port)
}

/// The frame passes, and so many replies of each family are counted.
fn counts(director: &mut Director, frame: &Frame, expected: [u64; 2]) -> Result<()> {
    let before = counted(director)?;
    director.expect(LO, frame, Expected::Passed)?;
    let after = counted(director)?;
    let new = [after[0] - before[0], after[1] - before[1]];
    ensure!(new == expected, "{new:?} instead of {expected:?}");
    Ok(())
}

fn counted(director: &Director) -> Result<[u64; 2]> {
    let replies = director.dataplane().routed_replies()?;
    Ok(replies.map(|cpus| cpus.iter().map(|cpu| cpu.packets).sum()))
}

fn last(director: &mut Director) -> Result<()> {
    let before = director.dataplane().routed_replies()?;
    counts(director, &from(VIP, RR.port, SYN | ACK), [1, 0])?;
    let after = director.dataplane().routed_replies()?;
    let cpus = before[0].iter().zip(&after[0]);
    let changed: Vec<_> = cpus.filter(|(before, after)| before.packets != after.packets).collect();
    ensure!(changed.len() == 1, "{changed:?}");
    let (_, cpu) = changed[0];
    ensure!(lookup::ip(cpu.vip) == IpAddr::V4(VIP), "{cpu:?}");
    ensure!(lookup::ip(cpu.client) == IpAddr::V4(CLIENT), "{cpu:?}");
    ensure!(cpu.segment == nic::segment_key(LO, VlanTags::NONE), "{cpu:?}");
    Ok(())
}
