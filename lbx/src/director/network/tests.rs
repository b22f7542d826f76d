//! The network of a reload that waits, beside the one in force.

use lbx_common::nic::SERVER_FACING;

use super::{
    topology::{SegmentRole, ServerRoute},
    *,
};
use crate::director::network::segment::Segment;

const SERVER: [u8; 4] = [192, 168, 1, 185];
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn server() -> IpAddr {
    SERVER.into()
}

fn link(index: u32, up: bool) -> Link {
    Link {
        index,
        name: format!("eth{index}"),
        mac: [2, 0, 0, 0, 0, 0xf0],
        up,
        carrier: up,
        mtu: 1_500,
        xdp: None,
        vlan: None,
        kind: Default::default(),
        master_ifindex: None,
        peer: None,
    }
}

/// The real server behind a NIC.
fn behind(ifindex: u32) -> Topology {
    let segment = Segment {
        ifindex,
        vlan_tags: [0; 2],
    };
    let route = ServerRoute {
        segment,
        ifindex,
        source: IpAddr::from([192, 168, 1, 2]),
    };
    let role = SegmentRole {
        device: link(ifindex, true),
        roles: SERVER_FACING,
    };
    Topology {
        nics: [(ifindex, link(ifindex, true))].into(),
        segments: [(segment, role)].into(),
        server_routes: [(server(), route)].into(),
        ..Topology::default()
    }
}

fn answers(ifindex: u32) -> Neighbour {
    Neighbour {
        ifindex,
        address: server(),
        mac: Some(MAC),
        keeper: Keeper::Kernel,
    }
}

/// A network with the real server resolved behind NIC 2, and a reload that has it behind NIC 3.
fn with_reload() -> Network {
    let (_events, receiver) = mpsc::channel(1);
    let net = RouteNetlink::new().expect("netlink");
    let offloads = Offloads::adopt("network-test", 0);
    let mut network = Network::new(net, receiver, behind(2), offloads);
    network.neighbours.set_topology(&network.topology);
    network.on_neighbour_event(&answers(2));
    let topology = behind(3);
    let neighbours = network.neighbours.for_topology(&topology);
    network.next = Some(NextNetwork { topology, neighbours });
    network
}

#[tokio::test]
async fn a_change_of_the_network_keeps_mac_addresses_while_a_reload_waits() {
    let network = with_reload();
    assert!(network.pending_unresolved_count() > 0);
    // The route of the reload is another one: its table has no MAC address for the one in force.
    assert!(network.neighbours_after_change(&behind(2)).is_resolved(server()));
}

#[tokio::test]
async fn a_reload_gets_what_was_resolved_for_it() {
    let mut network = with_reload();
    assert_eq!(
        network.on_neighbour_event(&answers(3)),
        RequiredActions::NONE,
        "nothing in force has changed"
    );
    assert!(network.pending_unresolved_count() == 0);
    assert!(network.neighbours_after_reload(&behind(3)).is_resolved(server()));
    assert!(network.pending_unresolved_count() == 0, "it is taken");
}

#[tokio::test]
async fn the_table_of_a_reload_follows_carriers() {
    let mut network = with_reload();
    let desired = crate::config::parse(
        "interface: eth2\nservices:\n  - { vip: 192.0.2.1, port: 80, realservers: [192.168.1.185] }\n",
        std::path::Path::new("test.yaml"),
    )
    .expect("a valid file");
    network.on_link_event(&link(3, false), &desired);
    let next = network.next.as_ref().expect("it waits");
    assert!(next.neighbours.is_disconnected(server()));
    assert!(
        !network.neighbours.is_disconnected(server()),
        "that of NIC 2 has its carrier"
    );
}
