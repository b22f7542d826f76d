//! VLANs: clients in one, real servers in another, or in none. A NIC and the tags on it are a segment of their own.

use anyhow::Result;
use lbx::desired::{Scheduler, Service, VirtualService};
use lbx_common::{
    backend::VlanTags,
    drops::DropReason::{self, IpVersion, Loop, NoHeadroom, Truncated},
    nic::{CLIENT_FACING, SERVER_FACING},
};
use lbx_tests::{
    lab::VIP,
    mac::Mac,
    packet::{Frame, SERVICE_VLAN, VLAN},
};

use crate::{
    cluster::{Flow, LO, balanced, flow, server_of, tcp, tcp6, udp},
    director::{Director, To},
    harness::{Fixture, story_of},
    outcome::{
        Counts::{Continues, Opens},
        Expected, Sent,
    },
};

const HTTP: VirtualService = tcp(VIP, 80);
const TLS: VirtualService = tcp(VIP, 443);
const SYSLOG: VirtualService = udp(VIP, 514);
const HTTP6: VirtualService = tcp6(80);

/// MAC address of the director in VLANs: a VLAN device may have one of its own.
const TAGGED_MAC: Mac = Mac([0x02, 0, 10, 0, 0, 10]);

const UNTAGGED: [u16; 2] = [0, 0];
const VLAN_10: [u16; 2] = [10, 0];
const VLAN_20: [u16; 2] = [20, 0];
const SERVICE_30: [u16; 2] = [30 | VlanTags::SERVICE_TAG_FLAG, 0];
const STACKED: [u16; 2] = [100 | VlanTags::SERVICE_TAG_FLAG, 5];
const OTHERWISE_STACKED: [u16; 2] = [200, 6];

fn cluster() -> Vec<Service> {
    const EVEN: &[(u8, u16)] = &[(1, 1), (2, 1)];
    vec![
        balanced(HTTP, Scheduler::Rr, EVEN),
        balanced(TLS, Scheduler::Maglev, EVEN),
        balanced(SYSLOG, Scheduler::Maglev, EVEN),
        balanced(HTTP6, Scheduler::Rr, EVEN),
    ]
}

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    [ways(), priorities(), foreign(), confined()]
        .into_iter()
        .flatten()
        .collect()
}

/// Clients in one segment, all real servers in another.
fn between(
    says: &'static str,
    clients: [u16; 2],
    servers: [u16; 2],
    plays: impl FnOnce(&mut Director) -> Result<()> + Send + 'static,
) -> Fixture {
    story_of(says, cluster, move |director| {
        director.dataplane_mut().remove_nic(LO)?;
        let [outer, inner] = clients;
        director.set_nic(LO, VlanTags { outer, inner }, TAGGED_MAC, CLIENT_FACING | SERVER_FACING)?;
        for hop in director.hops.values_mut() {
            hop.vlan_tags = servers;
        }
        director.plan()?;
        plays(director)
    })
}

/// A frame as it comes from clients with these tags.
fn coming(frame: Frame, tags: &[(u16, u16)]) -> Frame {
    let tagged = |frame: Frame, &(ether_type, control): &(u16, u16)| frame.tagged(ether_type, control);
    tags.iter().fold(frame.sent_to(TAGGED_MAC), tagged)
}

/// The first frame of a connection by TCP goes to rs1 with these tags.
fn leaves(director: &Director, flow: Flow, frame: &Frame, tags: &[(u16, u16)]) -> Result<()> {
    let expected = Sent {
        tags: tags.to_vec(),
        ..director.sent(LO, flow, frame, To::Rs(1), Opens)?
    };
    director.expect(LO, frame, Expected::Sent(expected))
}

fn ways() -> Vec<Fixture> {
    let way = |says, clients, incoming: &'static [(u16, u16)], servers, outgoing: &'static [(u16, u16)]| {
        between(says, clients, servers, move |director| {
            for service in [HTTP, HTTP6] {
                let flow = flow(service, 40_000);
                leaves(director, flow, &coming(flow.syn(), incoming), outgoing)?;
                let long = flow.data().payload(&[0x5a; 8_900]);
                director.sends(flow, &coming(long, incoming), To::Rs(1), Continues)?;
            }
            let (tls, syslog) = (flow(TLS, 40_000), flow(SYSLOG, 40_000));
            director.sends(tls, &coming(tls.data().padded(), incoming), To::Owner, Continues)?;
            director.sends(syslog, &coming(syslog.datagram(), incoming), To::Owner, Continues)
        })
    };
    const V10: &[(u16, u16)] = &[(VLAN, 10)];
    const V20: &[(u16, u16)] = &[(VLAN, 20)];
    const S30: &[(u16, u16)] = &[(SERVICE_VLAN, 30)];
    const QINQ: &[(u16, u16)] = &[(SERVICE_VLAN, 100), (VLAN, 5)];
    const QINQ2: &[(u16, u16)] = &[(VLAN, 200), (VLAN, 6)];
    const PRIORITY: &[(u16, u16)] = &[(VLAN, 0)];
    const PRIORITY_V10: &[(u16, u16)] = &[(VLAN, 0), (VLAN, 10)];
    const V10_PRIORITY: &[(u16, u16)] = &[(VLAN, 10), (VLAN, 0)];
    vec![
        way("from a VLAN to none", VLAN_10, V10, UNTAGGED, &[]),
        way("from none to a VLAN", UNTAGGED, &[], VLAN_10, V10),
        way("within a VLAN", VLAN_10, V10, VLAN_10, V10),
        way("from a VLAN to another", VLAN_10, V10, VLAN_20, V20),
        way("from a VLAN to one of 802.1ad", VLAN_10, V10, SERVICE_30, S30),
        way("from a VLAN of 802.1ad to none", SERVICE_30, S30, UNTAGGED, &[]),
        way("from two tags to none", STACKED, QINQ, UNTAGGED, &[]),
        way("from none to two tags", UNTAGGED, &[], STACKED, QINQ),
        way("from two tags to one", STACKED, QINQ, VLAN_10, V10),
        way("from one tag to two", VLAN_10, V10, STACKED, QINQ),
        way("within two tags", STACKED, QINQ, STACKED, QINQ),
        way("from two tags to another two", STACKED, QINQ, OTHERWISE_STACKED, QINQ2),
        way("a priority tag is no VLAN and goes", UNTAGGED, PRIORITY, UNTAGGED, &[]),
        way("a priority tag becomes one of a VLAN", UNTAGGED, PRIORITY, VLAN_10, V10),
        way(
            "a priority tag before that of a VLAN goes",
            VLAN_10,
            PRIORITY_V10,
            VLAN_10,
            V10,
        ),
        way(
            "a priority tag behind that of a VLAN goes",
            VLAN_10,
            V10_PRIORITY,
            VLAN_10,
            V10,
        ),
    ]
}

/// Priority (three bits) and drop eligible (one) of a tag.
fn priorities() -> Vec<Fixture> {
    let kept = |says, clients, incoming: &'static [(u16, u16)], servers, outgoing: &'static [(u16, u16)]| {
        between(says, clients, servers, move |director| {
            let flow = flow(HTTP, 40_000);
            leaves(director, flow, &coming(flow.syn(), incoming), outgoing)
        })
    };
    vec![
        kept(
            "priority and drop eligible go with a frame to another VLAN",
            VLAN_10,
            &[(VLAN, 0xf00a)],
            VLAN_20,
            &[(VLAN, 0xf014)],
        ),
        kept(
            "drop eligible alone goes with a frame",
            VLAN_10,
            &[(VLAN, 0x100a)],
            SERVICE_30,
            &[(SERVICE_VLAN, 0x101e)],
        ),
        kept(
            "the priority of a priority tag goes with a frame into a VLAN",
            UNTAGGED,
            &[(VLAN, 0xa000)],
            VLAN_10,
            &[(VLAN, 0xa00a)],
        ),
        kept(
            "each of two tags keeps its own priority",
            STACKED,
            &[(SERVICE_VLAN, 0xe064), (VLAN, 0x6005)],
            OTHERWISE_STACKED,
            &[(VLAN, 0xe0c8), (VLAN, 0x6006)],
        ),
        kept(
            "of two tags the outer one's priority stays",
            STACKED,
            &[(SERVICE_VLAN, 0xe064), (VLAN, 0x6005)],
            VLAN_10,
            &[(VLAN, 0xe00a)],
        ),
        kept(
            "a second tag gets the priority of the first",
            VLAN_10,
            &[(VLAN, 0x600a)],
            STACKED,
            &[(SERVICE_VLAN, 0x6064), (VLAN, 0x6005)],
        ),
    ]
}

fn foreign() -> Vec<Fixture> {
    let passes =
        |says, clients, frame: Frame| between(says, clients, UNTAGGED, move |director| director.passes(&frame));
    let drops = |says, reason: DropReason, frame: Frame| {
        between(says, VLAN_10, UNTAGGED, move |director| director.drops(&frame, reason))
    };
    let syn = || flow(HTTP, 40_000).syn();
    let v10 = || coming(syn(), &[(VLAN, 10)]);
    vec![
        passes("a frame in another VLAN passes", VLAN_10, coming(syn(), &[(VLAN, 11)])),
        passes(
            "a frame in no VLAN passes where clients are in one",
            VLAN_10,
            coming(syn(), &[]),
        ),
        passes("a frame in a VLAN passes where clients are in none", UNTAGGED, v10()),
        passes(
            "a tag of 802.1ad is another VLAN",
            VLAN_10,
            coming(syn(), &[(SERVICE_VLAN, 10)]),
        ),
        passes(
            "a frame with one tag more passes",
            VLAN_10,
            coming(syn(), &[(VLAN, 10), (VLAN, 5)]),
        ),
        passes(
            "a frame with the outer one of two tags passes",
            STACKED,
            coming(syn(), &[(SERVICE_VLAN, 100)]),
        ),
        passes(
            "two tags the other way round pass",
            STACKED,
            coming(syn(), &[(VLAN, 5), (SERVICE_VLAN, 100)]),
        ),
        passes(
            "three tags pass",
            VLAN_10,
            coming(syn(), &[(VLAN, 0), (VLAN, 10), (VLAN, 0)]),
        ),
        passes(
            "a frame in the VLAN to another MAC address passes",
            VLAN_10,
            v10().sent_to(Mac([2; 6])),
        ),
        passes("a frame that ends inside its tag passes", VLAN_10, v10().cut_to(17)),
        passes("a frame that ends behind its tag passes", VLAN_10, v10().cut_to(18)),
        passes(
            "a broken packet in another VLAN passes",
            VLAN_10,
            coming(syn().lying_version(5), &[(VLAN, 11)]),
        ),
        drops(
            "a broken packet in the VLAN is dropped",
            IpVersion,
            coming(syn().lying_version(5), &[(VLAN, 10)]),
        ),
        drops(
            "a packet in the VLAN that lacks its last byte is dropped",
            Truncated,
            v10().cut_to(57),
        ),
        drops(
            "a packet in the VLAN from its own real server is dropped",
            Loop,
            v10().sent_by(Mac::of(server_of(HTTP.vip, 1))),
        ),
        between(
            "a VLAN where no clients are passes what is for services",
            VLAN_10,
            UNTAGGED,
            no_clients,
        ),
        between(
            "each VLAN of a NIC has an address of its own",
            VLAN_10,
            UNTAGGED,
            two_segments,
        ),
    ]
}

fn no_clients(director: &mut Director) -> Result<()> {
    let [outer, inner] = VLAN_10;
    director.set_nic(LO, VlanTags { outer, inner }, TAGGED_MAC, SERVER_FACING)?;
    director.passes(&coming(flow(HTTP, 40_000).syn(), &[(VLAN, 10)]))
}

fn two_segments(director: &mut Director) -> Result<()> {
    const OTHER_MAC: Mac = Mac([0x02, 0, 20, 0, 0, 20]);
    let [outer, inner] = VLAN_20;
    director.set_nic(LO, VlanTags { outer, inner }, OTHER_MAC, CLIENT_FACING)?;
    let (one, two) = (flow(HTTP, 40_000), flow(HTTP, 40_001));
    let to_other = |frame: Frame, vlan| frame.tagged(VLAN, vlan).sent_to(OTHER_MAC);
    director.passes(&to_other(one.syn(), 10))?;
    director.passes(&coming(one.syn(), &[(VLAN, 20)]))?;
    director.sends(one, &to_other(one.syn(), 20), To::Rs(1), Opens)?;
    director.sends(two, &coming(two.syn(), &[(VLAN, 10)]), To::Rs(2), Opens)?;
    // A client that comes by another VLAN is the same.
    director.sends(two, &to_other(two.data(), 20), To::Rs(2), Continues)
}

/// Frames with little room in front of them.
fn confined() -> Vec<Fixture> {
    vec![
        between("a tag that has just room is added", UNTAGGED, VLAN_10, |d| {
            room(d, 4, true)
        }),
        between(
            "a tag that has no room is not, and the frame is dropped",
            UNTAGGED,
            VLAN_10,
            |d| room(d, 0, false),
        ),
        between("two tags that have just room are added", UNTAGGED, STACKED, |d| {
            room(d, 8, true)
        }),
        between("a second tag that has no room is not added", UNTAGGED, STACKED, |d| {
            room(d, 4, false)
        }),
        between("a frame without tags needs no room", UNTAGGED, UNTAGGED, |d| {
            room(d, 0, true)
        }),
        between("another VLAN needs no room", VLAN_10, VLAN_20, |d| {
            confined_to(d, 0, true, &[(VLAN, 10)])
        }),
        between("to take a tag away needs no room", STACKED, VLAN_20, |d| {
            confined_to(d, 0, true, &[(SERVICE_VLAN, 100), (VLAN, 5)])
        }),
    ]
}

fn room(director: &mut Director, bytes: usize, enough: bool) -> Result<()> {
    confined_to(director, bytes, enough, &[])
}

fn confined_to(director: &mut Director, bytes: usize, enough: bool, incoming: &[(u16, u16)]) -> Result<()> {
    let flow = flow(HTTP, 40_000);
    let frame = coming(flow.syn(), incoming);
    let expected = if enough {
        Expected::Sent(director.sent(LO, flow, &frame, To::Rs(1), Opens)?)
    } else {
        Expected::Dropped(NoHeadroom)
    };
    let before = director.counted()?;
    let found = director.run_confined(bytes, &frame)?;
    expected.check(&frame, before, &found)
}
