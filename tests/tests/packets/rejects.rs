//! Packets that no real server may get: what their client is answered, and what is dropped.

use anyhow::{Result, ensure};
use lbx::desired::{OnEmpty, OnFailure, Scheduler, ServerState, Service, VirtualService};
use lbx_common::{
    drops::DropReason::{NoBackend, OrphanFragment, RejectLimit, Rejected},
    rate_limit::RATE,
};
use lbx_tests::{
    lab::{DIP, VIP},
    mac::Mac,
    packet::{
        ACK, FIN, Frame, RST, SERVICE_VLAN, SYN, VLAN,
        extension::{DESTINATION_OPTIONS, HOP_BY_HOP},
    },
};

use crate::{
    cluster::{Flow, LO, balanced, flow, tcp, tcp6, udp, udp6},
    director::{Director, To},
    harness::{Fixture, story_of},
    outcome::{
        Action,
        Counts::{Continues, Opens},
        Expected,
    },
};

/// Without real servers.
const HTTP: VirtualService = tcp(VIP, 80);
const DNS: VirtualService = udp(VIP, 53);
const HTTP6: VirtualService = tcp6(80);
const DNS6: VirtualService = udp6(53);
/// Likewise, and what it gets is dropped.
const SILENT: VirtualService = tcp(VIP, 81);
const SILENT_DNS: VirtualService = udp(VIP, 54);
/// rr over two.
const TURNS: VirtualService = tcp(VIP, 8_080);
/// mh over three, without fallback.
const STIFF: VirtualService = tcp(VIP, 444);
/// maglev over one.
const HASHED: VirtualService = tcp(VIP, 443);
const HASHED_DNS: VirtualService = udp(VIP, 55);
/// rr over one that takes a single connection.
const LIMITED: VirtualService = tcp(VIP, 85);
/// rr, every datagram by itself.
const ONE_PACKET: VirtualService = udp(VIP, 56);

fn cluster() -> Vec<Service> {
    let mut services: Vec<Service> = vec![
        balanced(HTTP, Scheduler::Rr, &[]),
        balanced(DNS, Scheduler::Rr, &[]),
        balanced(HTTP6, Scheduler::Maglev, &[]),
        balanced(DNS6, Scheduler::Maglev, &[]),
        balanced(TURNS, Scheduler::Rr, &[(1, 1), (2, 1)]),
        balanced(STIFF, Scheduler::Mh, &[(1, 1), (2, 1), (3, 1)]),
        balanced(HASHED, Scheduler::Maglev, &[(1, 1)]),
        balanced(HASHED_DNS, Scheduler::Maglev, &[(1, 1)]),
        balanced(LIMITED, Scheduler::Rr, &[(1, 1)]),
        balanced(ONE_PACKET, Scheduler::Rr, &[]),
    ];
    for service in &mut services {
        service.failure_policy.on_empty = OnEmpty::Reject;
        service.hash_options.fallback = service.virtual_service != STIFF;
        service.one_packet = service.virtual_service == ONE_PACKET;
        if service.virtual_service == LIMITED {
            service.servers[0].upper_threshold = 1;
        }
    }
    services.push(balanced(SILENT, Scheduler::Rr, &[]));
    services.push(balanced(SILENT_DNS, Scheduler::Rr, &[]));
    services
}

fn story(says: &'static str, plays: fn(&mut Director) -> Result<()>) -> Fixture {
    story_of(says, cluster, plays)
}

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    vec![
        story("a SYN is answered by a RST that acknowledges it", syn),
        story("a SYN with data and options is answered by a padded RST", syn_with_data),
        story(
            "a segment with ACK is answered by a RST of the number it acknowledges",
            acks,
        ),
        story("a segment without SYN and ACK is answered by a RST with ACK", bare),
        story("TCP over IPv6 is answered by a RST", six),
        story("the RST has neither IP options nor extension headers", options),
        story(
            "a datagram is answered by ICMP port unreachable that quotes it",
            datagrams,
        ),
        story("no more of a datagram is quoted than fits", long_datagrams),
        story(
            "a quoted datagram may have options or extension headers",
            datagram_options,
        ),
        story("a jumbo datagram is quoted as far as it fits", jumbo),
        story("VLAN tags stay", tags),
        story("a RST, a later fragment and an ICMP error are not answered", unanswered),
        story(
            "the first fragment of a datagram is answered, that of a segment is not",
            first_fragments,
        ),
        story("a frame from a group address is not answered", group),
        story("an ICMP error that does not fit is not sent", no_headroom),
        story("a service has as many answers as its rate allows", rate),
        story("with drop nothing is answered", silent),
        story(
            "packets of held flows are dropped or sent on, and new ones answered",
            held,
        ),
        story("datagrams that may be of a held flow are dropped", held_datagrams),
        story(
            "flows of a failed server that go elsewhere are answered if nobody is left",
            rehashed,
        ),
        story(
            "without fallback those are answered that hash to one that is down",
            stiff,
        ),
        story("where all are full new connections are answered", full),
        story("where all have weight 0 new connections are answered", drained),
        story("every datagram scheduled by itself is answered", one_packet),
        story("a service that gets a real server answers no longer", filled),
    ]
}

/// The IP header of an answer.
fn answer(frame: Frame) -> Frame {
    frame.identified(0)
}

/// The RST to a segment of a flow.
fn reset(flow: Flow, flags: u8, sequence: u32, acknowledged: u32) -> Frame {
    let frame = Frame::tcp(flow.destination(), flow.client, flags)
        .sent_by(Mac::of(DIP))
        .numbered(sequence, acknowledged)
        .window(0);
    let frame = answer(frame);
    if flow.client.is_ipv4() {
        frame.dont_fragment()
    } else {
        frame
    }
}

/// The ICMP error about a datagram of a flow, as far as it is quoted.
fn unreachable(flow: Flow, datagram: &Frame, most: usize) -> Frame {
    let (kind, code) = if flow.client.is_ipv4() { (3, 3) } else { (1, 4) };
    let mut quoted = datagram.packet();
    quoted.truncate(most);
    let frame = Frame::icmp(flow.service.vip, flow.client.ip(), kind, code, [0; 4])
        .sent_by(Mac::of(DIP))
        .payload(&quoted);
    let frame = answer(frame);
    if flow.client.is_ipv4() {
        frame.dont_fragment()
    } else {
        frame
    }
}

/// Bytes of a packet that an ICMP error quotes at most.
const QUOTE4: usize = 548;
const QUOTE6: usize = 1_232;

impl Director {
    /// Checks that a frame from lo is answered.
    fn rejects(&self, frame: &Frame, answer: Frame) -> Result<()> {
        self.expect(LO, frame, Expected::Rejected(Box::new(answer)))
    }
}

fn syn(director: &mut Director) -> Result<()> {
    let flow = flow(HTTP, 40_000);
    director.rejects(&flow.syn(), reset(flow, RST | ACK, 0, 2))?;
    // Frames of a real NIC are padded.
    director.rejects(&flow.syn().padded(), reset(flow, RST | ACK, 0, 2).padded())?;
    let last = flow.syn().numbered(u32::MAX, 0);
    director.rejects(&last, reset(flow, RST | ACK, 0, 0))
}

fn syn_with_data(director: &mut Director) -> Result<()> {
    let flow = flow(HTTP, 40_000);
    let syn = flow.syn().tcp_options(&[2, 4, 5, 0xb4, 1, 3, 3, 7]).numbered(1_000, 0);
    director.rejects(&syn, reset(flow, RST | ACK, 0, 1_001).padded())?;
    let data = syn.payload(b"early data");
    director.rejects(&data, reset(flow, RST | ACK, 0, 1_011).padded())?;
    let all = flow.tcp(SYN | FIN).numbered(1_000, 0).payload(&[7; 1_400]);
    director.rejects(&all, reset(flow, RST | ACK, 0, 2_402).padded())
}

fn acks(director: &mut Director) -> Result<()> {
    let flow = flow(HTTP, 40_000);
    for flags in [ACK, FIN | ACK, SYN | ACK] {
        let segment = flow.tcp(flags).numbered(77, 0xdead_beef);
        director.rejects(&segment, reset(flow, RST, 0xdead_beef, 0))?;
    }
    let data = flow.data().numbered(77, 0xffff_0000);
    director.rejects(&data, reset(flow, RST, 0xffff_0000, 0).padded())
}

fn bare(director: &mut Director) -> Result<()> {
    let flow = flow(HTTP, 40_000);
    director.rejects(&flow.tcp(0).numbered(5, 9), reset(flow, RST | ACK, 0, 5))?;
    director.rejects(&flow.tcp(FIN).numbered(5, 9), reset(flow, RST | ACK, 0, 6))
}

fn six(director: &mut Director) -> Result<()> {
    let flow = flow(HTTP6, 40_000);
    director.rejects(&flow.syn(), reset(flow, RST | ACK, 0, 2))?;
    director.rejects(&flow.data(), reset(flow, RST, 1, 0))
}

fn options(director: &mut Director) -> Result<()> {
    let four = flow(HTTP, 40_000);
    let options = [7, 7, 4, 0, 0, 0, 0, 0];
    director.rejects(
        &four.syn().ip_options(&options).tos(0xb8),
        reset(four, RST | ACK, 0, 2).padded(),
    )?;
    director.rejects(
        &four.data().ip_options(&[1; 40]).ttl(3),
        reset(four, RST, 1, 0).padded(),
    )?;
    let six = flow(HTTP6, 40_000);
    let syn = six.syn().behind(HOP_BY_HOP, 1).behind(DESTINATION_OPTIONS, 2);
    director.rejects(&syn.payload(b"abc"), reset(six, RST | ACK, 0, 5))
}

fn datagrams(director: &mut Director) -> Result<()> {
    for service in [DNS, DNS6] {
        let flow = flow(service, 40_000);
        for length in [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 100, 101] {
            let datagram = flow.datagram().payload(&vec![0xa5; length]);
            director.rejects(&datagram, unreachable(flow, &datagram, QUOTE4))?;
        }
        // Padding is no part of the packet.
        let short = flow.datagram().payload(b"x").padded();
        director.rejects(&short, unreachable(flow, &short, QUOTE4))?;
    }
    Ok(())
}

fn long_datagrams(director: &mut Director) -> Result<()> {
    for (service, most) in [(DNS, QUOTE4), (DNS6, QUOTE6)] {
        let flow = flow(service, 40_000);
        for length in [499, 519, 520, 521, 1_183, 1_184, 1_185, 1_400] {
            let payload: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let datagram = flow.datagram().payload(&payload);
            director.rejects(&datagram, unreachable(flow, &datagram, most))?;
        }
    }
    Ok(())
}

fn datagram_options(director: &mut Director) -> Result<()> {
    let four = flow(DNS, 40_000);
    let datagram = four.datagram().ip_options(&[1; 12]).tos(0xb8).ttl(3);
    director.rejects(&datagram, unreachable(four, &datagram, QUOTE4))?;
    let six = flow(DNS6, 40_000);
    let datagram = six.datagram().behind(HOP_BY_HOP, 1);
    director.rejects(&datagram, unreachable(six, &datagram, QUOTE6))
}

fn jumbo(director: &mut Director) -> Result<()> {
    for (service, most) in [(DNS, QUOTE4), (DNS6, QUOTE6)] {
        let flow = flow(service, 40_000);
        let datagram = flow.datagram().payload(&[0x5a; 8_960]);
        director.rejects(&datagram, unreachable(flow, &datagram, most))?;
    }
    let segment = flow(HTTP, 40_000);
    let jumbo = segment.data().payload(&[0x5a; 8_960]);
    director.rejects(&jumbo, reset(segment, RST, 1, 0).padded())
}

fn tags(director: &mut Director) -> Result<()> {
    use lbx_common::{backend::VlanTags, nic::CLIENT_FACING};
    let (http, dns, dns6) = (flow(HTTP, 40_000), flow(DNS, 40_000), flow(DNS6, 40_000));
    for (tags, ether_types) in [
        (VlanTags { outer: 10, inner: 0 }, vec![(VLAN, 0x600a)]),
        (
            VlanTags {
                outer: 100 | VlanTags::SERVICE_TAG_FLAG,
                inner: 5,
            },
            vec![(SERVICE_VLAN, 0xe064), (VLAN, 5)],
        ),
    ] {
        director.set_nic(LO, tags, Mac::of(DIP), CLIENT_FACING)?;
        let tagged = |frame: Frame| {
            let add = |frame: Frame, &(ether_type, control): &(u16, u16)| frame.tagged(ether_type, control);
            ether_types.iter().fold(frame, add)
        };
        director.rejects(&tagged(http.syn()), tagged(reset(http, RST | ACK, 0, 2)))?;
        director.rejects(&tagged(http.data()), tagged(reset(http, RST, 1, 0)).padded())?;
        for flow in [dns, dns6] {
            let datagram = tagged(flow.datagram());
            director.rejects(&datagram, tagged(unreachable(flow, &datagram, QUOTE4)))?;
        }
    }
    Ok(())
}

fn unanswered(director: &mut Director) -> Result<()> {
    for service in [HTTP, HTTP6] {
        let flow = flow(service, 40_000);
        director.drops(&flow.rst(), NoBackend)?;
        director.drops(&flow.tcp(RST | ACK), NoBackend)?;
        // What the VIP sent comes back as an error.
        let quoted = Frame::tcp(flow.destination(), flow.client, ACK).packet();
        let (kind, code) = if flow.client.is_ipv4() { (3, 1) } else { (1, 0) };
        let error = Frame::icmp(flow.client.ip(), flow.service.vip, kind, code, [0; 4])
            .sent_to(Mac::of(DIP))
            .payload(&quoted);
        director.drops(&error, NoBackend)?;
    }
    let flow = flow(DNS, 40_000);
    let later = Frame::protocol(flow.client.ip(), flow.service.vip, 17)
        .sent_to(Mac::of(DIP))
        .payload(&[1; 64])
        .fragment(8, false);
    director.drops(&later, OrphanFragment)
}

fn first_fragments(director: &mut Director) -> Result<()> {
    for (dns, http) in [(DNS, HTTP), (DNS6, HTTP6)] {
        let (dns, http) = (flow(dns, 40_000), flow(http, 40_000));
        let first = dns.datagram().payload(&[1; 64]).fragment(0, true);
        director.rejects(&first, unreachable(dns, &first, QUOTE4))?;
        director.drops(&http.syn().payload(&[1; 64]).fragment(0, true), NoBackend)?;
    }
    Ok(())
}

fn group(director: &mut Director) -> Result<()> {
    let sources = [Mac([0xff; 6]), Mac([0x01, 0, 0x5e, 0, 0, 1])];
    for source in sources {
        director.drops(&flow(HTTP, 40_000).syn().sent_by(source), NoBackend)?;
        director.drops(&flow(DNS, 40_000).datagram().sent_by(source), NoBackend)?;
    }
    Ok(())
}

fn no_headroom(director: &mut Director) -> Result<()> {
    let (dns, http) = (flow(DNS, 40_000), flow(HTTP, 40_000));
    // A frame of a test run has room in steps of four bytes.
    let outcome = director.run_confined(24, &dns.datagram())?;
    ensure!(outcome.action == Action::Drop, "{:?}", outcome.action);
    let outcome = director.run_confined(28, &dns.datagram())?;
    ensure!(outcome.action == Action::Tx, "{:?}", outcome.action);
    ensure!(
        outcome.bytes == unreachable(dns, &dns.datagram(), QUOTE4).bytes(),
        "another answer"
    );
    let outcome = director.run_confined(0, &http.syn())?;
    ensure!(
        outcome.action == Action::Tx,
        "a RST needs no more room: {:?}",
        outcome.action
    );
    Ok(())
}

fn rate(director: &mut Director) -> Result<()> {
    let (http, dns) = (flow(HTTP, 40_000), flow(DNS, 40_000));
    for _ in 0..RATE {
        let outcome = director.run(LO, &http.syn())?;
        ensure!(outcome.action == Action::Tx, "{:?}", outcome.action);
    }
    director.drops(&http.syn(), RejectLimit)?;
    director.drops(&http.rst(), NoBackend)?;
    director.rejects(&dns.datagram(), unreachable(dns, &dns.datagram(), QUOTE4))?;
    let rejected = director.dataplane().drops(Rejected)?;
    director.pass(1)?;
    for _ in 0..RATE + 10 {
        director.run(LO, &http.syn())?;
    }
    let rejected = director.dataplane().drops(Rejected)? - rejected;
    ensure!(rejected == RATE, "{rejected} answers after a second");
    director.drops(&http.syn(), RejectLimit)
}

fn silent(director: &mut Director) -> Result<()> {
    director.drops(&flow(SILENT, 40_000).syn(), NoBackend)?;
    director.drops(&flow(SILENT, 40_000).ack(), NoBackend)?;
    director.drops(&flow(SILENT_DNS, 40_000).datagram(), NoBackend)?;
    director.service_mut(SILENT)?.failure_policy.on_empty = OnEmpty::Reject;
    director.plan()?;
    let flow = flow(SILENT, 40_000);
    director.rejects(&flow.syn(), reset(flow, RST | ACK, 0, 2))?;
    director.service_mut(SILENT)?.failure_policy.on_empty = OnEmpty::Drop;
    director.plan()?;
    director.drops(&flow.syn(), NoBackend)
}

fn held(director: &mut Director) -> Result<()> {
    for (service, servers) in [(TURNS, 1..=2), (HASHED, 1..=1)] {
        let (old, new) = (flow(service, 40_000), flow(service, 40_001));
        director.opens(old, To::Rs(1))?;
        for number in servers.clone() {
            director.stand(service, number, ServerState::Down(OnFailure::Drop))?;
        }
        for segment in [old.ack(), old.data(), old.fin()] {
            director.drops(&segment, NoBackend)?;
        }
        director.rejects(&new.syn(), reset(new, RST | ACK, 0, 2))?;
        for number in servers.clone() {
            director.stand(service, number, ServerState::Down(OnFailure::Keep))?;
        }
        director.sends(old, &old.data(), To::Rs(1), Continues)?;
        director.rejects(&new.syn(), reset(new, RST | ACK, 0, 2))?;
        for number in servers {
            director.stand(service, number, ServerState::Up)?;
        }
        director.sends(old, &old.data(), To::Rs(1), Continues)?;
    }
    Ok(())
}

fn held_datagrams(director: &mut Director) -> Result<()> {
    let old = flow(HASHED_DNS, 40_000);
    director.stand(HASHED_DNS, 1, ServerState::Down(OnFailure::Drop))?;
    director.drops(&old.datagram(), NoBackend)
}

fn rehashed(director: &mut Director) -> Result<()> {
    for service in [TURNS, HASHED] {
        let old = flow(service, 40_000);
        director.opens(old, To::Rs(1))?;
        director.stand(service, 1, ServerState::Down(OnFailure::Rehash))?;
        if service == TURNS {
            director.stand(service, 2, ServerState::Down(OnFailure::Rehash))?;
        }
        director.rejects(&old.data().numbered(5, 6), reset(old, RST, 6, 0).padded())?;
    }
    Ok(())
}

fn stiff(director: &mut Director) -> Result<()> {
    let theirs = director.flow_of(STIFF, 2, true)?;
    let other = director.flow_of(STIFF, 3, true)?;
    for failure in [OnFailure::Rehash, OnFailure::Keep, OnFailure::Drop] {
        director.stand(STIFF, 2, ServerState::Down(failure))?;
        director.rejects(&theirs.syn(), reset(theirs, RST | ACK, 0, 2))?;
        director.opens(other, To::Rs(3))?;
        director.stand(STIFF, 2, ServerState::Up)?;
    }
    director.sends(theirs, &theirs.syn(), To::Rs(2), Opens)
}

fn full(director: &mut Director) -> Result<()> {
    let (first, second) = (flow(LIMITED, 40_000), flow(LIMITED, 40_001));
    director.opens(first, To::Rs(1))?;
    director.rejects(&second.syn(), reset(second, RST | ACK, 0, 2))?;
    director.sends(first, &first.data(), To::Rs(1), Continues)
}

fn drained(director: &mut Director) -> Result<()> {
    for service in [TURNS, HASHED] {
        let (old, new) = (flow(service, 40_000), flow(service, 40_001));
        director.opens(old, To::Rs(1))?;
        director.weigh(service, 1, 0)?;
        if service == TURNS {
            director.weigh(service, 2, 0)?;
        }
        director.sends(old, &old.data(), To::Rs(1), Continues)?;
        director.rejects(&new.syn(), reset(new, RST | ACK, 0, 2))?;
    }
    Ok(())
}

fn one_packet(director: &mut Director) -> Result<()> {
    let flow = flow(ONE_PACKET, 40_000);
    director.rejects(&flow.datagram(), unreachable(flow, &flow.datagram(), QUOTE4))
}

fn filled(director: &mut Director) -> Result<()> {
    use crate::cluster::{real_server, server_of};
    let flow = flow(HTTP, 40_000);
    director.rejects(&flow.syn(), reset(flow, RST | ACK, 0, 2))?;
    director.service_mut(HTTP)?.servers = vec![real_server(server_of(HTTP.vip, 1), 1)];
    director.plan()?;
    director.opens(flow, To::Rs(1))
}
