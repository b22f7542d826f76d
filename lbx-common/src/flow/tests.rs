use super::*;
use crate::{
    flow_event::{ACK, FIN, RST, SYN},
    service::TimeoutTicks,
};

const TIMEOUTS: TimeoutTicks = TimeoutTicks {
    half_open: 60,
    established: 900,
    closing: 120,
    closed: 10,
    udp: 300,
    persistent: 360,
    pad: [0; 2],
};
const OPEN: FlowEvent = FlowEvent::of_tcp_flags(SYN);
const ODD: FlowEvent = FlowEvent::of_tcp_flags(SYN | ACK);
const DATA: FlowEvent = FlowEvent::of_tcp_flags(ACK);
const FINISH: FlowEvent = FlowEvent::of_tcp_flags(FIN | ACK);
const RESET: FlowEvent = FlowEvent::of_tcp_flags(RST | ACK);

#[test]
fn words_round_trip() {
    let key = FlowKey {
        client: Address::from_ipv4([192, 168, 1, 10]),
        client_port: [0xab, 0xcd],
        service: 0x1234,
    };
    assert_eq!(FlowKey::from_word(key.to_word()), key);
    assert_eq!(FlowKey::from_words(key.to_words()), key);
    let entry = FlowEntry {
        vip_port: [0, 80],
        backend: 65_534,
        state: UDP_STREAM,
        last_seen_tick: TICK_MASK,
    };
    assert_eq!(FlowEntry::from_word(entry.to_word()), entry);
}

#[test]
fn idle_time_wraps_with_the_clock() {
    let entry = |state, seen| FlowEntry {
        vip_port: [0, 80],
        backend: 0,
        state,
        last_seen_tick: seen,
    };
    assert!(!entry(ESTABLISHED, TICK_MASK - 100).expired(799, &TIMEOUTS));
    assert!(entry(ESTABLISHED, TICK_MASK - 100).expired(801, &TIMEOUTS));
    assert!(!entry(CLOSED, 20).expired(19, &TIMEOUTS), "a clock one tick behind");
    assert!(entry(CLOSED, 20).expired(31, &TIMEOUTS));
    assert!(!entry(MIDSTREAM, 0).expired(900, &TIMEOUTS));
}

#[test]
fn a_forged_end_does_not_end_a_flow() {
    let at = |state, seen| FlowEntry {
        vip_port: [0, 80],
        backend: 0,
        state,
        last_seen_tick: seen,
    };
    let reset = at(ESTABLISHED, 5).after_packet(RESET, 5);
    assert_eq!(reset.after_packet(DATA, 5), at(ESTABLISHED, 5));
    let finished = at(ESTABLISHED, 5).after_packet(FINISH, 6);
    assert_eq!(finished, at(CLOSING, 6));
    assert_eq!(
        finished.after_packet(DATA, 7),
        finished,
        "the last ACK of an orderly close"
    );
    assert_eq!(finished.after_packet(DATA, 8), at(ESTABLISHED, 8));
}

#[test]
fn a_later_packet_confirms_a_flow() {
    let at = |state, seen| FlowEntry {
        vip_port: [0, 80],
        backend: 0,
        state,
        last_seen_tick: seen,
    };
    assert_eq!(at(HALF_OPEN, 5).after_packet(DATA, 5), at(ESTABLISHED, 5));
    assert_eq!(at(MIDSTREAM, 5).after_packet(DATA, 5), at(MIDSTREAM, 5));
    assert_eq!(at(MIDSTREAM, 5).after_packet(DATA, 6), at(ESTABLISHED, 6));
    assert_eq!(
        at(UDP_NEW, TICK_MASK).after_packet(FlowEvent::DATAGRAM, 0),
        at(UDP_STREAM, 0)
    );
    assert_eq!(at(UDP_NEW, 5).after_packet(FlowEvent::DATAGRAM, 5), at(UDP_NEW, 5));
}

#[test]
fn some_signals_create_no_record() {
    for signal in [ODD, FINISH, RESET, FlowEvent::RELATED] {
        assert_eq!(first_state(signal), None);
    }
    assert_eq!(first_state(OPEN), Some(HALF_OPEN));
}

#[test]
fn an_entry_re_armed_ahead_of_time_stays_so() {
    let at = |seen| FlowEntry {
        vip_port: [0; 2],
        backend: 3,
        state: TEMPLATE,
        last_seen_tick: seen,
    };
    assert_eq!(at(5).seen_at(9), at(9));
    assert_eq!(at(50).seen_at(9), at(50));
    assert_eq!(at(40).seen_at(TICK_MASK), at(40), "the clock wraps");
}

#[test]
fn a_related_packet_changes_nothing() {
    let entry = FlowEntry {
        vip_port: [0, 80],
        backend: 3,
        state: HALF_OPEN,
        last_seen_tick: 5,
    };
    assert_eq!(entry.after_packet(FlowEvent::RELATED, 100), entry);
}
