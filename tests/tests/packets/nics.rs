//! More than one NIC: frames come in by one and leave by another. In a network namespace with a veth pair.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use aya::programs::XdpMode;
use lbx_common::{
    backend::VlanTags,
    drops::DropReason,
    nic::{CLIENT_FACING, SERVER_FACING},
};
use lbx_tests::{
    lab::{DIP, rip},
    mac::Mac,
    netns::{LIMIT, Namespace},
    process,
};
use nix::net::if_::if_nametoindex;

use crate::{
    cluster::{self, DNS, Flow, LO, MAGLEV, RR, flow, hop},
    director::{Director, To, unique_name},
    harness::{Fixture, free_story},
    outcome::{
        Counts::{Continues, Opens},
        Expected,
    },
};

/// MAC address of the second NIC.
const SECOND_MAC: Mac = Mac([0x02, 0, 10, 0, 0, 2]);

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    vec![
        two_nics(
            "a packet for a real server behind another NIC is redirected, from that one's address",
            redirected,
        ),
        two_nics(
            "a packet that came in by the NIC of its real server goes back by it",
            back_again,
        ),
        two_nics("a jumbo packet is redirected", jumbo),
        two_nics("a frame to the address of the director's other NIC passes", wrong_nic),
        two_nics("a NIC with real servers only passes what is for services", servers_only),
        two_nics("a packet for a NIC that has been forgotten is dropped", forgotten),
        two_nics("a packet for a NIC that is gone is dropped", gone),
        two_nics(
            "a frame to a client NIC's address is forwarded from a NIC that is not known, as from a bond's new member",
            new_member,
        ),
        two_nics("connections over two NICs share one record", shared_record),
    ]
}

/// A director with a second NIC, and where that one is.
struct Site {
    director: Director,
    namespace: Arc<Namespace>,
    /// Index of the second NIC.
    second: u32,
}

fn two_nics(says: &'static str, plays: fn(&mut Site) -> Result<()>) -> Fixture {
    free_story(says, move || {
        let namespace = Arc::new(Namespace::create(&unique_name())?);
        ip(
            &namespace,
            &format!("link add eth1 address {SECOND_MAC} type veth peer name far"),
        )?;
        ip(&namespace, "link set eth1 up")?;
        let outside = Arc::clone(&namespace);
        outside.enter(move || plays(&mut Site::new(namespace)?))?
    })
}

fn ip(namespace: &Namespace, arguments: &str) -> Result<()> {
    let mut ip = namespace.command("ip");
    process::run(ip.args(arguments.split_whitespace()), LIMIT)?.success()?;
    Ok(())
}

impl Site {
    /// Rs1 is behind the second NIC, the others are where clients are.
    fn new(namespace: Arc<Namespace>) -> Result<Self> {
        let second = if_nametoindex("eth1").context("eth1 is there")?;
        let mut director = Director::real(cluster::services())?;
        director.set_nic(second, VlanTags::NONE, SECOND_MAC, CLIENT_FACING | SERVER_FACING)?;
        // A test run on a NIC needs its receive queue, and veth has none for XDP without a program.
        director.dataplane_mut().attach(second, None, XdpMode::Driver)?;
        let mut behind = hop(rip(1), second);
        behind.source = SECOND_MAC.0;
        director.hops.insert(rip(1).into(), behind);
        director.plan()?;
        Ok(Self {
            director,
            namespace,
            second,
        })
    }

    /// A flow that maglev gives to rs1, or to another.
    fn flow(&self, behind: bool) -> Result<Flow> {
        self.director.flow_of(MAGLEV, 1, behind)
    }
}

fn redirected(site: &mut Site) -> Result<()> {
    let (first, second, dns) = (flow(RR, 40_000), flow(RR, 40_001), flow(DNS, 40_000));
    site.director.sends(first, &first.syn(), To::Rs(1), Opens)?;
    site.director.sends(first, &first.data(), To::Rs(1), Continues)?;
    site.director.sends(second, &second.syn(), To::Rs(2), Opens)?;
    site.director.sends(dns, &dns.datagram(), To::Rs(1), Opens)
}

fn back_again(site: &mut Site) -> Result<()> {
    let (behind, here) = (site.flow(true)?, site.flow(false)?);
    let director = &site.director;
    let syn = behind.syn().sent_to(SECOND_MAC);
    director.sends_from(site.second, behind, &syn, To::Rs(1), Opens)?;
    let across = here.syn().sent_to(SECOND_MAC);
    director.sends_from(site.second, here, &across, To::Owner, Opens)
}

fn jumbo(site: &mut Site) -> Result<()> {
    let flow = site.flow(true)?;
    let jumbo = flow.data().payload(&[0x5a; 8_960]);
    site.director.sends(flow, &jumbo, To::Rs(1), Continues)
}

fn wrong_nic(site: &mut Site) -> Result<()> {
    let (flow, director) = (flow(RR, 40_000), &site.director);
    director.expect(LO, &flow.syn().sent_to(SECOND_MAC), Expected::Passed)?;
    director.expect(site.second, &flow.syn().sent_to(Mac::of(DIP)), Expected::Passed)
}

fn new_member(site: &mut Site) -> Result<()> {
    let (flow, second) = (flow(RR, 40_000), site.second);
    site.director.dataplane_mut().remove_nic(second)?;
    let counts = [Opens, Continues];
    for (frame, counts) in [flow.syn(), flow.data()].into_iter().zip(counts) {
        site.director
            .sends_from(second, flow, &frame.sent_to(Mac::of(DIP)), To::Rs(1), counts)?;
        // Not to another address, nor with a tag that no segment has.
        site.director
            .expect(second, &flow.syn().sent_to(SECOND_MAC), Expected::Passed)?;
    }
    let tagged = flow.syn().sent_to(Mac::of(DIP)).tagged(0x8100, 7);
    site.director.expect(second, &tagged, Expected::Passed)
}

fn servers_only(site: &mut Site) -> Result<()> {
    let (flow, second) = (flow(RR, 40_000), site.second);
    site.director
        .set_nic(second, VlanTags::NONE, SECOND_MAC, SERVER_FACING)?;
    let syn = flow.syn().sent_to(SECOND_MAC);
    site.director.expect(second, &syn, Expected::Passed)?;
    site.director.expect(second, &syn.lying_version(5), Expected::Passed)?;
    site.director.sends(flow, &flow.syn(), To::Rs(1), Opens)
}

fn forgotten(site: &mut Site) -> Result<()> {
    let flow = site.flow(true)?;
    site.director.dataplane_mut().remove_nic(site.second)?;
    site.director
        .expect(LO, &flow.syn(), Expected::Dropped(DropReason::NoEgress))
}

fn gone(site: &mut Site) -> Result<()> {
    let flow = site.flow(true)?;
    ip(&site.namespace, "link delete eth1")?;
    site.director
        .expect(LO, &flow.syn(), Expected::Dropped(DropReason::NoEgress))
}

fn shared_record(site: &mut Site) -> Result<()> {
    let flow = flow(RR, 40_000);
    let director = &site.director;
    director.sends(flow, &flow.syn(), To::Rs(1), Opens)?;
    director.sends_from(
        site.second,
        flow,
        &flow.data().sent_to(SECOND_MAC),
        To::Rs(1),
        Continues,
    )?;
    director.has_records(1)
}
