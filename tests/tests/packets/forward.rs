//! What is for a service is sent on: the Ethernet header is new, every other byte is the client's.

use anyhow::Result;
use lbx_tests::packet::{ACK, FIN, Frame, RST, SYN};

use crate::{
    cluster::{DNS, Flow, MAGLEV, RR, SYSLOG, WRR, flow},
    director::{Director, To},
    harness::{Fixture, sends, story},
    outcome::Counts::{Continues, Ends, Opens},
};

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    [signals(), hashed(), ip_headers(), sizes(), checksums()]
        .into_iter()
        .flatten()
        .collect()
}

fn rr() -> Flow {
    flow(RR, 40_000)
}

fn maglev() -> Flow {
    flow(MAGLEV, 40_000)
}

fn syslog() -> Flow {
    flow(SYSLOG, 40_000)
}

/// A segment within a flow of [`maglev`].
fn segment(says: &'static str, frame: Frame) -> Fixture {
    sends(says, maglev(), frame, To::Owner, Continues)
}

/// A datagram of [`syslog`].
fn datagram(says: &'static str, frame: Frame) -> Fixture {
    sends(says, syslog(), frame, To::Owner, Continues)
}

/// What TCP flags say, to a service that records every flow and knows none yet.
fn signals() -> Vec<Fixture> {
    const ECN: u8 = 0xc0;
    let turn = |says, frame| sends(says, rr(), frame, To::Rs(1), Opens);
    let owner = |says, frame, counts| sends(says, rr(), frame, To::Owner, counts);
    let wrr = flow(WRR, 40_000);
    vec![
        turn("a SYN takes the first turn of rr", rr().syn()),
        turn("a SYN with a FIN is a SYN", rr().tcp(SYN | FIN)),
        turn("a SYN with ECN flags is a SYN", rr().tcp(SYN | ECN)),
        turn("a SYN with data is a SYN", rr().syn().payload(b"fast open")),
        owner("an ACK rr does not know goes to the owner", rr().ack(), Continues),
        owner("data rr does not know go to the owner", rr().data(), Continues),
        owner("a FIN rr does not know goes to the owner", rr().fin(), Ends),
        owner("a RST rr does not know goes to the owner", rr().rst(), Ends),
        owner("a SYN+ACK opens nothing", rr().tcp(SYN | ACK), Continues),
        owner("a segment without flags is data", rr().tcp(0), Continues),
        owner("a segment with every flag is a RST", rr().tcp(0xff), Ends),
        owner("a SYN with a RST is a RST", rr().tcp(SYN | RST), Ends),
        sends("a SYN takes the first turn of wrr", wrr, wrr.syn(), To::Rs(1), Opens),
        sends("data wrr does not know go on", wrr, wrr.data(), To::Owner, Continues),
    ]
}

fn hashed() -> Vec<Fixture> {
    let hash = |says, frame, counts| sends(says, maglev(), frame, To::Owner, counts);
    let dns = flow(DNS, 40_000);
    vec![
        hash("a SYN goes where maglev hashes it", maglev().syn(), Opens),
        hash("an ACK goes where maglev hashes it", maglev().ack(), Continues),
        hash("data go where maglev hashes them", maglev().data(), Continues),
        hash("a FIN goes where maglev hashes it", maglev().fin(), Ends),
        hash("a RST goes where maglev hashes it", maglev().rst(), Ends),
        datagram("a datagram goes where maglev hashes it", syslog().datagram()),
        sends("a datagram takes a turn of rr", dns, dns.datagram(), To::Rs(1), Opens),
    ]
}

fn ip_headers() -> Vec<Fixture> {
    const EXPEDITED_AND_CONGESTED: u8 = 46 << 2 | 3;
    let with_options = maglev().ack().tcp_options(&[1; 40]).payload(b"behind them");
    vec![
        story("IP options of any length stay and hide no port", options),
        segment("a TTL of 1 is left alone", maglev().data().ttl(1)),
        segment("a TTL of 0 is left alone", maglev().data().ttl(0)),
        segment("a TTL of 255 is left alone", maglev().data().ttl(255)),
        segment(
            "the type of service and its ECN bits are left alone",
            maglev().data().tos(EXPEDITED_AND_CONGESTED),
        ),
        segment("don't-fragment is left alone", maglev().data().dont_fragment()),
        segment("TCP options stay", with_options),
    ]
}

/// None, one, two and so on to ten words of options, by TCP and by UDP: the ports move with them.
fn options(director: &mut Director) -> Result<()> {
    let (tcp, udp) = (maglev(), syslog());
    for words in 0..=10 {
        // No operation, as often as there is room (RFC 791 section 3.1).
        let options = vec![1; 4 * words];
        director.sends(tcp, &tcp.syn().ip_options(&options), To::Owner, Opens)?;
        director.sends(tcp, &tcp.data().ip_options(&options), To::Owner, Continues)?;
        let datagram = udp.datagram().ip_options(&options);
        director.sends(udp, &datagram, To::Owner, Continues)?;
    }
    Ok(())
}

fn sizes() -> Vec<Fixture> {
    let payload = |bytes| -> Vec<u8> { (40..bytes).map(|n: usize| n as u8).collect() };
    let sized = |says, bytes| segment(says, maglev().ack().payload(&payload(bytes)));
    let empty = syslog().datagram().payload(&[]);
    vec![
        segment("padding is kept and not counted", maglev().ack().padded()),
        segment(
            "bytes behind the packet belong to the frame alone",
            maglev().data().lying_total_length(42),
        ),
        datagram("an empty datagram is sent on", empty.clone()),
        datagram("an empty datagram in a padded frame is sent on", empty.padded()),
        datagram(
            "a UDP length below that of the packet leaves a tail",
            syslog().datagram().lying_udp_length(8),
        ),
        sized("a packet of 576 bytes is sent on", 576),
        sized("a packet of 1,500 bytes is sent on", 1_500),
        sized("a packet of 3,400 bytes, nearly a page, is sent on", 3_400),
        sized("a packet of 4,200 bytes, in two buffers, is sent on", 4_200),
        sized("a packet of 9,000 bytes, in three buffers, is sent on", 9_000),
        datagram(
            "a datagram in a packet of 9,000 bytes is sent on",
            syslog().datagram().payload(&[0x5a; 8_972]),
        ),
    ]
}

/// A checksum that is wrong is for the real server to judge.
fn checksums() -> Vec<Fixture> {
    let (tcp, udp) = (maglev().data(), syslog().datagram());
    vec![
        segment("a wrong IP checksum stays wrong", tcp.clone().lying_ip_checksum(0xdead)),
        segment("a wrong TCP checksum stays wrong", tcp.with_checksum(0xdead)),
        datagram("a wrong UDP checksum stays wrong", udp.clone().with_checksum(0xdead)),
        datagram("a datagram without checksum gets none", udp.with_checksum(0)),
    ]
}
