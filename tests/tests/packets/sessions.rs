//! What the director itself sends to a VIP and gets back: the other address takes the place of the one, and every checksum
//! is right afterwards.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use aya::{TestRun as _, TestRunOptions};
use lbx::tables::lookup;
use lbx_common::{
    service::{TCP, UDP},
    session::{FROM_VIP, PROBE_SESSION, Session, SessionKey, TO_RIP},
};
use lbx_tests::{
    lab::DIP,
    mac::Mac,
    packet::{ACK, Frame, PSH, SERVICE_VLAN, SYN, VLAN},
};

use crate::{
    cluster::{self, CLIENT6, LO, NO_VIP, SECOND_VIP6, SIZES, VIP6, server_of},
    director::Director,
    harness::{Fixture, free_story},
    outcome::{Action, Expected},
};

/// All fixtures of this file.
pub fn fixtures() -> Vec<Fixture> {
    [replies(), errors(), others(), sent()].into_iter().flatten().collect()
}

/// A session of the director with the VIP on rs1. The VIP need not be one that the director has services for.
#[derive(Clone, Copy)]
struct Talk {
    vip: IpAddr,
    rip: IpAddr,
    local: IpAddr,
    protocol: u8,
}

const PORT: u16 = 80;
const LOCAL_PORT: u16 = 61_234;

const fn talk4(protocol: u8) -> Talk {
    Talk {
        vip: IpAddr::V4(NO_VIP),
        rip: server_of(IpAddr::V4(NO_VIP), 1),
        local: IpAddr::V4(DIP),
        protocol,
    }
}

const fn talk6(protocol: u8) -> Talk {
    Talk {
        vip: IpAddr::V6(SECOND_VIP6),
        rip: server_of(IpAddr::V6(VIP6), 1),
        // Any address that is no VIP.
        local: IpAddr::V6(CLIENT6),
        protocol,
    }
}

impl Talk {
    fn mac(self) -> Mac {
        Mac::of(self.rip)
    }

    /// A packet from the real server, whatever address it sends from.
    fn reply(self, from: IpAddr) -> Frame {
        let (from, to) = (SocketAddr::new(from, PORT), SocketAddr::new(self.local, LOCAL_PORT));
        let frame = match self.protocol {
            TCP => Frame::tcp(from, to, PSH | ACK),
            _ => Frame::udp(from, to),
        };
        frame
            .payload(b"an odd answer")
            .sent_by(self.mac())
            .sent_to(Mac::of(DIP))
    }

    /// A packet of the director's.
    fn request(self, to: IpAddr) -> Frame {
        let (from, to) = (SocketAddr::new(self.local, LOCAL_PORT), SocketAddr::new(to, PORT));
        let frame = match self.protocol {
            TCP => Frame::tcp(from, to, ACK),
            _ => Frame::udp(from, to),
        };
        frame.payload(b"a question").sent_by(Mac::of(DIP)).sent_to(self.mac())
    }

    fn key(self, direction: u8) -> SessionKey {
        SessionKey {
            remote: lookup::address(if direction == TO_RIP { self.rip } else { self.vip }),
            local: lookup::address(self.local),
            remote_port: PORT.to_be_bytes(),
            local_port: LOCAL_PORT.to_be_bytes(),
            protocol: self.protocol,
            direction,
            mac: if direction == TO_RIP { [0; 6] } else { self.mac().0 },
            pad: 0,
        }
    }

    /// Has the director know of it.
    fn known_to(self, director: &Director) -> Result<()> {
        let probes = director.dataplane().probe_sessions();
        for (direction, other) in [(FROM_VIP, self.rip), (TO_RIP, self.vip)] {
            let session = Session {
                replacement_address: lookup::address(other),
                packets_sent: 1,
                mac: self.mac().0,
                session_kind: PROBE_SESSION,
                ..Session::default()
            };
            probes.insert_session(&self.key(direction), &session)?;
        }
        Ok(())
    }

    /// How many packets have come from the VIP.
    fn received(self, director: &Director) -> Result<u64> {
        let session = director.dataplane().probe_sessions().session(&self.key(FROM_VIP))?;
        Ok(session.context("the session is gone")?.packets_received)
    }
}

/// A story of a session that a director of its own knows of.
fn story(
    says: &'static str,
    talk: Talk,
    plays: impl FnOnce(&mut Director, Talk) -> Result<()> + Send + 'static,
) -> Fixture {
    free_story(says, move || {
        let mut director = Director::sized(SIZES, cluster::services())?;
        talk.known_to(&director)?;
        plays(&mut director, talk)
    })
}

/// A frame that passes as another, and counts as one that came from the VIP.
fn becomes(director: &Director, talk: Talk, frame: &Frame, other: &Frame) -> Result<()> {
    let (received, counted) = (talk.received(director)?, director.counted()?);
    let outcome = director.run(LO, frame)?;
    ensure!(outcome.action == Action::Pass, "{:?}", outcome.action);
    ensure!(
        outcome.bytes == other.bytes(),
        "{frame:?} became {:02x?}, not {:02x?}",
        outcome.bytes,
        other.bytes()
    );
    ensure!(talk.received(director)? == received + 1, "it does not count");
    ensure!(outcome.counted == counted, "it counts for others");
    Ok(())
}

fn rewritten(says: &'static str, talk: Talk, dress: fn(Frame) -> Frame) -> Fixture {
    story(says, talk, move |director, talk| {
        let [frame, other] = [talk.vip, talk.rip].map(|from| dress(talk.reply(from)));
        becomes(director, talk, &frame, &other)
    })
}

fn replies() -> Vec<Fixture> {
    vec![
        rewritten("TCP from the VIP comes from the RIP", talk4(TCP), |frame| frame),
        rewritten("UDP from the VIP comes from the RIP", talk4(UDP), |frame| frame),
        rewritten("TCP over IPv6", talk6(TCP), |frame| frame),
        rewritten("UDP over IPv6", talk6(UDP), |frame| frame),
        rewritten("UDP without a checksum has none afterwards", talk4(UDP), |frame| {
            frame.with_checksum(0)
        }),
        rewritten("behind a VLAN tag", talk4(TCP), |frame| frame.tagged(VLAN, 10)),
        rewritten("behind two VLAN tags", talk6(TCP), |frame| {
            frame.tagged(VLAN, 10).tagged(SERVICE_VLAN, 20)
        }),
        rewritten("behind IP options", talk4(TCP), |frame| frame.ip_options(&[1; 8])),
        rewritten("a frame with padding", talk4(UDP), |frame| frame.payload(b"x").padded()),
        story(
            "what sums up to zero is sent as all ones",
            talk4(UDP),
            |director, talk| {
                // Two bytes of payload can make any sum.
                let frame = |from, filling: u16| talk.reply(from).payload(&filling.to_be_bytes());
                let zero = |filling: &u16| {
                    let bytes = frame(talk.rip, *filling).bytes();
                    bytes[40..42] == [0xff; 2]
                };
                let filling = (0..=u16::MAX).find(zero).context("no payload sums up to zero")?;
                becomes(director, talk, &frame(talk.vip, filling), &frame(talk.rip, filling))
            },
        ),
        fragments("fragments follow their first", talk4(UDP)),
        fragments("fragments over IPv6 follow their first", talk6(UDP)),
    ]
}

fn fragments(says: &'static str, talk: Talk) -> Fixture {
    story(says, talk, |director, talk| {
        let first = |from| talk.reply(from).payload(&[7; 64]).identified(9).fragment(0, true);
        let other = |from, packet| {
            let rest = Frame::protocol(from, talk.local, UDP).payload(&[7; 30]);
            let rest = rest.identified(packet).fragment(9, false);
            rest.sent_by(talk.mac()).sent_to(Mac::of(DIP))
        };
        director.expect(LO, &other(talk.vip, 9), Expected::Passed)?;
        becomes(director, talk, &first(talk.vip), &first(talk.rip))?;
        let outcome = director.run(LO, &other(talk.vip, 9))?;
        ensure!(outcome.action == Action::Pass, "{:?}", outcome.action);
        ensure!(outcome.bytes == other(talk.rip, 9).bytes(), "{:02x?}", outcome.bytes);
        director.expect(LO, &other(talk.vip, 10), Expected::Passed)
    })
}

/// An ICMP error about a request to an address, from another, which quotes so much of it.
fn error(talk: Talk, from: IpAddr, about: IpAddr, length: usize) -> Frame {
    let quote = talk.request(about);
    // What is quoted of the transport header stays as it was sent to the VIP.
    let sent = talk.request(talk.vip).bytes();
    let mut quote = quote.packet();
    let transport = if talk.vip.is_ipv4() { 20 } else { 40 };
    quote[transport..].copy_from_slice(&sent[14 + transport..]);
    quote.truncate(length);
    let (kind, code) = if talk.vip.is_ipv4() { (3, 3) } else { (1, 4) };
    Frame::icmp(from, talk.local, kind, code, [0; 4])
        .payload(&quote)
        .sent_by(talk.mac())
        .sent_to(Mac::of(DIP))
}

fn mentioned(says: &'static str, talk: Talk, length: usize) -> Fixture {
    story(says, talk, move |director, talk| {
        let frame = error(talk, talk.vip, talk.vip, length);
        becomes(director, talk, &frame, &error(talk, talk.rip, talk.rip, length))?;
        // The real server may report it by an address of its own.
        let frame = error(talk, talk.rip, talk.vip, length);
        becomes(director, talk, &frame, &error(talk, talk.rip, talk.rip, length))
    })
}

fn errors() -> Vec<Fixture> {
    vec![
        mentioned(
            "an ICMP error about UDP names the RIP inside and outside",
            talk4(UDP),
            28,
        ),
        mentioned("an ICMP error about TCP", talk4(TCP), 50),
        mentioned("an ICMPv6 error about UDP", talk6(UDP), 58),
        mentioned("an ICMPv6 error about TCP", talk6(TCP), 70),
        story(
            "an ICMP error about another port passes",
            talk4(UDP),
            |director, talk| {
                let stranger = Frame::udp(
                    SocketAddr::new(talk.local, LOCAL_PORT + 1),
                    SocketAddr::new(talk.vip, PORT),
                );
                let frame = Frame::icmp(talk.vip, talk.local, 3, 3, [0; 4])
                    .payload(&stranger.packet()[..28])
                    .sent_by(talk.mac())
                    .sent_to(Mac::of(DIP));
                director.expect(LO, &frame, Expected::Passed)
            },
        ),
    ]
}

fn untouched(says: &'static str, talk: Talk, frame: fn(Talk) -> Frame) -> Fixture {
    story(says, talk, move |director, talk| {
        director.expect(LO, &frame(talk), Expected::Passed)?;
        ensure!(talk.received(director)? == 0, "it counts");
        Ok(())
    })
}

fn others() -> Vec<Fixture> {
    vec![
        untouched("from another MAC address", talk4(TCP), |talk| {
            talk.reply(talk.vip).sent_by(Mac::of(DIP))
        }),
        untouched("from the RIP itself", talk4(TCP), |talk| talk.reply(talk.rip)),
        untouched("from another VIP", talk6(TCP), |talk| talk.reply(IpAddr::V6(VIP6))),
        untouched("of the other protocol", talk4(TCP), |talk| {
            Talk { protocol: UDP, ..talk }.reply(talk.vip)
        }),
        untouched("to another port", talk4(TCP), |talk| {
            let (from, to) = (
                SocketAddr::new(talk.vip, PORT),
                SocketAddr::new(talk.local, LOCAL_PORT + 1),
            );
            Frame::tcp(from, to, ACK).sent_by(talk.mac()).sent_to(Mac::of(DIP))
        }),
        untouched("from another port", talk4(TCP), |talk| {
            let (from, to) = (
                SocketAddr::new(talk.vip, PORT + 1),
                SocketAddr::new(talk.local, LOCAL_PORT),
            );
            Frame::tcp(from, to, ACK).sent_by(talk.mac()).sent_to(Mac::of(DIP))
        }),
        untouched("to another address", talk4(UDP), |talk| {
            Talk {
                local: talk.rip,
                ..talk
            }
            .reply(talk.vip)
        }),
    ]
}

/// Runs the program on what is sent, on a frame of a socket that speaks for none.
fn send(director: &mut Director, frame: &Frame) -> Result<Vec<u8>> {
    const TC_ACT_UNSPEC: u32 = u32::MAX;
    let mut bytes = vec![0; 2048];
    let program = director.dataplane_mut().egress_program()?;
    let result = program.test_run(TestRunOptions {
        data_in: Some(&frame.bytes()),
        data_out: Some(&mut bytes),
        ..TestRunOptions::default()
    })?;
    ensure!(
        result.return_value == TC_ACT_UNSPEC,
        "it returns {}",
        result.return_value
    );
    bytes.truncate(result.data_size_out as usize);
    Ok(bytes)
}

fn led(says: &'static str, talk: Talk, dress: fn(Frame) -> Frame) -> Fixture {
    story(says, talk, move |director, talk| {
        let [frame, other] = [talk.rip, talk.vip].map(|to| dress(talk.request(to)));
        let sent = send(director, &frame)?;
        ensure!(sent == other.bytes(), "sent {sent:02x?}, not {:02x?}", other.bytes());
        let session = director.dataplane().probe_sessions().session(&talk.key(FROM_VIP))?;
        ensure!(session.context("the session is gone")?.packets_sent == 2, "{session:?}");
        Ok(())
    })
}

fn sent_as_it_is(says: &'static str, talk: Talk, frame: fn(Talk) -> Frame) -> Fixture {
    story(says, talk, move |director, talk| {
        let frame = frame(talk);
        let sent = send(director, &frame)?;
        ensure!(sent == frame.bytes(), "sent {sent:02x?}, not {:02x?}", frame.bytes());
        Ok(())
    })
}

fn sent() -> Vec<Fixture> {
    vec![
        led(
            "TCP of no socket goes to the VIP where it went before",
            talk4(TCP),
            |frame| frame,
        ),
        led("UDP goes to the VIP", talk4(UDP), |frame| frame),
        led("TCP over IPv6 goes to the VIP", talk6(TCP), |frame| frame),
        led("UDP over IPv6 goes to the VIP", talk6(UDP), |frame| frame),
        led("UDP without a checksum is sent without", talk4(UDP), |frame| {
            frame.with_checksum(0)
        }),
        sent_as_it_is("to the RIP from another port", talk4(TCP), |talk| {
            let (from, to) = (
                SocketAddr::new(talk.local, LOCAL_PORT + 1),
                SocketAddr::new(talk.rip, PORT),
            );
            Frame::tcp(from, to, SYN)
        }),
        sent_as_it_is("to another address", talk6(TCP), |talk| talk.request(IpAddr::V6(VIP6))),
        sent_as_it_is("of another protocol", talk4(TCP), |talk| {
            Frame::icmp(talk.local, talk.rip, 8, 0, [0; 4])
        }),
    ]
}
