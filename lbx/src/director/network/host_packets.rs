//! Packets for services that reach this host's own stack, which refuses them: by a NIC where lbx does not serve clients, or past its
//! program.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use lbx_common::{host_packets::HostPackets, nic::CLIENT_FACING, service::TCP};

use super::topology::Topology;
use crate::{
    dataplane::{Dataplane, DataplaneError},
    desired::{Protocol, VirtualService},
    net::Link,
    tables::lookup,
};

/// How long a finding is kept after the last packet.
const FINDING_LIFETIME: Duration = Duration::from_secs(60);
/// Packets in a second that are no finding: some may be under way while NICs or services change.
const TOLERATED: u64 = 1;
/// Devices that are watched at most: a host may have thousands, for containers.
const MAX_DEVICES: usize = 16;

/// Packets that have reached the stack, by device.
#[derive(Debug, Default)]
pub struct HostPacketsByDevice {
    /// Counted packets; none before the first look.
    counted: Option<BTreeMap<u32, u64>>,
    findings: BTreeMap<u32, Finding>,
    /// The devices that are to be watched.
    devices: Vec<u32>,
    /// The kernel refuses to count: reported once.
    is_refused: bool,
}

#[derive(Clone, Debug)]
struct Finding {
    interface: String,
    vip: IpAddr,
    message: String,
    seen: Instant,
}

impl HostPacketsByDevice {
    /// Chooses the devices of this host that may get some: its Ethernet devices that are up, those of clients first. What a port of a
    /// bond, team or bridge receives is its controller's, which is watched itself.
    pub fn choose_devices(&mut self, topology: &Topology, links: &[Link]) {
        let controllers: BTreeSet<u32> = links
            .iter()
            .filter(|link| link.kind.takes_frames_of_ports())
            .map(|link| link.index)
            .collect();
        let is_port = |link: &Link| link.master_ifindex.is_some_and(|master| controllers.contains(&master));
        let others = links
            .iter()
            .filter(|link| is_watched(link) && !is_client_nic(topology, link.index) && !is_port(link));
        let clients = topology.nics.keys().copied();
        let clients = clients.filter(|&nic| is_client_nic(topology, nic));
        let all = clients.chain(others.map(|link| link.index));
        self.devices = all.take(MAX_DEVICES).collect();
    }

    /// Has packets counted on those devices, a few more with each call.
    pub fn watch(&mut self, dataplane: &mut Dataplane) {
        match dataplane.count_host_packets(&self.devices) {
            Ok(()) => self.is_refused = false,
            Err(error) if !self.is_refused => {
                self.is_refused = true;
                tracing::debug!(
                    "packets for VIPs that reach this host's own stack are not counted: {:#}",
                    anyhow::Error::from(error)
                );
            }
            Err(_) => {}
        }
    }

    /// Looks at what was counted in the last second, and logs what is new or over.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub fn check(
        &mut self,
        dataplane: &Dataplane,
        topology: &Topology,
        name: impl Fn(u32) -> String,
    ) -> Result<(), DataplaneError> {
        self.take(&dataplane.host_packets()?, topology, name, Instant::now());
        Ok(())
    }

    /// Takes counters read at a time. What was there at the first look is not new.
    fn take(
        &mut self,
        counted: &[(u32, HostPackets)],
        topology: &Topology,
        name: impl Fn(u32) -> String,
        now: Instant,
    ) {
        let totals = counted
            .iter()
            .map(|(device, counted)| (*device, counted.packets))
            .collect();
        let Some(before) = self.counted.replace(totals) else {
            return;
        };
        for (device, counted) in counted {
            let new = counted.packets.saturating_sub(before.get(device).copied().unwrap_or(0));
            if let Some(known) = self.findings.get_mut(device).filter(|_| new > 0) {
                known.seen = now;
            } else if new > TOLERATED {
                let finding = Finding::new(counted, &name(*device), is_client_nic(topology, *device), now);
                tracing::warn!(vip = %finding.vip, interface = finding.interface, packets = new, "{}", finding.message);
                self.findings.insert(*device, finding);
            }
        }
        self.findings.retain(|_, finding| {
            let is_kept = now.duration_since(finding.seen) < FINDING_LIFETIME;
            if !is_kept {
                let (interface, vip) = (&finding.interface, finding.vip);
                tracing::info!(%vip, interface, "no packets for VIPs reach this host's own stack by {interface} any more");
            }
            is_kept
        });
    }

    /// What an operator should know of a VIP.
    pub fn warnings_of(&self, vip: IpAddr) -> impl Iterator<Item = String> {
        let findings = self.findings.values().filter(move |finding| finding.vip == vip);
        findings.map(|finding| finding.message.clone())
    }
}

impl Finding {
    fn new(counted: &HostPackets, interface: &str, serves_clients: bool, seen: Instant) -> Self {
        let vip = lookup::ip(counted.last_vip);
        let service = VirtualService {
            vip,
            port: u16::from_be_bytes(counted.last_port),
            protocol: if counted.last_protocol == TCP {
                Protocol::Tcp
            } else {
                Protocol::Udp
            },
        };
        let fix = if serves_clients {
            "although lbx serves clients there: its program is not attached, or another has taken its place; see `bpftool net`".to_owned()
        } else {
            let arp = format!(" or ARP (`sysctl -w net.ipv4.conf.{interface}.arp_ignore=1`)");
            let arp = if vip.is_ipv4() { arp.as_str() } else { "" };
            format!(
                "where lbx does not serve clients: add {interface} to `interface`, or keep clients from this NIC by their routes{arp}"
            )
        };
        Self {
            message: format!(
                "packets for {service} reach this host's own stack by {interface}, which refuses them, {fix}"
            ),
            interface: interface.to_owned(),
            vip,
            seen,
        }
    }
}

fn is_watched(link: &Link) -> bool {
    link.up && link.mac != [0; 6]
}

fn is_client_nic(topology: &Topology, ifindex: u32) -> bool {
    let mut segments = topology.segments.iter();
    segments.any(|(segment, role)| {
        role.roles & CLIENT_FACING != 0 && (segment.ifindex == ifindex || role.device.index == ifindex)
    })
}

#[cfg(test)]
mod tests {
    use lbx_common::address::Address;

    use super::*;

    fn counted(packets: u64) -> [(u32, HostPackets); 1] {
        let counted = HostPackets {
            packets,
            last_vip: Address::from_ipv4([192, 168, 1, 160]),
            last_protocol: TCP,
            pad: [0; 5],
            last_port: [0, 80],
        };
        [(3, counted)]
    }

    #[test]
    fn packets_are_a_finding_until_a_minute_after_the_last() {
        let (topology, began) = (Topology::default(), Instant::now());
        let mut found = HostPacketsByDevice::default();
        let mut take = |packets, seconds| {
            let now = began + Duration::from_secs(seconds);
            found.take(&counted(packets), &topology, |_| "eth1".to_owned(), now);
            found.warnings_of([192, 168, 1, 160].into()).collect::<Vec<_>>()
        };
        assert_eq!(take(100, 0), [""; 0], "a former daemon's");
        assert_eq!(take(101, 1), [""; 0], "one under way");
        let listed = take(105, 2);
        assert!(
            listed[0].starts_with(
                "packets for 192.168.1.160:80/tcp reach this host's own stack by eth1, which refuses them, where lbx"
            ),
            "{listed:?}"
        );
        assert_eq!(take(106, 50), listed);
        assert_eq!(take(106, 109), listed);
        assert_eq!(take(106, 110), [""; 0]);
    }
}
