//! Addresses of NICs, and VIPs marked as ours.

use std::net::IpAddr;

use futures_util::{StreamExt, stream};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope, CacheInfo},
};

use super::{MAX_IN_FLIGHT, NetError, RouteNetlink, family, is_errno, is_ip, max_prefix_len};
use crate::kernel;

/// The origin that the addresses we add carry (IFA_PROTO, Linux 5.18), so that a later lbx knows them from addresses of
/// other tools. The kernel uses 1 to 3; the rest is free. "L" in ASCII.
pub const LBX_ADDRESS_PROTO: u8 = 0x4c;

/// A lifetime without end (INFINITY_LIFE_TIME, include/uapi/linux/if_addr.h has it as all ones).
const FOREVER: u32 = u32::MAX;

/// An address of a NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The NIC.
    pub ifindex: u32,
    /// The address itself.
    pub address: IpAddr,
    /// Length of its prefix in bits.
    pub prefix_len: u8,
    /// Whether an lbx added it.
    pub added_by_lbx: bool,
}

/// The outcome of adding a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddVipOutcome {
    /// It was added.
    Added,
    /// An lbx had added it before.
    PresentFromLbx,
    /// It was there, added by another program: lbx leaves it alone.
    PresentFromOther,
}

impl InterfaceAddress {
    /// Reads an address message; `None` if it is not about an IP address.
    pub(super) fn from_message(message: &AddressMessage) -> Option<Self> {
        if !is_ip(message.header.family) {
            return None;
        }
        let (mut local, mut other, mut ours) = (None, None, false);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(address) => local = Some(*address),
                AddressAttribute::Address(address) => other = Some(*address),
                AddressAttribute::Protocol(protocol) => ours = u8::from(*protocol) == LBX_ADDRESS_PROTO,
                _ => {}
            }
        }
        Some(Self {
            ifindex: message.header.index,
            // On a point-to-point link IFA_ADDRESS is the other end. IPv6 has IFA_LOCAL there alone.
            address: local.or(other)?,
            prefix_len: message.header.prefix_len,
            added_by_lbx: ours,
        })
    }

    /// Whether it is a VIP that an lbx added.
    #[must_use]
    pub fn is_our_vip(&self) -> bool {
        self.added_by_lbx && self.prefix_len == max_prefix_len(self.address)
    }
}

impl RouteNetlink {
    /// All addresses of this network namespace.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub async fn addresses(&self) -> Result<Vec<InterfaceAddress>, NetError> {
        let messages = self
            .dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))
            .await
            .map_err(NetError::refused("list the addresses"))?;
        Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewAddress(message) => InterfaceAddress::from_message(&message),
                _ => None,
            })
            .collect())
    }

    /// Puts VIPs on a NIC as /32 or /128 with our mark, unless the NIC has them already, with whatever prefix.
    /// `present` is what [`RouteNetlink::addresses`] has just returned. Each has its own result, in the order given.
    ///
    /// An IPv6 VIP is there at once, without duplicate address detection: real servers have it too, and their answers would make detection fail. It is deprecated from the start (RFC 4862 section 5.5.4), or it could become the source address
    /// of what this host sends by itself.
    ///
    /// # Errors
    /// Of each: the kernel refuses it: the NIC is gone, IPv6 is off there, or CAP_NET_ADMIN is missing.
    pub async fn add_vips(
        &self,
        ifindex: u32,
        vips: impl IntoIterator<Item = IpAddr>,
        present: &[InterfaceAddress],
    ) -> Vec<(IpAddr, Result<AddVipOutcome, NetError>)> {
        let here = by_address(ifindex, present);
        let adding = vips.into_iter().map(|vip| {
            let ours = here.get(&vip).copied();
            async move {
                let added = match ours {
                    Some(true) => Ok(AddVipOutcome::PresentFromLbx),
                    Some(false) => Ok(AddVipOutcome::PresentFromOther),
                    None => self.add_vip(ifindex, vip).await,
                };
                (vip, added)
            }
        });
        stream::iter(adding).buffered(MAX_IN_FLIGHT).collect().await
    }

    async fn add_vip(&self, ifindex: u32, vip: IpAddr) -> Result<AddVipOutcome, NetError> {
        let message = RouteNetlinkMessage::NewAddress(vip_message(ifindex, vip));
        match self.change(message, NLM_F_CREATE | NLM_F_EXCL).await {
            Ok(()) => Ok(AddVipOutcome::Added),
            Err(error) if is_errno(&error, libc::EEXIST) => Ok(AddVipOutcome::PresentFromOther),
            Err(error) => {
                let mut action = format!(
                    "add {vip}/{} to the interface with index {ifindex}",
                    max_prefix_len(vip)
                );
                // inet6_rtm_newaddr, net/ipv6/addrconf.c.
                if vip.is_ipv6() && is_errno(&error, libc::EACCES) {
                    action += ", where IPv6 is disabled (enable it: sysctl net.ipv6.conf.NIC.disable_ipv6=0)";
                }
                Err(NetError::refused(action)(error))
            }
        }
    }

    /// Removes VIPs with our mark from their NICs; others stay. Each has its own result, in the order given:
    /// whether it was still there.
    ///
    /// # Errors
    /// Of each: the kernel refuses: CAP_NET_ADMIN is missing.
    pub async fn remove_vips(
        &self,
        vips: impl IntoIterator<Item = &InterfaceAddress>,
    ) -> Vec<(InterfaceAddress, Result<bool, NetError>)> {
        let ours = vips.into_iter().copied().filter(InterfaceAddress::is_our_vip);
        let removing = ours.map(|vip| async move { (vip, self.remove_vip(vip).await) });
        stream::iter(removing).buffered(MAX_IN_FLIGHT).collect().await
    }

    async fn remove_vip(&self, vip: InterfaceAddress) -> Result<bool, NetError> {
        let InterfaceAddress { ifindex, address, .. } = vip;
        let message = RouteNetlinkMessage::DelAddress(vip_message(ifindex, address));
        match self.change(message, 0).await {
            Ok(()) => Ok(true),
            Err(error) if is_errno(&error, libc::EADDRNOTAVAIL) || is_errno(&error, libc::ENODEV) => Ok(false),
            Err(error) => Err(NetError::refused(format!(
                "remove {address}/{} from the interface with index {ifindex}",
                max_prefix_len(address)
            ))(error)),
        }
    }
}

/// The addresses a NIC has, and whether they are ours.
fn by_address(ifindex: u32, present: &[InterfaceAddress]) -> std::collections::HashMap<IpAddr, bool> {
    let mut here = std::collections::HashMap::new();
    for address in present.iter().filter(|present| present.ifindex == ifindex) {
        // An address with our mark takes precedence over another prefix of the same address.
        *here.entry(address.address).or_default() |= address.added_by_lbx;
    }
    here
}

fn vip_message(ifindex: u32, vip: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(vip);
    message.header.index = ifindex;
    message.header.prefix_len = max_prefix_len(vip);
    message.header.scope = AddressScope::Universe;
    message.attributes = vec![AddressAttribute::Local(vip), AddressAttribute::Address(vip)];
    if kernel::has_address_origins() {
        message
            .attributes
            .push(AddressAttribute::Protocol(LBX_ADDRESS_PROTO.into()));
    }
    if vip.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_preferred = 0;
        lifetime.ifa_valid = FOREVER;
        message.attributes.push(AddressAttribute::CacheInfo(lifetime));
    }
    message
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use netlink_packet_route::AddressFamily;

    use super::*;

    const VIP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x160));

    #[test]
    fn recognises_a_vip_added_by_lbx() {
        for (vip, prefix_len) in [(Ipv4Addr::new(192, 168, 1, 160).into(), 32), (VIP6, 128)] {
            let read = InterfaceAddress::from_message(&vip_message(3, vip)).expect("an IP address");
            let expected = InterfaceAddress {
                ifindex: 3,
                address: vip,
                prefix_len,
                added_by_lbx: true,
            };
            assert_eq!(read, expected);
            assert!(read.is_our_vip());
        }
    }

    #[test]
    fn a_wider_prefix_is_no_vip_of_ours() {
        let address = InterfaceAddress {
            ifindex: 3,
            address: VIP6,
            prefix_len: 64,
            added_by_lbx: true,
        };
        assert!(!address.is_our_vip());
    }

    #[test]
    fn takes_the_local_end_of_a_point_to_point_link() {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = 32;
        message.attributes = vec![
            AddressAttribute::Address(IpAddr::from([10, 0, 0, 2])),
            AddressAttribute::Local(IpAddr::from([10, 0, 0, 1])),
        ];
        let read = InterfaceAddress::from_message(&message);
        assert_eq!(
            read.map(|a| (a.address, a.added_by_lbx)),
            Some((IpAddr::from([10, 0, 0, 1]), false))
        );
    }

    #[test]
    fn an_ipv6_address_has_no_local_attribute() {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet6;
        message.attributes = vec![AddressAttribute::Address(VIP6)];
        assert_eq!(InterfaceAddress::from_message(&message).map(|a| a.address), Some(VIP6));
        message.header.family = AddressFamily::Unspec;
        assert_eq!(InterfaceAddress::from_message(&message), None);
    }

    #[test]
    fn our_mark_takes_precedence_over_another_prefix() {
        let address = |prefix_len, ours| InterfaceAddress {
            ifindex: 3,
            address: VIP6,
            prefix_len,
            added_by_lbx: ours,
        };
        let present = [address(64, false), address(128, true)];
        assert_eq!(by_address(3, &present).get(&VIP6), Some(&true));
        assert_eq!(by_address(3, &present[..1]).get(&VIP6), Some(&false));
        assert_eq!(by_address(4, &present).get(&VIP6), None);
    }
}
