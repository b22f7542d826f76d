//! Histories that once broke the promise, each cut down to what it takes.

use lbx_common::flow::FlowEvent;

use super::signals::{DATA, DATAGRAM, FINISH, OPEN};
use super::{
    super::GRACE,
    cluster::{Change, SERVICES, number},
    daemon::Daemon,
    packets::{Client, UnderWay},
};
use crate::desired::Scheduler::{Maglev, Rr};

const PORTS: std::ops::Range<u16> = 0..60;

fn connect(daemon: &mut Daemon, port: u16) -> Option<u8> {
    let server = daemon.packet(0, port, OPEN);
    assert_eq!(daemon.packet(0, port, DATA), server);
    server
}

/// A packet of a service that is under way.
fn begin(daemon: &Daemon, service: usize, port: u16, signal: FlowEvent) -> UnderWay {
    let client = Client {
        address: [198, 51, 100, 1],
        port: port.to_be_bytes(),
    };
    let key = daemon.cluster.id(service);
    daemon
        .kernel
        .begin(&key, client, signal, daemon.now)
        .expect("a service")
}

/// A window counted from when the plan was made, not from when packets saw it open.
#[test]
fn a_connection_of_the_last_moment_before_its_window_opens_has_a_whole_timeout() {
    let mut daemon = Daemon::new();
    let timeout = u32::from(daemon.timeouts().established);
    let now = daemon.now;
    daemon.cluster.change(Change::Weight(0, 3, 1));
    let plan = daemon.planned();
    // The writes come a tick after the plan was made, and connections just before them.
    daemon.now = now + 1;
    let servers: Vec<_> = PORTS.map(|port| connect(&mut daemon, port)).collect();
    daemon.carry_out(plan);
    daemon.now = now + timeout;
    daemon.pass(1);
    for (port, server) in PORTS.zip(servers) {
        assert_eq!(daemon.packet(0, port, DATA), server);
    }
}

/// A slot came to rest on the word of a scan that was older than the last change.
#[test]
fn a_record_written_after_the_scan_keeps_its_slot_tracked() {
    let mut daemon = Daemon::of([Rr; SERVICES]);
    let under_way: Vec<_> = PORTS.map(|port| begin(&daemon, 0, port, OPEN)).collect();
    daemon.change(&[Change::Scheduler(0, Maglev)]);
    daemon.now += 1;
    let scan = daemon.kernel.sweep(&daemon.tables, daemon.now);
    let servers: Vec<_> = under_way.iter().map(|packet| daemon.kernel.finish(packet)).collect();
    daemon.now += GRACE;
    daemon.expire(&scan);
    for (packet, server) in under_way.iter().zip(servers) {
        let port = packet.port();
        let went = daemon.packet(0, port, DATA);
        assert_eq!(went, server.map(number));
    }
}

/// A change of the ring alone did not count as one: every slot had records already.
#[test]
fn slots_that_were_tracked_already_do_not_settle_at_once() {
    let mut daemon = Daemon::of([Rr; SERVICES]);
    daemon.change(&[Change::Scheduler(0, Maglev)]);
    daemon.change(&[Change::Scheduler(0, Rr)]);
    daemon.now += GRACE;
    let under_way = PORTS.map(|port| begin(&daemon, 0, port, OPEN)).collect::<Vec<_>>();
    let scan = daemon.kernel.sweep(&daemon.tables, daemon.now);
    daemon.change(&[Change::Scheduler(0, Maglev)]);
    let servers: Vec<_> = under_way.iter().map(|packet| daemon.kernel.finish(packet)).collect();
    daemon.expire(&scan);
    for (packet, server) in under_way.iter().zip(servers) {
        let went = daemon.packet(0, packet.port(), DATA);
        assert_eq!(went, server.map(number));
    }
}

/// A drained backend died in the same look that closed its windows.
#[test]
fn a_record_written_after_the_scan_keeps_its_backend_alive() {
    let mut daemon = Daemon::of([Maglev; SERVICES]);
    let udp: Vec<_> = PORTS.map(|port| (port, daemon.packet(2, port, DATAGRAM))).collect();
    daemon.change(&[Change::Remove(2, 1)]);
    daemon.now += u32::from(daemon.timeouts().udp);
    let mut scan = daemon.kernel.sweep(&daemon.tables, daemon.now);
    for &(port, server) in &udp {
        assert_eq!(daemon.packet(2, port, DATAGRAM), server);
    }
    scan.tick += GRACE + 1;
    daemon.expire(&scan);
    for (port, server) in udp {
        assert_eq!(daemon.packet(2, port, DATAGRAM), server);
    }
}

/// UDP flows without a record were scheduled anew once their service recorded.
#[test]
fn udp_flows_stay_when_their_service_begins_to_record() {
    let mut daemon = Daemon::of([Maglev; SERVICES]);
    let servers: Vec<_> = PORTS.map(|port| daemon.packet(2, port, DATAGRAM)).collect();
    daemon.change(&[Change::Scheduler(2, Rr), Change::Weight(2, 3, 1)]);
    let timeout = u32::from(daemon.timeouts().udp);
    for tick in [timeout, GRACE + 1, timeout] {
        for (port, server) in PORTS.zip(&servers) {
            assert_eq!(daemon.packet(2, port, DATAGRAM), *server);
        }
        daemon.pass(tick);
    }
    let turns: Vec<_> = (100..104).map(|port| daemon.packet(2, port, DATAGRAM)).collect();
    assert_eq!(turns, [Some(0), Some(1), Some(2), Some(3)]);
}

/// A port used again after a FIN, with the owner: the record of the connection before led the new one astray.
#[test]
fn a_new_connection_with_the_owner_has_no_record_of_the_one_before() {
    let mut daemon = Daemon::new();
    daemon.change(&[Change::Weight(0, 3, 1)]);
    let owners: Vec<_> = PORTS.map(|port| daemon.packet(0, port, DATA)).collect();
    daemon.kernel.records.clear();
    for port in PORTS {
        connect(&mut daemon, port);
        daemon.packet(0, port, FINISH);
    }
    daemon.change(&[Change::Remove(0, 3)]);
    for (port, owner) in PORTS.zip(owners) {
        assert_eq!(connect(&mut daemon, port), owner);
    }
    assert!(daemon.kernel.records.is_empty());
}

/// A new daemon knew of no candidates, the file had none, and so everything seemed done.
#[test]
fn a_drain_of_all_cut_short_by_a_kill_is_finished_by_the_next_daemon() {
    for scheduler in [Maglev, Rr] {
        let draining = || {
            let mut daemon = Daemon::of([scheduler; SERVICES]);
            for server in 0..3 {
                daemon.cluster.change(Change::Weight(0, server, 0));
            }
            daemon
        };
        let writes = draining().planned().writes;
        for cut in 0..=writes.len() {
            let mut daemon = draining();
            daemon.kernel.apply_all(&writes[..cut]);
            daemon.restart();
            daemon.plan();
            for port in PORTS {
                assert_eq!(daemon.packet(0, port, OPEN), None, "killed after {cut} writes");
            }
        }
    }
}

/// Its server died under a new connection, the owner got it without a record, and then its window closed.
#[test]
fn a_connection_whose_server_dies_under_it_stays_with_its_new_server() {
    for scheduler in [Maglev, Rr] {
        let mut daemon = Daemon::of([scheduler; SERVICES]);
        let timeout = u32::from(daemon.timeouts().established);
        daemon.change(&[Change::Weight(0, 3, 3), Change::Weight(0, 4, 1)]);
        daemon.now += timeout + GRACE;
        let under_way: Vec<_> = PORTS.map(|port| begin(&daemon, 0, port, OPEN)).collect();
        daemon.change(&[Change::Lose(3), Change::Weight(0, 4, 9)]);
        let servers: Vec<_> = under_way.iter().map(|packet| daemon.kernel.finish(packet)).collect();
        daemon.pass(1);
        for (packet, server) in under_way.iter().zip(servers) {
            let went = daemon.packet(0, packet.port(), DATA);
            assert_eq!(went, server.map(number), "{scheduler}");
        }
    }
}

/// The owner had died as well: the slot's current got the connection, and then the slot became another's.
#[test]
fn a_connection_whose_owner_dies_too_stays_with_its_new_server() {
    let mut daemon = Daemon::of([Rr; SERVICES]);
    daemon.change(&[Change::Weight(0, 3, 3), Change::Weight(0, 4, 1)]);
    let under_way: Vec<_> = PORTS.map(|port| begin(&daemon, 0, port, OPEN)).collect();
    daemon.change(&[
        Change::Lose(0),
        Change::Lose(1),
        Change::Lose(2),
        Change::Weight(0, 4, 9),
    ]);
    let servers: Vec<_> = under_way.iter().map(|packet| daemon.kernel.finish(packet)).collect();
    for (packet, server) in under_way.iter().zip(servers) {
        if let Some(server) = server {
            let went = daemon.packet(0, packet.port(), DATA);
            assert_eq!(went, Some(number(server)));
        }
    }
}

/// A datagram whose server had died went to the owner, and the next one was scheduled anew.
#[test]
fn a_udp_flow_whose_server_dies_under_it_stays_with_its_new_server() {
    let mut daemon = Daemon::of([Rr; SERVICES]);
    let under_way: Vec<_> = PORTS.map(|port| begin(&daemon, 2, port, DATAGRAM)).collect();
    daemon.change(&[Change::Lose(1)]);
    let servers: Vec<_> = under_way.iter().map(|packet| daemon.kernel.finish(packet)).collect();
    for (packet, server) in under_way.iter().zip(servers) {
        if let Some(server) = server {
            let went = daemon.packet(2, packet.port(), DATAGRAM);
            assert_eq!(went, Some(number(server)));
        }
    }
}

/// A record that had expired, and that its flow had gone on without, was found again under longer timeouts.
#[test]
fn longer_timeouts_revive_no_record_that_had_expired() {
    let mut daemon = Daemon::of([Rr; SERVICES]);
    daemon.change(&[Change::Timeouts(1)]);
    for port in PORTS {
        daemon.packet(2, port, DATAGRAM);
    }
    daemon.change(&[Change::Scheduler(2, Maglev)]);
    daemon.now += u32::from(daemon.timeouts().udp) + 1;
    let servers: Vec<_> = PORTS.map(|port| daemon.packet(2, port, DATAGRAM)).collect();
    daemon.change(&[Change::Timeouts(0)]);
    for (port, server) in PORTS.zip(servers) {
        assert_eq!(daemon.packet(2, port, DATAGRAM), server);
    }
}
