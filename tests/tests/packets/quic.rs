//! QUIC: packets follow the server id in their connection id, wherever they come from.

use anyhow::{Result, ensure};
use lbx::desired::{OnFailure, Scheduler, ServerState, Service, VirtualService};
use lbx_common::drops::DropReason;
use lbx_tests::{
    lab::{VIP, rip},
    packet::{Frame, extension::HOP_BY_HOP},
};

use crate::{
    cluster::{Flow, balanced, flow, udp, udp6},
    director::{Director, To},
    harness::{Fixture, story_of},
    outcome::Counts::{self, Continues, Opens},
};

/// maglev.
const HTTP3: VirtualService = udp(VIP, 443);
/// rr.
const TURNS: VirtualService = udp(VIP, 8_443);
/// The same ids for other real servers.
const OTHER: VirtualService = udp(VIP, 4_433);
/// maglev, without connection ids.
const PLAIN: VirtualService = udp(VIP, 9_443);
const HTTP3_6: VirtualService = udp6(443);

/// Server ids of rs1 and rs2; rs3 has none.
const IDS: [u16; 2] = [0, 0x1234];

/// QUIC version 1 (RFC 9000) and 2 (RFC 9369).
const V1: u32 = 1;
const V2: u32 = 0x6b33_43cf;

/// Types of long headers of version 1 (RFC 9000 section 17.2); those of version 2 are one higher (RFC 9369 section 3.2).
const INITIAL: u8 = 0;
const ZERO_RTT: u8 = 1;
const HANDSHAKE: u8 = 2;

fn cluster() -> Vec<Service> {
    let of = |id, scheduler, ids: &[(usize, u16)]| {
        let mut service = balanced(id, scheduler, &[(1, 1), (2, 1), (3, 1)]);
        service.quic = !ids.is_empty();
        for &(place, id) in ids {
            service.servers[place].quic_id = Some(id);
        }
        service
    };
    let ids = [(0, IDS[0]), (1, IDS[1])];
    vec![
        of(HTTP3, Scheduler::Maglev, &ids),
        of(TURNS, Scheduler::Rr, &ids),
        of(OTHER, Scheduler::Maglev, &[(1, IDS[0]), (0, IDS[1])]),
        of(PLAIN, Scheduler::Maglev, &[]),
        of(HTTP3_6, Scheduler::Maglev, &ids),
    ]
}

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    [followed(), scheduled(), changes()].into_iter().flatten().collect()
}

fn story(says: &'static str, plays: fn(&mut Director) -> Result<()>) -> Fixture {
    story_of(says, cluster, plays)
}

/// A connection id: configuration in the upper three bits, server id, and what the server likes.
fn connection_id(configuration: u8, id: u16) -> [u8; 8] {
    let [a, b] = id.to_be_bytes();
    [configuration << 5 | 0x07, a, b, 1, 2, 3, 4, 5]
}

/// A packet of an established connection.
fn short(id: u16) -> Vec<u8> {
    [&[0x4a], connection_id(0, id).as_slice(), &[0x5a; 30]].concat()
}

/// A packet of a connection that is being made.
fn long(version: u32, kind: u8, id: u16) -> Vec<u8> {
    let kind = if version == V2 { kind + 1 } else { kind };
    let connection_id = connection_id(0, id);
    let mut packet = vec![0xc3 | kind << 4];
    packet.extend(version.to_be_bytes());
    packet.push(connection_id.len() as u8);
    packet.extend(connection_id);
    packet.extend([0x5a; 40]);
    packet
}

fn datagram(flow: Flow, packet: &[u8]) -> Frame {
    flow.datagram().payload(packet)
}

/// Checks that a packet goes to the n-th real server, from flows that hash to every one of them.
fn follows(director: &Director, service: VirtualService, packet: &[u8], number: u8) -> Result<()> {
    for owner in 1..=3 {
        let flow = director.flow_of(service, owner, true)?;
        director.sends(flow, &datagram(flow, packet), To::Rs(number), Continues)?;
    }
    Ok(())
}

/// Checks that a packet goes where any other would.
fn is_hashed(director: &Director, packet: &[u8]) -> Result<()> {
    for owner in 1..=3 {
        let flow = director.flow_of(HTTP3, owner, true)?;
        director.sends(flow, &datagram(flow, packet), To::Rs(owner), Continues)?;
    }
    Ok(())
}

fn followed() -> Vec<Fixture> {
    vec![
        story("a short header leads to the real server of its id", |d| {
            follows(d, HTTP3, &short(IDS[0]), 1)?;
            follows(d, HTTP3, &short(IDS[1]), 2)?;
            d.has_records(0)
        }),
        story("a short header over IPv6 leads to the real server of its id", |d| {
            follows(d, HTTP3_6, &short(IDS[0]), 1)?;
            follows(d, HTTP3_6, &short(IDS[1]), 2)
        }),
        story("a handshake leads to the real server of its id", |d| {
            follows(d, HTTP3, &long(V1, HANDSHAKE, IDS[1]), 2)
        }),
        story("a handshake of version 2 leads to the real server of its id", |d| {
            follows(d, HTTP3, &long(V2, HANDSHAKE, IDS[1]), 2)
        }),
        story("a client that moves stays where it is", moves),
        story("two services have ids each for itself", |d| {
            follows(d, HTTP3, &short(IDS[0]), 1)?;
            follows(d, OTHER, &short(IDS[0]), 2)
        }),
        story("an id is found behind IP options and extension headers", behind_headers),
        story("the shortest datagram that holds an id is followed", |d| {
            follows(d, HTTP3, &short(IDS[1])[..4], 2)
        }),
        story("an id comes before the record of rr", before_the_record),
    ]
}

fn moves(director: &mut Director) -> Result<()> {
    let first = director.flow_of(HTTP3, 1, true)?;
    director.sends(
        first,
        &datagram(first, &long(V1, INITIAL, 0x7777)),
        To::Rs(1),
        Continues,
    )?;
    director.sends(
        first,
        &datagram(first, &long(V1, HANDSHAKE, IDS[0])),
        To::Rs(1),
        Continues,
    )?;
    let moved = director.flow_of(HTTP3, 2, true)?.from([10, 11, 12, 13]);
    director.sends(moved, &datagram(moved, &short(IDS[0])), To::Rs(1), Continues)
}

fn behind_headers(director: &mut Director) -> Result<()> {
    let four = director.flow_of(HTTP3, 1, true)?;
    let frame = datagram(four, &short(IDS[1])).ip_options(&[1; 40]);
    director.sends(four, &frame, To::Rs(2), Continues)?;
    let six = director.flow_of(HTTP3_6, 1, true)?;
    let frame = datagram(six, &short(IDS[1])).behind(HOP_BY_HOP, 5);
    director.sends(six, &frame, To::Rs(2), Continues)
}

fn before_the_record(director: &mut Director) -> Result<()> {
    let flow = flow(TURNS, 40_000);
    let sends =
        |packet: &[u8], number, counts: Counts| director.sends(flow, &datagram(flow, packet), To::Rs(number), counts);
    sends(&long(V1, INITIAL, 0x7777), 1, Opens)?;
    sends(&short(IDS[1]), 2, Continues)?;
    sends(&long(V1, INITIAL, 0x7777), 1, Continues)
}

/// What leads nowhere is hashed like any datagram.
fn scheduled() -> Vec<Fixture> {
    let mut no_fixed_bit = short(IDS[1]);
    no_fixed_bit[0] &= !0x40;
    let mut short_id = long(V1, HANDSHAKE, IDS[1]);
    short_id[5] = 2;
    let mut encrypted = short(IDS[1]);
    encrypted[1] |= 1 << 5;
    let mut unroutable = short(IDS[1]);
    unroutable[1] |= 7 << 5;
    let hashed = |says, packet: Vec<u8>| story_of(says, cluster, move |director| is_hashed(director, &packet));
    vec![
        hashed(
            "an initial packet is hashed: its id is the client's choice",
            long(V1, INITIAL, IDS[1]),
        ),
        hashed("an initial packet of version 2 is hashed", long(V2, INITIAL, IDS[1])),
        hashed("a 0-RTT packet is hashed", long(V1, ZERO_RTT, IDS[1])),
        hashed("a 0-RTT packet of version 2 is hashed", long(V2, ZERO_RTT, IDS[1])),
        hashed(
            "a handshake of an unknown version is hashed",
            long(0x0a0a_0a0a, HANDSHAKE, IDS[1]),
        ),
        hashed("an id that nobody has is hashed", short(0x4321)),
        hashed(
            "a handshake of an id that nobody has is hashed",
            long(V1, HANDSHAKE, 0x4321),
        ),
        hashed(
            "the bytes of an id the other way round are another id",
            short(IDS[1].swap_bytes()),
        ),
        hashed("a packet without the fixed bit is hashed", no_fixed_bit),
        hashed("a connection id too short for a server id is hashed", short_id),
        hashed("a connection id of another configuration is hashed", encrypted),
        hashed("a connection id that says it cannot be routed is hashed", unroutable),
        hashed("a datagram of three bytes is hashed", short(IDS[1])[..3].to_vec()),
        hashed("an empty datagram is hashed", Vec::new()),
        story("what stands behind a datagram is no id", behind_the_datagram),
        story("a service that does not speak QUIC hashes everything", plain),
    ]
}

/// In a frame that is padded the server id 0 would be found in the padding.
fn behind_the_datagram(director: &mut Director) -> Result<()> {
    let flow = director.flow_of(HTTP3, 2, true)?;
    for length in 1..=3 {
        let packet = [&[0x4a, 0x07], [0; 2].as_slice()].concat();
        let frame = datagram(flow, &packet[..length]).padded();
        director.sends(flow, &frame, To::Rs(2), Continues)?;
    }
    let handshake = long(V1, HANDSHAKE, IDS[0]);
    let frame = datagram(flow, &handshake[..8]).padded();
    director.sends(flow, &frame, To::Rs(2), Continues)
}

fn plain(director: &mut Director) -> Result<()> {
    for owner in 1..=3 {
        let flow = director.flow_of(PLAIN, owner, true)?;
        director.sends(flow, &datagram(flow, &short(IDS[1])), To::Rs(owner), Continues)?;
    }
    Ok(())
}

fn changes() -> Vec<Fixture> {
    vec![
        story("an id of a real server that has failed is hashed", failed),
        story("an id of a real server that drains leads there", draining),
        story(
            "an id of a real server that is held leads nowhere until it is back",
            held,
        ),
        story("an id that another real server gets leads there", given),
        story("an id that a real server no longer has is hashed", taken),
        story("a service that is removed leaves no ids", removed),
    ]
}

fn failed(director: &mut Director) -> Result<()> {
    director.lose(HTTP3, 2)?;
    let flow = director.flow_of(HTTP3, 3, true)?;
    director.sends(flow, &datagram(flow, &short(IDS[1])), To::Rs(3), Continues)?;
    director.find(HTTP3, 2)?;
    director.sends(flow, &datagram(flow, &short(IDS[1])), To::Rs(2), Continues)
}

fn draining(director: &mut Director) -> Result<()> {
    director.weigh(HTTP3, 2, 0)?;
    let flow = director.flow_of(HTTP3, 1, true)?;
    director.sends(flow, &datagram(flow, &short(IDS[1])), To::Rs(2), Continues)?;
    let new = director.flow(HTTP3, |flow| director.slot(flow).has_records)?;
    ensure!(director.server(new, To::Current)? != rip(2), "it drains");
    Ok(())
}

fn held(director: &mut Director) -> Result<()> {
    let flow = director.flow_of(HTTP3, 1, true)?;
    director.stand(HTTP3, 2, ServerState::Down(OnFailure::Drop))?;
    director.drops(&datagram(flow, &short(IDS[1])), DropReason::NoBackend)?;
    director.stand(HTTP3, 2, ServerState::Down(OnFailure::Keep))?;
    director.sends(flow, &datagram(flow, &short(IDS[1])), To::Rs(2), Continues)?;
    director.stand(HTTP3, 2, ServerState::Down(OnFailure::Drop))?;
    director.stand(HTTP3, 2, ServerState::Up)?;
    director.sends(flow, &datagram(flow, &short(IDS[1])), To::Rs(2), Continues)
}

fn given(director: &mut Director) -> Result<()> {
    let servers = &mut director.service_mut(HTTP3)?.servers;
    (servers[1].quic_id, servers[2].quic_id) = (None, Some(IDS[1]));
    director.plan()?;
    follows(director, HTTP3, &short(IDS[1]), 3)
}

fn taken(director: &mut Director) -> Result<()> {
    director.service_mut(HTTP3)?.servers[1].quic_id = None;
    director.plan()?;
    is_hashed(director, &short(IDS[1]))?;
    follows(director, HTTP3, &short(IDS[0]), 1)
}

fn removed(director: &mut Director) -> Result<()> {
    let service = director.service_mut(HTTP3)?.clone();
    director.remove(HTTP3)?;
    director.desired.services.push(Service {
        servers: balanced(HTTP3, Scheduler::Maglev, &[(1, 1), (2, 1), (3, 1)]).servers,
        ..service
    });
    director.plan()?;
    is_hashed(director, &short(IDS[1]))
}
