//! What an ICMP error quotes: enough, too little, or something of somebody else.

use std::net::SocketAddr;

use lbx_common::drops::DropReason::{self, BadSource, IcmpQuote, ShortHeader, Truncated};
use lbx_tests::{
    lab::{CLIENT, DIP, VIP},
    mac::Mac,
    packet::{
        ACK, Frame,
        extension::{DESTINATION_OPTIONS, HOP_BY_HOP},
    },
};

use super::{
    FRAGMENTATION_NEEDED, PACKET_TOO_BIG, PORT_UNREACHABLE, ROUTER, SECOND, TLS, TLS6, about, answer, error, quoting,
    story,
};
use crate::{
    cluster::{CLIENT6, Flow, NO_VIP, VIP6, flow},
    director::To,
    harness::Fixture,
    outcome::Counts::Continues,
};

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    [quotes(), short(), foreign()].into_iter().flatten().collect()
}

fn drops(says: &'static str, reason: DropReason, frame: Frame) -> Fixture {
    story(says, move |director| director.drops(&frame, reason))
}

fn passes(says: &'static str, frame: Frame) -> Fixture {
    story(says, move |director| director.passes(&frame))
}

fn quotes() -> Vec<Fixture> {
    let to_owner = |says, flow: Flow, frame: Frame| {
        story(says, move |director| director.sends(flow, &frame, To::Owner, Continues))
    };
    let (tls, tls6) = (flow(TLS, 40_000), flow(TLS6, 40_000));
    let options = answer(tls).ip_options(&[1; 40]).packet();
    let extensions = answer(tls6).behind(HOP_BY_HOP, 2).behind(DESTINATION_OPTIONS, 1);
    let whole = answer(tls).payload(&[0x5a; 500]).packet();
    let outer_options = error(PORT_UNREACHABLE, tls.service.vip, &answer(tls).packet()[..28]).ip_options(&[1; 20]);
    let outer_extensions = about(tls6, PACKET_TOO_BIG)
        .behind(HOP_BY_HOP, 1)
        .behind(DESTINATION_OPTIONS, 1);
    vec![
        to_owner(
            "a quoted packet may have IP options",
            tls,
            error(FRAGMENTATION_NEEDED, tls.service.vip, &options[..68]),
        ),
        to_owner("an error may have IP options", tls, outer_options),
        to_owner(
            "a quoted packet may have extension headers",
            tls6,
            quoting(tls6, &extensions, PACKET_TOO_BIG),
        ),
        to_owner("an error may have extension headers", tls6, outer_extensions),
        to_owner(
            "a packet may be quoted whole",
            tls,
            error(PORT_UNREACHABLE, tls.service.vip, &whole),
        ),
        to_owner(
            "a quoted packet may be a first fragment",
            tls,
            quoting(tls, &answer(tls).fragment(0, true), PORT_UNREACHABLE),
        ),
        to_owner(
            "a quoted packet of IPv6 may be a first fragment",
            tls6,
            quoting(tls6, &answer(tls6).fragment(0, true), PACKET_TOO_BIG),
        ),
        to_owner(
            "the quoted checksum may be wrong, as routers leave it",
            tls,
            quoting(tls, &answer(tls).ttl(1).lying_ip_checksum(0), (11, 0)),
        ),
        to_owner(
            "an error of 1,500 bytes and one of 4,200 bytes go the same way",
            tls,
            error(
                PORT_UNREACHABLE,
                tls.service.vip,
                &answer(tls).payload(&[0x5a; 4_000]).packet(),
            ),
        ),
    ]
}

fn short() -> Vec<Fixture> {
    let quote = |says, length| {
        let packet = answer(flow(TLS, 40_000)).packet();
        drops(
            says,
            IcmpQuote,
            error(FRAGMENTATION_NEEDED, VIP.into(), &packet[..length]),
        )
    };
    let quote6 = |says, length| {
        let packet = answer(flow(TLS6, 40_000)).packet();
        drops(says, IcmpQuote, error(PACKET_TOO_BIG, VIP6.into(), &packet[..length]))
    };
    let tls = flow(TLS, 40_000);
    let lying = |says, sent: Frame| drops(says, IcmpQuote, quoting(tls, &sent, FRAGMENTATION_NEEDED));
    let options = answer(tls).ip_options(&[1; 40]).packet();
    let empty = Frame::icmp(ROUTER, VIP, 3, 3, [0; 4]).sent_to(Mac::of(DIP));
    vec![
        quote("an error that quotes nothing is dropped", 0),
        quote("an error that quotes a part of the header is dropped", 19),
        quote("an error that quotes the header alone is dropped", 20),
        quote("an error that quotes not all of the ports is dropped", 23),
        quote6("an error of IPv6 that quotes nothing is dropped", 0),
        quote6("an error of IPv6 that quotes a part of the header is dropped", 27),
        quote6("an error of IPv6 that quotes nearly all of the header is dropped", 39),
        quote6("an error of IPv6 that quotes the header alone is dropped", 40),
        quote6("an error of IPv6 that quotes not all of the ports is dropped", 43),
        drops(
            "an error that quotes a part of the options is dropped",
            IcmpQuote,
            error(FRAGMENTATION_NEEDED, VIP.into(), &options[..40]),
        ),
        drops(
            "what stands behind an error is not what it quotes",
            IcmpQuote,
            about(tls, FRAGMENTATION_NEEDED).lying_total_length(20 + 8 + 20),
        ),
        lying(
            "an error that quotes a wrong IP version is dropped",
            answer(tls).lying_version(5),
        ),
        lying(
            "an error that quotes a short IP header is dropped",
            answer(tls).lying_header_words(4),
        ),
        drops(
            "an ICMP packet of four bytes is dropped",
            ShortHeader,
            empty.clone().lying_total_length(24).padded(),
        ),
        drops(
            "an error that lacks its last byte is dropped",
            Truncated,
            empty.lying_total_length(29),
        ),
        drops(
            "an error about a packet from the VIP to itself is dropped",
            BadSource,
            about(tls.from(VIP), PORT_UNREACHABLE),
        ),
    ]
}

fn foreign() -> Vec<Fixture> {
    let other = |kind, code| Frame::icmp(CLIENT, VIP, kind, code, [0, 1, 0, 1]).sent_to(Mac::of(DIP));
    let other6 = |kind, code| Frame::icmp(CLIENT6, VIP6, kind, code, [0, 1, 0, 1]).sent_to(Mac::of(DIP));
    let tls = flow(TLS, 40_000);
    let quoted = |frame: Frame| error(PORT_UNREACHABLE, VIP.into(), &frame.packet()[..28]);
    let protocol = |number| quoted(Frame::protocol(VIP, CLIENT, number).payload(&[0; 8]));
    let from = |address: [u8; 4]| Frame::tcp(SocketAddr::from((address, 443)), tls.client, ACK);
    vec![
        passes("an echo request passes", other(8, 0)),
        passes("an echo reply passes", other(0, 0)),
        passes("a redirect passes", other(5, 1).payload(&answer(tls).packet()[..28])),
        passes(
            "a source quench passes",
            other(4, 0).payload(&answer(tls).packet()[..28]),
        ),
        passes("a timestamp request passes", other(13, 0)),
        passes("an echo request of IPv6 passes", other6(128, 0)),
        passes("an echo reply of IPv6 passes", other6(129, 0)),
        passes("an unknown error of IPv6 passes", other6(100, 0)),
        passes(
            "an error about what another VIP sent passes",
            quoted(answer(flow(SECOND, 40_000))),
        ),
        passes(
            "an error about what the director sent passes",
            quoted(from(DIP.octets())),
        ),
        passes(
            "an error about a port that is no service passes",
            quoted(answer(tls.to_port(8_080))),
        ),
        passes("an error about an echo reply of the VIP passes", protocol(1)),
        passes("an error about a GRE packet of the VIP passes", protocol(47)),
        passes(
            "an error about a later fragment passes",
            quoted(answer(tls).fragment(185, false)),
        ),
        passes(
            "an error to another address passes",
            error(PORT_UNREACHABLE, NO_VIP.into(), &answer(tls).packet()[..28]),
        ),
        passes(
            "a short quote to another address passes",
            error(PORT_UNREACHABLE, NO_VIP.into(), &[0; 4]),
        ),
        passes(
            "an error in a frame to another MAC address passes",
            about(tls, PORT_UNREACHABLE).sent_to(Mac::of(CLIENT)),
        ),
        passes(
            "a short quote in a frame to another MAC address passes",
            error(PORT_UNREACHABLE, VIP.into(), &[0; 4]).sent_to(Mac::of(CLIENT)),
        ),
        passes(
            "a fragment of an error passes",
            about(tls, PORT_UNREACHABLE).fragment(0, true),
        ),
    ]
}
