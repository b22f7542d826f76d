//! The rules about a VIP: on lo, as itself alone, and on no other NIC.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr},
};

use super::{Finding, Fix, HostState, Verdict, lo_up};
use crate::net::{InterfaceAddress, max_prefix_len};

/// What was observed, by address: there may be thousands of VIPs.
pub(super) struct Places<'a> {
    observed: &'a HostState,
    addresses: HashMap<IpAddr, Vec<&'a InterfaceAddress>>,
    /// Addresses of NICs whose subnet has a broadcast address.
    subnets: Vec<(&'a InterfaceAddress, Ipv4Addr)>,
    routes: HashSet<IpAddr>,
}

impl<'a> Places<'a> {
    pub(super) fn of(observed: &'a HostState) -> Self {
        let mut addresses: HashMap<_, Vec<_>> = HashMap::new();
        for address in &observed.addresses {
            addresses.entry(address.address).or_default().push(address);
        }
        let on_nics = observed
            .addresses
            .iter()
            .filter(|address| observed.link_names.contains_key(&address.ifindex));
        let host_routes = observed
            .routes
            .iter()
            .filter(|route| route.is_host_route(observed.lo_ifindex, route.destination));
        Self {
            observed,
            addresses,
            subnets: on_nics.filter_map(|nic| Some((nic, broadcast(nic)?))).collect(),
            routes: host_routes.map(|route| route.destination).collect(),
        }
    }

    /// Every rule about a VIP.
    pub(super) fn judge(&self, vip: IpAddr) -> impl Iterator<Item = Finding> {
        let findings = [
            Some(self.not_elsewhere(vip)),
            Some(self.vip_on_lo(vip)),
            self.host_route(vip),
        ];
        findings.into_iter().flatten().map(move |finding| finding.about(vip))
    }

    fn with(&self, vip: IpAddr) -> impl Iterator<Item = &InterfaceAddress> {
        self.addresses.get(&vip).into_iter().flatten().copied()
    }

    /// A VIP on another NIC than lo is answered for there whatever arp_ignore says, and with a wider prefix than its own
    /// on lo the whole subnet would lead to this host.
    fn not_elsewhere(&self, vip: IpAddr) -> Finding {
        let rule = format!("{vip} on no NIC but lo");
        let at_fault = self.with(vip).find_map(|address| {
            let prefix_len = address.prefix_len;
            let (nic, fault) = match self.observed.link_names.get(&address.ifindex) {
                Some(nic) => {
                    let how = if vip.is_ipv4() { "ARP" } else { "neighbour discovery" };
                    let fault = format!("it is on {nic}, where this host answers {how} for it (is it the director?)");
                    (nic.as_str(), fault)
                }
                None if address.ifindex == self.observed.lo_ifindex && prefix_len != max_prefix_len(vip) => {
                    let fault =
                        format!("it is on lo as /{prefix_len}, which leads this whole subnet to the host itself");
                    ("lo", fault)
                }
                None => return None,
            };
            let fix = Fix::ManualCommand(format!("ip addr del {vip}/{prefix_len} dev {nic}"));
            Some((fault, fix))
        });
        if let Some((fault, fix)) = at_fault {
            return Finding::not(Verdict::Fail, rule, fault, fix);
        }
        match self.subnets.iter().find(|(_, broadcast)| vip == *broadcast) {
            Some((
                InterfaceAddress {
                    address,
                    prefix_len,
                    ifindex,
                    ..
                },
                _,
            )) => {
                let nic = &self.observed.link_names[ifindex];
                let seen = format!("it is the broadcast address of {address}/{prefix_len} on {nic}");
                Finding::not(
                    Verdict::Fail,
                    rule,
                    seen,
                    Fix::ManualCommand("choose another VIP".into()),
                )
            }
            None => Finding::ok(rule, "on none"),
        }
    }

    fn vip_on_lo(&self, vip: IpAddr) -> Finding {
        let bits = max_prefix_len(vip);
        let rule = format!("{vip}/{bits} on lo");
        let present =
            |address: &InterfaceAddress| address.ifindex == self.observed.lo_ifindex && address.prefix_len == bits;
        if self.with(vip).any(present) {
            Finding::ok(rule, "present")
        } else if vip.is_ipv6() && !self.observed.lo_ipv6_enabled {
            let fix = Fix::ManualCommand("sysctl -w net.ipv6.conf.lo.disable_ipv6=0".into());
            Finding::not(Verdict::Fail, rule, "missing, and IPv6 is switched off on lo", fix)
        } else {
            Finding::not(Verdict::Fail, rule, "missing", Fix::Vip(vip))
        }
    }

    /// The route LVS scripts add. Nothing is like it for IPv6, where the kernel's own route to the address is all there is.
    fn host_route(&self, vip: IpAddr) -> Option<Finding> {
        let IpAddr::V4(address) = vip else { return None };
        let rule = format!("route to {vip}/32 by lo");
        if self.routes.contains(&vip) {
            return Some(Finding::ok(rule, "present"));
        }
        // The kernel takes no route by a link that is down.
        let fix = if self.observed.lo_up {
            Fix::Route(address)
        } else {
            lo_up()
        };
        Some(Finding::not(Verdict::Fail, rule, "missing", fix))
    }
}

/// The broadcast address of a NIC's subnet, if that has one.
fn broadcast(nic: &InterfaceAddress) -> Option<Ipv4Addr> {
    let IpAddr::V4(address) = nic.address else { return None };
    let host_bits = u32::MAX.checked_shr(nic.prefix_len.into()).unwrap_or_default();
    (nic.prefix_len < 31).then(|| Ipv4Addr::from_bits(address.to_bits() | host_bits))
}
