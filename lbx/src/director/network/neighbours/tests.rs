use super::*;
use crate::director::network::topology::ServerRoute;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 185));

fn route() -> ServerRoute {
    ServerRoute {
        segment: Segment {
            ifindex: 2,
            vlan_tags: [0; 2],
        },
        ifindex: 2,
        source: IpAddr::from([192, 168, 1, 2]),
    }
}

fn table() -> NeighbourTable {
    with_servers(std::iter::once(SERVER))
}

fn with_servers(servers: impl Iterator<Item = IpAddr>) -> NeighbourTable {
    let mut table = NeighbourTable::default();
    let topology = Topology {
        server_routes: servers.map(|server| (server, route())).collect(),
        ..Topology::default()
    };
    table.set_topology(&topology);
    table
}

fn states(table: &mut NeighbourTable, ifindex: u32) -> bool {
    let binding = AddressBinding {
        address: SERVER,
        mac: MAC,
    };
    let mut outcome = Outcome::default();
    table.on_bindings(&[(ifindex, binding)], Instant::now(), &mut outcome);
    outcome.has_changed
}

#[test]
fn what_another_nic_receives_is_another_host() {
    let mut table = table();
    assert!(!states(&mut table, 3));
    assert_eq!(table.unresolved_count(), 1);
    assert!(states(&mut table, 2));
    assert!(!states(&mut table, 2), "the same again is nothing new");
    assert!(table.is_resolved(SERVER));
}

/// The solicitations of so many seconds without an answer, and whether a next hop was lost.
fn silence(table: &mut NeighbourTable, from: Instant, seconds: u32) -> (Vec<Solicitation>, bool) {
    let mut outcome = Outcome::default();
    for tick in 0..seconds * 20 {
        table.on_time(from + Duration::from_millis(50) * tick, false, &mut outcome);
    }
    (outcome.solicitations, outcome.has_changed)
}

#[test]
fn nothing_is_solicited_or_lost_behind_a_nic_without_a_carrier() {
    let mut table = table();
    states(&mut table, 2);
    table.on_carrier(2, false);
    let (sent, lost) = silence(&mut table, Instant::now(), 30);
    assert_eq!((sent, lost), (Vec::new(), false));
    assert_eq!(table.resolved().count(), 0, "nor may the kernel have an entry there");
    table.on_carrier(2, true);
    assert_eq!(table.resolved().count(), 1);
    let (sent, lost) = silence(&mut table, Instant::now(), 7);
    assert!(!sent.is_empty() && !lost, "patience begins anew");
    let (_, lost) = silence(&mut table, Instant::now() + Duration::from_secs(7), 3);
    assert!(lost);
}

#[test]
fn one_segment_a_second_is_solicited_for_conflicts() {
    let mut table = with_servers((0..=100).map(|n| IpAddr::from([192, 168, 2, n])));
    let now = Instant::now();
    for entry in table.servers.values_mut() {
        entry.resolution.adopt(MAC, now);
    }
    let mut probed = BTreeSet::new();
    for second in 0..101 {
        let probe = table.due_conflict_probe(now + Duration::from_secs(second));
        let probe = probe.expect("one every second");
        assert_eq!(probe.target_mac, None);
        assert!(probed.insert(probe.target), "each in turn");
        assert_eq!(table.due_conflict_probe(now + Duration::from_secs(second)), None);
    }
    let (unicast, _) = silence(&mut table, now + Duration::from_secs(101), 1);
    assert!(unicast.iter().filter(|sent| sent.target_mac.is_some()).count() >= 101);
}

#[test]
fn a_table_of_a_reload_solicits_the_unresolved_alone() {
    let mut table = table();
    states(&mut table, 2);
    let mut outcome = Outcome::default();
    table.on_time(Instant::now() + Duration::from_secs(5), true, &mut outcome);
    assert_eq!(outcome.solicitations, []);
}

#[test]
fn an_operators_entry_that_is_gone_unseen_is_noticed() {
    let mut table = table();
    let entry = Neighbour {
        ifindex: 2,
        address: SERVER,
        mac: Some(MAC),
        keeper: Keeper::Other,
    };
    assert!(table.on_kernel_table(&[entry]));
    assert_eq!(silence(&mut table, Instant::now(), 10), (Vec::new(), false));
    table.on_kernel_table(&[]);
    assert!(!silence(&mut table, Instant::now(), 1).0.is_empty());
}

#[test]
fn many_real_servers_are_resolved_at_their_pace_and_each_in_its_turn() {
    let address = |n: u16| IpAddr::from([10, 0, (n >> 8) as u8, n as u8]);
    let mut table = with_servers((0..10_000).map(address));
    let begin = Instant::now();
    let mut now = begin;
    // Every second one answers.
    let mut tick = |table: &mut NeighbourTable| {
        now += Duration::from_millis(50);
        let mut outcome = Outcome::default();
        table.on_time(now, false, &mut outcome);
        let stated = |sent: &Solicitation| {
            let IpAddr::V4(target) = sent.target else {
                return None;
            };
            let binding = AddressBinding {
                address: sent.target,
                mac: MAC,
            };
            target.octets()[3].is_multiple_of(2).then_some((2, binding))
        };
        let bindings: Vec<_> = outcome.solicitations.iter().filter_map(stated).collect();
        table.on_bindings(&bindings, now, &mut outcome);
        outcome.solicitations
    };
    (0..11 * 20).for_each(|_| drop(tick(&mut table)));
    assert_eq!(
        table.unresolved_count(),
        5_000,
        "all are solicited within eleven seconds"
    );
    let mut unicast = BTreeMap::<IpAddr, u32>::new();
    let mut broadcast = BTreeMap::<IpAddr, u32>::new();
    for sent in (0..60 * 20).flat_map(|_| tick(&mut table)) {
        let sent_to = if sent.target_mac.is_some() {
            &mut unicast
        } else {
            &mut broadcast
        };
        *sent_to.entry(sent.target).or_default() += 1;
    }
    assert_eq!(unicast.len(), 5_000);
    assert!(
        unicast.values().all(|sent| (13..=16).contains(sent)),
        "every four seconds"
    );
    let broadcasts: u32 = broadcast.values().sum();
    assert!((60 * 80..=60 * 115).contains(&broadcasts), "{broadcasts}");
    let unresolved = broadcast.keys().filter(|server| !unicast.contains_key(*server)).count();
    assert!(unresolved >= 4_000, "each in its turn: {unresolved}");
}
