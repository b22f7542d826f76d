//! Real servers that use this host as their gateway: their replies come from a VIP, which is an address of this host, so its
//! kernel drops them unless it is told otherwise (`__fib_validate_source` in net/ipv4/fib_frontend.c). Clients time out, and
//! health checks pass, since their replies go to this host anyway.
//!
//! The XDP program counts such replies. Where the kernel's settings do not let them through, that is a finding.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::Path,
    time::{Duration, Instant},
};

use lbx_common::{backend::VlanTags, nic, routed_replies::RoutedReplies};

use super::{segment::Segment, topology::Topology};
use crate::{
    dataplane::{Dataplane, DataplaneError},
    net::sysctl,
    tables::lookup,
};

/// How long a finding is kept after the last reply.
const FINDING_LIFETIME: Duration = Duration::from_secs(60);

/// Replies that this host drops although real servers send them to it for their clients.
#[derive(Debug, Default)]
pub struct DroppedReplies {
    /// Replies that each CPU has counted, over IPv4 and over IPv6; none before the first look.
    last_counts: Option<[Vec<u64>; 2]>,
    /// By index of the device the replies arrive on, and whether they are IPv6.
    findings: BTreeMap<(u32, bool), Finding>,
}

/// What is wrong on one device.
#[derive(Clone, Debug)]
struct Finding {
    /// The device's name.
    interface: String,
    /// Index of the NIC below it that they arrive on.
    nic: u32,
    /// The VIP of the last reply.
    vip: IpAddr,
    /// Whether the VIPs are addresses of this device.
    has_vips: bool,
    /// The settings that would let replies through, as sysctl(8) takes them.
    missing: Vec<String>,
    /// When the last reply was counted.
    seen: Instant,
}

impl DroppedReplies {
    /// Looks at what was counted in the last second, and logs new findings.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub fn check(&mut self, dataplane: &Dataplane, topology: &Topology) -> Result<(), DataplaneError> {
        let now = Instant::now();
        for reply in self.take_new(&dataplane.routed_replies()?) {
            if let Some((key, finding)) = Finding::of(&reply, topology, now) {
                let logged = self.findings.get(&key).map(|known| known.missing.clone());
                let missing = logged.unwrap_or_default();
                self.findings.insert(key, Finding { missing, ..finding });
            }
        }
        self.findings.retain(|&(_, ipv6), finding| {
            let missing = missing_settings(ipv6, &finding.interface, finding.has_vips, setting);
            let (is_new, is_over) = (finding.missing.is_empty(), missing.is_empty());
            finding.missing = missing;
            let interface = &finding.interface;
            if is_new && !is_over {
                tracing::warn!(vip = %finding.vip, interface, "{}", finding.message());
            } else if is_over && !is_new {
                tracing::info!(
                    interface,
                    "kernel settings let replies of real servers from VIPs through now"
                );
            }
            !is_over && now.duration_since(finding.seen) < FINDING_LIFETIME
        });
        Ok(())
    }

    /// The last reply of each CPU that has counted some since the look before. What was there at the first look is not new.
    fn take_new(&mut self, read: &[Vec<RoutedReplies>; 2]) -> Vec<RoutedReplies> {
        let counted = read.each_ref().map(|cpus| cpus.iter().map(|cpu| cpu.packets).collect());
        let Some(before) = self.last_counts.replace(counted) else {
            return Vec::new();
        };
        let cpus = read.iter().flatten().zip(before.iter().flatten());
        cpus.filter(|(cpu, before)| cpu.packets != **before)
            .map(|(cpu, _)| *cpu)
            .collect()
    }

    /// What an operator should know of a NIC.
    pub fn warnings_of(&self, nic: u32) -> impl Iterator<Item = String> {
        let findings = self.findings.values().filter(move |finding| finding.nic == nic);
        findings.map(Finding::message)
    }
}

impl Finding {
    /// What a reply may mean, and on which device and in which family; none where it is for this host itself, or its segment is no
    /// longer in use. The settings are still to be read.
    fn of(reply: &RoutedReplies, topology: &Topology, seen: Instant) -> Option<((u32, bool), Self)> {
        let (vip, client) = (lookup::ip(reply.vip), lookup::ip(reply.client));
        if topology.server_routes.values().any(|route| route.source == client) {
            return None;
        }
        // Of a bond, the program runs on the members.
        let ifindex_of_arrival = |segment: &Segment| {
            let [outer, inner] = segment.vlan_tags;
            let members = topology
                .members_of_bond(segment.ifindex)
                .iter()
                .map(|member| member.index);
            let mut nics = members.chain([segment.ifindex]);
            nics.find(|&nic| nic::segment_key(nic, VlanTags { outer, inner }) == reply.segment)
        };
        let mut segments = topology.segments.iter();
        let (nic, role) = segments.find_map(|(segment, role)| Some((ifindex_of_arrival(segment)?, role)))?;
        let finding = Self {
            interface: role.device.name.clone(),
            nic,
            vip,
            has_vips: topology.primary_ifindex == Some(role.device.index),
            missing: Vec::new(),
            seen,
        };
        Some(((role.device.index, vip.is_ipv6()), finding))
    }

    fn message(&self) -> String {
        format!(
            "replies of real servers from VIP {} to clients are dropped on {}: this host is the real servers' gateway and the VIP \
             an address of its own, so clients get no answer; give the real servers another gateway, or let replies through: \
             `sysctl -w {}`",
            self.vip,
            self.interface,
            self.missing.join(" ")
        )
    }
}

/// The settings that keep this host from forwarding packets whose source is an address of its own, as they should be. `value`
/// reads a setting by its path below `/proc/sys/net`; one that the kernel does not have is not missing.
fn missing_settings(ipv6: bool, device: &str, has_vips: bool, value: impl Fn(&str) -> Option<i32>) -> Vec<String> {
    if ipv6 {
        let forwards = value("ipv6/conf/all/forwarding") != Some(0);
        return (!forwards)
            .then(|| "net.ipv6.conf.all.forwarding=1".to_owned())
            .into_iter()
            .collect();
    }
    let values = |key: &str| ["all", device].map(|conf| value(&format!("ipv4/conf/{conf}/{key}")));
    // sysctl(8) takes a slash for a dot within a name.
    let conf = format!("net.ipv4.conf.{}", device.replace('.', "/"));
    let mut missing = Vec::new();
    // include/linux/inetdevice.h: IN_DEV_ACCEPT_LOCAL is either of the two, IN_DEV_RPFILTER the greater, IN_DEV_FORWARD the device's.
    if values("accept_local").into_iter().flatten().max() == Some(0) {
        missing.push(format!("{conf}.accept_local=1"));
    }
    // Strict: the route back to the source is not by this device, unless it has the VIPs. 2 is loose, whatever `all` says.
    if values("rp_filter").into_iter().flatten().max() == Some(1) && !has_vips {
        missing.push(format!("{conf}.rp_filter=2"));
    }
    if values("forwarding")[1] == Some(0) {
        missing.push("net.ipv4.ip_forward=1".to_owned());
    }
    missing
}

/// A setting of this host. One that cannot be read is as one that the kernel does not have.
fn setting(path: &str) -> Option<i32> {
    sysctl::read_number(&Path::new("/proc/sys/net").join(path))
        .ok()
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is missing where these settings are not 0.
    fn missing(ipv6: bool, has_vips: bool, set: &[(&str, i32)]) -> Vec<String> {
        let value = |path: &str| Some(set.iter().find(|(key, _)| *key == path).map_or(0, |(_, value)| *value));
        missing_settings(ipv6, "eth1.10", has_vips, value)
    }

    #[test]
    fn what_is_missing_is_said_as_sysctl_takes_it() {
        let (local, filter, forward) = (
            "net.ipv4.conf.eth1/10.accept_local=1",
            "net.ipv4.conf.eth1/10.rp_filter=2",
            "net.ipv4.ip_forward=1",
        );
        assert_eq!(missing(false, false, &[]), [local, forward]);
        let strict = ("ipv4/conf/all/rp_filter", 1);
        assert_eq!(missing(false, false, &[strict]), [local, filter, forward]);
        assert_eq!(missing(false, true, &[strict]), [local, forward]);
        let done = [("ipv4/conf/all/accept_local", 1), ("ipv4/conf/eth1.10/forwarding", 1)];
        assert_eq!(missing(false, false, &done), [""; 0]);
        let loose = [done[0], done[1], strict, ("ipv4/conf/eth1.10/rp_filter", 2)];
        assert_eq!(missing(false, false, &loose), [""; 0]);
        let here = [("ipv4/conf/eth1.10/accept_local", 1), done[1]];
        assert_eq!(missing(false, false, &here), [""; 0]);
    }

    #[test]
    fn ipv6_needs_forwarding_alone() {
        assert_eq!(missing(true, false, &[]), ["net.ipv6.conf.all.forwarding=1"]);
        assert_eq!(missing(true, false, &[("ipv6/conf/all/forwarding", 1)]), [""; 0]);
        // Without IPv6, or without a word about it.
        assert_eq!(missing_settings(true, "eth0", false, |_| None), [""; 0]);
        assert_eq!(missing_settings(false, "eth0", false, |_| None), [""; 0]);
    }

    #[test]
    fn only_what_was_counted_since_is_new() {
        let cpu = |packets| RoutedReplies {
            packets,
            ..RoutedReplies::default()
        };
        let mut replies = DroppedReplies::default();
        let mut take = |read: [Vec<u64>; 2]| {
            let read = read.map(|cpus| cpus.into_iter().map(cpu).collect());
            let new = replies.take_new(&read);
            new.iter().map(|reply| reply.packets).collect::<Vec<_>>()
        };
        // A former daemon's.
        assert_eq!(take([vec![7, 0], vec![0, 3]]), [0; 0]);
        assert_eq!(take([vec![7, 0], vec![0, 3]]), [0; 0]);
        assert_eq!(take([vec![8, 0], vec![0, 5]]), [8, 5]);
        assert_eq!(take([vec![8, 0], vec![0, 5]]), [0; 0]);
    }
}
