//! VIP conflicts (RFC 5227): a real server that answers ARP for a VIP takes clients' connections past the director, and so
//! does another NIC of the director on the same segment, where the program does not serve clients.
//!
//! Every second a few VIPs are probed on the clients' segments, without a sender's address as in RFC 5227 section 2.1.1: the
//! kernel does not answer requests from addresses of its own (arp_process in net/ipv4/arp.c). Every ARP packet received
//! there is checked. (IPv6
//! needs no such look: a host answers neighbour discovery for addresses of the NIC it is asked on alone, and the VIP is
//! on `lo`.)

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use lbx_common::nic::CLIENT_FACING;

use super::topology::Topology;
use crate::{
    net::{ArpBinding, ArpListener, NetError, SegmentSocket},
    tables::{Tables, event::mac, service::LoadedBackend},
};

/// VIPs probed in a second.
const VIPS_PER_SECOND: usize = 8;
/// Conflicts kept for one VIP: a flood of forged ARP packets must not fill memory and log.
const MAX_CONFLICTS_PER_VIP: usize = 8;
/// How long a conflict is kept after it was last seen, besides the time in which every VIP is probed once.
const CONFLICT_LIFETIME: Duration = Duration::from_secs(10);
/// The sender's address of a probe.
const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Other hosts that answer for VIPs.
#[derive(Debug, Default)]
pub struct VipConflicts {
    listeners: BTreeMap<u32, (ArpListener, SegmentSocket)>,
    bindings: BTreeMap<ArpBinding, Instant>,
    /// The VIP that is probed next.
    next: usize,
}

impl VipConflicts {
    /// Looks for conflicts for another second, and logs the new ones.
    pub fn check(&mut self, topology: &Topology, tables: &Tables) {
        // Without a socket there is no warning, and nothing else is lost.
        if let Err(error) = self.listen(topology) {
            tracing::debug!("cannot look for VIP conflicts: {:#}", anyhow::Error::from(error));
        }
        let vips: Vec<IpAddr> = tables.vips().into_iter().collect();
        let own: Vec<[u8; 6]> = topology.client_devices().map(|device| device.mac).collect();
        let mac = |ifindex| topology.device(ifindex).map(|device| device.mac);
        for binding in self.update(&vips, &own, mac) {
            log(&binding, topology, tables);
        }
    }

    /// Listens on the segments where clients are, and no others.
    ///
    /// # Errors
    /// A socket cannot be had.
    fn listen(&mut self, topology: &Topology) -> Result<(), NetError> {
        let clients = topology
            .segments
            .values()
            .filter(|segment| segment.roles & CLIENT_FACING != 0);
        let wanted: Vec<u32> = clients.map(|segment| segment.device.index).collect();
        self.listeners.retain(|ifindex, _| wanted.contains(ifindex));
        for ifindex in wanted {
            if let Entry::Vacant(place) = self.listeners.entry(ifindex) {
                place.insert((ArpListener::open(ifindex)?, SegmentSocket::open(ifindex)?));
            }
        }
        Ok(())
    }

    /// Takes in what was received about these VIPs, and probes some. Returns the new conflicts.
    fn update(&mut self, vips: &[IpAddr], own: &[[u8; 6]], mac: impl Fn(u32) -> Option<[u8; 6]>) -> Vec<ArpBinding> {
        let now = Instant::now();
        let mut new = Vec::new();
        let received: Vec<ArpBinding> = self
            .listeners
            .values()
            .flat_map(|(listener, _)| listener.read())
            .collect();
        for claim in received {
            let others = vips.binary_search(&claim.address).is_ok() && !own.contains(&claim.mac);
            let known = self.bindings.contains_key(&claim);
            if others && (known || self.conflicting_macs(claim.address).count() < MAX_CONFLICTS_PER_VIP) {
                self.bindings.insert(claim, now);
                new.extend((!known).then_some(claim));
            }
        }
        let round = Duration::from_secs(vips.len().div_ceil(VIPS_PER_SECOND) as u64);
        self.bindings.retain(|claim, &mut at| {
            now - at < CONFLICT_LIFETIME + round && vips.binary_search(&claim.address).is_ok()
        });
        self.probe(vips, mac);
        new
    }

    fn probe(&mut self, vips: &[IpAddr], mac: impl Fn(u32) -> Option<[u8; 6]>) {
        let due = vips
            .iter()
            .cycle()
            .skip(self.next)
            .take(VIPS_PER_SECOND.min(vips.len()));
        for &vip in due.filter(|vip| vip.is_ipv4()) {
            for (&ifindex, (_, sender)) in &self.listeners {
                if let Some(mac) = mac(ifindex) {
                    // A NIC that is down is logged elsewhere.
                    let _not_sent = sender.solicit(mac, NO_ADDRESS, vip);
                }
            }
        }
        self.next = (self.next + VIPS_PER_SECOND) % vips.len().max(1);
    }

    /// The MAC addresses of other hosts that answer for a VIP.
    pub fn conflicting_macs(&self, vip: IpAddr) -> impl Iterator<Item = [u8; 6]> {
        let from = ArpBinding {
            address: vip,
            mac: [0; 6],
        };
        let vip_conflicts = self.bindings.range(from..).map(|(claim, _)| claim);
        vip_conflicts
            .take_while(move |claim| claim.address == vip)
            .map(|claim| claim.mac)
    }
}

fn log(binding: &ArpBinding, topology: &Topology, tables: &Tables) {
    if let Some(interface) = topology.non_client_devices.get(&binding.mac) {
        tracing::warn!(
            vip = %binding.address, interface, mac = mac(binding.mac),
            "this host answers ARP for the VIP by {interface} too, where lbx does not serve clients: those that learn this MAC \
             address are refused; add {interface} to `interface`, or set `sysctl -w net.ipv4.conf.{conf}.arp_ignore=1`",
            // sysctl(8) takes a slash for a dot within a name.
            conf = interface.replace('.', "/")
        );
        return;
    }
    let members = tables.services.values().flat_map(|service| service.backends.values());
    let mut same_mac = members.filter(|member: &&LoadedBackend| member.next_hop.mac == binding.mac);
    let (vip, address) = (binding.address, mac(binding.mac));
    match same_mac.next() {
        Some(LoadedBackend {
            address: real_server, ..
        }) => tracing::warn!(
            %vip, %real_server, mac = address,
            "real server answers ARP for the VIP: clients may bypass the director; run `lbx realserver --vip {vip}` there"
        ),
        None => tracing::warn!(
            %vip, mac = address,
            "another host answers ARP for the VIP: clients may connect to it instead of the director"
        ),
    }
}
