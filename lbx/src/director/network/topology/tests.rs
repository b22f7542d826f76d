use super::*;
use crate::{
    config,
    net::{InterfaceAddress, VlanDevice},
};

const ETH0: u32 = 2;
const ETH1: u32 = 3;
const VLAN: u32 = 9;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.into(),
        mac: [2, 0, 0, 0, 0, index as u8],
        up: true,
        carrier: true,
        mtu: 1_500,
        xdp: None,
        vlan: None,
        kind: Default::default(),
        master_ifindex: None,
        peer: None,
    }
}

fn vlan(index: u32, name: &str, lower: u32, id: u16) -> Link {
    Link {
        vlan: Some(VlanDevice {
            lower_ifindex: Some(lower),
            id,
            is_8021ad: false,
        }),
        ..link(index, name)
    }
}

/// A service on eth0 with two real servers, one behind each NIC.
fn desired() -> DesiredState {
    let text = "
interface: eth0
network_grace: 0
services:
  - {name: web, vip: 192.168.1.160, port: 80, realservers: [192.168.1.185, 192.168.2.190]}
";
    config::parse(text, std::path::Path::new("lb.yaml")).unwrap()
}

fn on_link(ifindex: u32) -> Route {
    Route::OnLink {
        ifindex,
        source: ip("192.168.1.2"),
    }
}

/// A network where it all fits.
fn snapshot() -> NetworkSnapshot {
    NetworkSnapshot {
        links: [link(ETH0, "eth0"), link(ETH1, "eth1")]
            .map(|link| (link.index, link))
            .into(),
        addresses: Vec::new(),
        routes: BTreeMap::from([
            (ip("192.168.1.185"), on_link(ETH0)),
            (ip("192.168.2.190"), on_link(ETH1)),
        ]),
    }
}

fn strict(snapshot: &NetworkSnapshot) -> Result<Topology, String> {
    let (topology, mismatches) = Topology::of(snapshot, &desired(), &[], None);
    match mismatches.first() {
        Some(mismatch) => Err(mismatch.to_string()),
        None => Ok(topology),
    }
}

fn update(before: &Topology, snapshot: &NetworkSnapshot) -> (Topology, Vec<String>) {
    let (topology, mismatches) = Topology::of(snapshot, &desired(), &[], Some(before));
    (topology, mismatches.iter().map(ToString::to_string).collect())
}

fn untagged(ifindex: u32) -> Segment {
    Segment {
        ifindex,
        vlan_tags: [0; 2],
    }
}

#[test]
fn nics_have_the_roles_of_who_is_behind_them() {
    let topology = strict(&snapshot()).unwrap();
    assert_eq!(topology.primary_ifindex, Some(ETH0));
    assert_eq!(topology.nics.keys().copied().collect::<Vec<_>>(), [ETH0, ETH1]);
    assert_eq!(topology.segments[&untagged(ETH0)].roles, CLIENT_FACING | SERVER_FACING);
    assert_eq!(topology.segments[&untagged(ETH1)].roles, SERVER_FACING);
    assert_eq!(topology.server_routes[&ip("192.168.2.190")].segment, untagged(ETH1));
    assert_eq!(topology.trunks, BTreeSet::new());
}

#[test]
fn a_vlan_device_is_served_on_the_nic_below() {
    let mut snapshot = snapshot();
    snapshot.links.insert(VLAN, vlan(VLAN, "eth0.10", ETH0, 10));
    snapshot.routes.insert(ip("192.168.2.190"), on_link(VLAN));
    let topology = strict(&snapshot).unwrap();
    let segment = Segment {
        ifindex: ETH0,
        vlan_tags: [10, 0],
    };
    assert_eq!(topology.nics.keys().copied().collect::<Vec<_>>(), [ETH0]);
    assert_eq!(topology.segments[&segment].device.index, VLAN);
    let route = topology.server_routes[&ip("192.168.2.190")];
    assert_eq!((route.segment, route.ifindex), (segment, VLAN));
    assert_eq!(
        topology.device(VLAN).map(|device| device.name.as_str()),
        Some("eth0.10")
    );
    assert_eq!(topology.devices().count(), 2);
    assert_eq!(topology.trunks, BTreeSet::from([ETH0]));

    // Clients in a VLAN: the program is on a NIC that has no segment of its own.
    snapshot.links.insert(ETH0, link(ETH0, "trunk"));
    snapshot.links.insert(VLAN, vlan(VLAN, "eth0", ETH0, 10));
    snapshot.routes = [ip("192.168.1.185"), ip("192.168.2.190")]
        .map(|server| (server, on_link(VLAN)))
        .into();
    let topology = strict(&snapshot).unwrap();
    assert_eq!(topology.primary_ifindex, Some(VLAN));
    assert_eq!(topology.nics.keys().copied().collect::<Vec<_>>(), [ETH0]);
    assert_eq!(topology.segments.keys().copied().collect::<Vec<_>>(), [segment]);
}

#[test]
fn a_missing_interface_is_told_from_one_that_is_down() {
    let mut snapshot = snapshot();
    snapshot.links.get_mut(&ETH0).unwrap().up = false;
    assert_eq!(
        strict(&snapshot).unwrap_err(),
        "interface eth0 is down: bring it up with `ip link set eth0 up`"
    );
    snapshot.links.remove(&ETH0);
    assert_eq!(
        strict(&snapshot).unwrap_err(),
        "interface eth0 does not exist; this host has eth1"
    );
}

#[test]
fn a_real_server_that_is_not_a_neighbour_is_refused() {
    let refused = |route: Option<Route>| {
        let mut snapshot = snapshot();
        snapshot.routes.remove(&ip("192.168.2.190"));
        snapshot.routes.extend(route.map(|route| (ip("192.168.2.190"), route)));
        strict(&snapshot).unwrap_err()
    };
    let router = Route::Via {
        gateway: ip("192.168.1.1"),
        ifindex: ETH0,
    };
    assert_eq!(
        refused(Some(router)),
        "real server 192.168.2.190 of service web is not on-link (it is behind router 192.168.1.1 on eth0): direct \
         server return needs it on a network segment of this host"
    );
    assert!(refused(None).contains("there is no route to it"));
    assert!(refused(Some(Route::Local)).contains("is an address of this host"));
}

#[test]
fn a_link_local_real_server_is_refused() {
    let mut snapshot = snapshot();
    snapshot.routes.insert(ip("fe80::1"), on_link(ETH0));
    let topology = Topology::default();
    let refused = topology.route(&snapshot, ip("fe80::1"), "web").unwrap_err();
    assert!(refused.to_string().contains("link-local"), "{refused}");
}

#[test]
fn what_clients_send_must_fit_through() {
    let mut snapshot = snapshot();
    snapshot.links.get_mut(&ETH0).unwrap().mtu = 9_000;
    let refused = strict(&snapshot).unwrap_err();
    assert!(
        refused.contains("behind eth1 with MTU 1500, but clients' packets come in by eth0 with MTU 9000"),
        "{refused}"
    );
    snapshot.links.get_mut(&ETH1).unwrap().mtu = 9_000;
    assert!(strict(&snapshot).is_ok());
}

#[test]
fn one_bad_real_server_keeps_no_other_away() {
    let before = strict(&snapshot()).unwrap();
    let mut snapshot = snapshot();
    snapshot.routes.insert(ip("192.168.2.190"), Route::None);
    let (after, mismatches) = update(&before, &snapshot);
    assert!(
        after.server_routes.contains_key(&ip("192.168.1.185"))
            && !after.server_routes.contains_key(&ip("192.168.2.190"))
    );
    assert_eq!(after.nics.keys().copied().collect::<Vec<_>>(), [ETH0]);
    assert_eq!(mismatches.len(), 1);
    assert!(mismatches[0].contains("192.168.2.190"), "{mismatches:?}");
}

#[test]
fn a_route_that_is_gone_is_kept_for_a_while() {
    let server = ip("192.168.2.190");
    let mut patient = desired();
    patient.network_grace_seconds = 30;
    let (topology, _) = Topology::of(&snapshot(), &patient, &[], None);
    let mut changed = snapshot();
    changed.routes.insert(server, Route::None);
    let (kept, mismatches) = Topology::of(&changed, &patient, &[], Some(&topology));
    assert!(mismatches.is_empty() && kept.route_lost_since.contains_key(&server));
    assert_eq!(kept.server_routes, topology.server_routes);
    // The time runs from the first look, and not for what is not tried again.
    let (still, _) = Topology::of(&changed, &patient, &[], Some(&kept));
    assert_eq!(still.route_lost_since, kept.route_lost_since);
    let (over, mismatches) = Topology::of(&changed, &desired(), &[], Some(&kept));
    assert!(mismatches.len() == 1 && !over.server_routes.contains_key(&server));
    let (back, _) = Topology::of(&snapshot(), &patient, &[], Some(&kept));
    assert!(back.route_lost_since.is_empty() && back.server_routes == topology.server_routes);
    // Without its NIC there is nothing to keep.
    changed.links.remove(&ETH1);
    let (gone, _) = Topology::of(&changed, &patient, &[], Some(&topology));
    assert!(!gone.server_routes.contains_key(&server));
}

#[test]
fn behind_a_nic_that_is_down_everything_stays_as_it_was() {
    let before = strict(&snapshot()).unwrap();
    let mut snapshot = snapshot();
    snapshot.links.get_mut(&ETH1).unwrap().up = false;
    // The kernel now takes the default route.
    let router = Route::Via {
        gateway: ip("192.168.1.1"),
        ifindex: ETH0,
    };
    snapshot.routes.insert(ip("192.168.2.190"), router);
    let (after, mismatches) = update(&before, &snapshot);
    assert_eq!(after.server_routes, before.server_routes);
    assert_eq!(mismatches, [""; 0]);
    // The clients' NIC too; but a start is refused.
    snapshot.links.get_mut(&ETH0).unwrap().up = false;
    let (after, mismatches) = update(&before, &snapshot);
    assert_eq!(after.server_routes, before.server_routes);
    assert_eq!(after.primary_ifindex, Some(ETH0));
    assert_eq!(mismatches, [""; 0]);
    assert!(strict(&snapshot).is_err());
    // It is back, and the route is not.
    snapshot.links.get_mut(&ETH0).unwrap().up = true;
    snapshot.links.get_mut(&ETH1).unwrap().up = true;
    let (after, mismatches) = update(&before, &snapshot);
    assert!(!after.server_routes.contains_key(&ip("192.168.2.190")));
    assert_eq!(mismatches.len(), 1);
}

#[test]
fn a_nic_that_is_gone_takes_what_is_behind_it_along() {
    let before = strict(&snapshot()).unwrap();
    let mut snapshot = snapshot();
    snapshot.links.remove(&ETH0);
    snapshot.routes.insert(ip("192.168.1.185"), Route::None);
    let (after, mismatches) = update(&before, &snapshot);
    assert_eq!(after.primary_ifindex, None);
    assert_eq!(
        after.server_routes.keys().copied().collect::<Vec<_>>(),
        [ip("192.168.2.190")]
    );
    assert_eq!(mismatches.len(), 2, "the interface and the real server: {mismatches:?}");
}

#[test]
fn a_nic_that_is_left_out_goes_with_its_segments_and_routes() {
    let mut topology = strict(&snapshot()).unwrap();
    topology.exclude(ETH1);
    assert!(topology.device(ETH1).is_none());
    assert_eq!(
        topology.server_routes.keys().copied().collect::<Vec<_>>(),
        [ip("192.168.1.185")]
    );
}

#[test]
fn all_ports_are_taken_of_no_address_of_the_host() {
    let mut desired = desired();
    let mut snapshot = snapshot();
    let vip = desired.services[0].virtual_service.vip;
    let address = |ours| InterfaceAddress {
        ifindex: ETH1,
        address: vip,
        prefix_len: 32,
        added_by_lbx: ours,
    };
    snapshot.addresses = vec![address(false)];
    assert!(
        refuse_all_ports_of_others(&snapshot, &desired).is_ok(),
        "port 80 alone is no harm"
    );
    desired.services[0].ports = PortSet::All;
    let refused = refuse_all_ports_of_others(&snapshot, &desired).unwrap_err();
    assert!(
        refused.to_string().contains("which eth1 has and lbx did not add"),
        "{refused}"
    );
    snapshot.addresses = vec![address(true)];
    assert!(
        refuse_all_ports_of_others(&snapshot, &desired).is_ok(),
        "a former lbx has left it"
    );
}

#[test]
fn a_bond_takes_part_with_its_members() {
    let member = |index, controller| Link {
        master_ifindex: controller,
        ..link(index, &format!("eth{index}"))
    };
    let mut snapshot = snapshot();
    let bond = Link {
        kind: DeviceKind::Bond,
        ..link(ETH0, "eth0")
    };
    for link in [bond, member(20, Some(ETH0)), member(21, Some(ETH0)), member(22, None)] {
        snapshot.links.insert(link.index, link);
    }
    let topology = strict(&snapshot).unwrap();
    let members: Vec<_> = topology
        .members_of_bond(ETH0)
        .iter()
        .map(|member| member.index)
        .collect();
    assert_eq!(members, [20, 21]);
    assert!(topology.members_of_bond(ETH1).is_empty());
    assert!(topology.runs_program(ETH0) && topology.runs_program(21) && !topology.runs_program(22));
    // Nothing new, one that joins, one that leaves, one that joins another bond.
    assert!(!topology.changes_bond_members(&member(20, Some(ETH0))));
    assert!(topology.changes_bond_members(&member(22, Some(ETH0))));
    assert!(topology.changes_bond_members(&member(20, None)));
    assert!(topology.changes_bond_members(&member(20, Some(ETH1))));
    assert!(!topology.changes_bond_members(&member(23, Some(ETH1))));
}

#[test]
fn a_generic_nic_makes_those_generic_that_send_to_it() {
    let on = |clients: &[u32], servers: &[u32]| {
        let mut topology = Topology::default();
        for (nics, roles) in [(clients, CLIENT_FACING), (servers, SERVER_FACING)] {
            for &nic in nics {
                let role = topology.segments.entry(untagged(nic)).or_insert_with(|| SegmentRole {
                    device: link(nic, "eth"),
                    roles: 0,
                });
                role.roles |= roles;
            }
        }
        topology
    };
    let because_of = |topology: &Topology, generic: u32| topology.redirecting_to(&BTreeSet::from([generic]));
    // Clients on both, real servers behind the first.
    let first = on(&[1, 2], &[1]);
    assert_eq!(because_of(&first, 2), BTreeMap::new(), "nothing is sent to it");
    assert_eq!(because_of(&first, 1), BTreeMap::from([(2, 1)]));
    // It sends to itself only.
    assert_eq!(because_of(&on(&[1], &[1]), 1), BTreeMap::new());
    assert_eq!(because_of(&on(&[1], &[2]), 2), BTreeMap::from([(1, 2)]));
    // What receives no clients' packets may be native whatever sends to it.
    assert_eq!(because_of(&on(&[1], &[2, 3]), 1), BTreeMap::new());
    assert_eq!(because_of(&on(&[1], &[2, 3]), 2), BTreeMap::from([(1, 2)]));
    // One after the other: 2 sends to 3, and 1 to 2.
    let chain = on(&[1, 2], &[2, 3]);
    assert_eq!(because_of(&chain, 3), BTreeMap::from([(1, 3), (2, 3)]));
    assert_eq!(first.redirecting_to(&BTreeSet::new()), BTreeMap::new());
}

/// Open vSwitch's datapath is the controller of all ports of all bridges.
#[test]
fn a_port_of_open_vswitch_is_not_told_to_use_the_datapath() {
    let mut snapshot = snapshot();
    let datapath = Link {
        kind: DeviceKind::OpenVswitch,
        ..link(30, "ovs-system")
    };
    let port = Link {
        master_ifindex: Some(datapath.index),
        ..link(ETH0, "eth0")
    };
    for link in [datapath, port] {
        snapshot.links.insert(link.index, link);
    }
    let refused = strict(&snapshot).unwrap_err().to_string();
    assert!(
        refused.contains("`ovs-vsctl port-to-br eth0`") && !refused.contains("ovs-system"),
        "{refused}"
    );
}
