//! VIP conflicts (RFC 5227): a host that answers ARP or neighbour discovery for a VIP takes clients' connections past the
//! director: a real server, any other host, or another NIC of the director on the same segment, where the program does not serve
//! clients.
//!
//! Every second a few VIPs are probed on the clients' segments, and every ARP packet and neighbour message received there is
//! checked. ARP probes have no sender's address, as in RFC 5227 section 2.1.1: the kernel does not answer requests from
//! addresses of its own (arp_process in net/ipv4/arp.c). For IPv6 another address of the NIC is the source: a solicitation
//! without one would be answered to all nodes, and have clients take the other host (RFC 4861 section 7.2.4).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use super::{neighbours::Solicitation, segment_sockets::SegmentSockets, topology::Topology};
use crate::{
    net::{AddressBinding, NetError},
    tables::{
        Tables,
        event::{mac, resolver},
        service::LoadedBackend,
    },
};

/// VIPs probed in a second.
const VIPS_PER_SECOND: usize = 8;
/// Conflicts kept for one VIP: a flood of forged ARP packets must not fill memory and log.
const MAX_CONFLICTS_PER_VIP: usize = 8;
/// Statements taken in between two checks, for the same reason.
const MAX_RECEIVED: usize = 1_024;
/// How long a conflict is kept after it was last seen, besides the time in which every VIP is probed once.
const CONFLICT_LIFETIME: Duration = Duration::from_secs(10);
/// The sender's address of an ARP probe.
const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Other hosts that answer for VIPs.
#[derive(Debug, Default)]
pub struct VipConflicts {
    /// The devices by which clients are served, with their MAC addresses.
    devices: BTreeMap<u32, [u8; 6]>,
    vips: Vec<IpAddr>,
    /// Statements about VIPs that have come since the last check.
    received: BTreeSet<AddressBinding>,
    bindings: BTreeMap<AddressBinding, Instant>,
    /// The VIP that is probed next.
    next: usize,
}

impl VipConflicts {
    /// Takes in what hosts have stated by each device.
    pub fn on_bindings(&mut self, bindings: &[(u32, AddressBinding)]) {
        for (ifindex, binding) in bindings {
            let is_other = self.devices.contains_key(ifindex) && !self.devices.values().any(|mac| *mac == binding.mac);
            if is_other
                && self.vips.binary_search(&binding.address).is_ok()
                && (self.bindings.contains_key(binding) || self.received.len() < MAX_RECEIVED)
            {
                self.received.insert(*binding);
            }
        }
    }

    /// Looks for conflicts for another second, and logs what is new.
    pub fn check(&mut self, sockets: &mut SegmentSockets, topology: &Topology, tables: &Tables) {
        self.vips = tables.vips().into_iter().collect();
        self.devices = topology
            .client_devices()
            .map(|device| (device.index, device.mac))
            .collect();
        let (new, over) = self.update(Instant::now());
        for binding in new {
            log(&binding, topology, tables);
        }
        for AddressBinding { address, mac: other } in over {
            let (other, resolver) = (mac(other), resolver(address));
            tracing::info!(vip = %address, mac = other, "VIP conflict over: {other} no longer answers {resolver} for the VIP");
        }
        // Without a socket there is no warning, and nothing else is lost.
        if let Err(error) = self.probe(sockets, topology) {
            tracing::debug!("cannot look for VIP conflicts: {:#}", anyhow::Error::from(error));
        }
    }

    /// Takes in what was received. Returns the conflicts that are new, and those that are over.
    fn update(&mut self, now: Instant) -> (Vec<AddressBinding>, Vec<AddressBinding>) {
        let mut new = Vec::new();
        for binding in std::mem::take(&mut self.received) {
            let known = self.bindings.contains_key(&binding);
            if known || self.conflicting_macs(binding.address).count() < MAX_CONFLICTS_PER_VIP {
                self.bindings.insert(binding, now);
                new.extend((!known).then_some(binding));
            }
        }
        let round = Duration::from_secs(self.vips.len().div_ceil(VIPS_PER_SECOND) as u64);
        let mut over = Vec::new();
        let vips = &self.vips;
        self.bindings.retain(|binding, &mut at| {
            let is_vip = vips.binary_search(&binding.address).is_ok();
            let kept = is_vip && now - at < CONFLICT_LIFETIME + round;
            over.extend((is_vip && !kept).then_some(*binding));
            kept
        });
        (new, over)
    }

    fn probe(&mut self, sockets: &mut SegmentSockets, topology: &Topology) -> Result<(), NetError> {
        let vips = &self.vips;
        let due = vips
            .iter()
            .cycle()
            .skip(self.next)
            .take(VIPS_PER_SECOND.min(vips.len()));
        for &vip in due {
            for (&ifindex, &mac) in &self.devices {
                sockets.listen(ifindex, vip)?;
                let source = match vip {
                    IpAddr::V4(_) => Some(NO_ADDRESS),
                    IpAddr::V6(_) => topology.ipv6_sources.get(&ifindex).copied().map(IpAddr::V6),
                };
                if let Some(source) = source {
                    let probe = Solicitation {
                        ifindex,
                        source,
                        target: vip,
                        target_mac: None,
                    };
                    // A NIC that is down is logged elsewhere.
                    let _not_sent = sockets.solicit(mac, &probe);
                }
            }
        }
        self.next = (self.next + VIPS_PER_SECOND) % self.vips.len().max(1);
        Ok(())
    }

    /// The MAC addresses of other hosts that answer for a VIP.
    pub fn conflicting_macs(&self, vip: IpAddr) -> impl Iterator<Item = [u8; 6]> {
        let from = AddressBinding {
            address: vip,
            mac: [0; 6],
        };
        let vip_conflicts = self.bindings.range(from..).map(|(claim, _)| claim);
        vip_conflicts
            .take_while(move |claim| claim.address == vip)
            .map(|claim| claim.mac)
    }
}

fn log(binding: &AddressBinding, topology: &Topology, tables: &Tables) {
    let (vip, address, resolver) = (binding.address, mac(binding.mac), resolver(binding.address));
    if let Some(interface) = topology.non_client_devices.get(&binding.mac) {
        tracing::warn!(
            %vip, interface, mac = address,
            "this host answers {resolver} for the VIP by {interface} too, where lbx does not serve clients: those that learn this \
             MAC address are refused; add {interface} to `interface`, or {}",
            match vip {
                // sysctl(8) takes a slash for a dot within a name.
                IpAddr::V4(_) => format!(
                    "set `sysctl -w net.ipv4.conf.{}.arp_ignore=1`",
                    interface.replace('.', "/")
                ),
                IpAddr::V6(_) => format!("remove the VIP from {interface}"),
            }
        );
        return;
    }
    let members = tables.services.values().flat_map(|service| service.backends.values());
    let mut same_mac = members.filter(|member: &&LoadedBackend| member.next_hop.mac == binding.mac);
    match same_mac.next() {
        Some(LoadedBackend {
            address: real_server, ..
        }) => tracing::warn!(
            %vip, %real_server, mac = address,
            "real server answers {resolver} for the VIP: clients may bypass the director; run `lbx realserver --vip {vip}` there{}",
            match vip {
                IpAddr::V4(_) => "",
                IpAddr::V6(_) => ", and remove the VIP from its NIC",
            }
        ),
        None => tracing::warn!(
            %vip, mac = address,
            "another host answers {resolver} for the VIP: clients may connect to it instead of the director"
        ),
    }
}
