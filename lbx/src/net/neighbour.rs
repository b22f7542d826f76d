//! The kernel's neighbour table: ARP and neighbour discovery.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{
    RouteNetlinkMessage,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
};

use super::{NetError, RouteNetlink, family, is_errno, is_ip};

/// An entry of the neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The NIC it is behind.
    pub ifindex: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its MAC, if the kernel would send to it now: not while it is being resolved, nor after that has failed.
    pub mac: Option<[u8; 6]>,
}

impl Neighbour {
    /// Reads a neighbour message; `None` if it is not about IP (bridges put their MAC table into the same group).
    pub(super) fn from_message(message: &NeighbourMessage) -> Option<Self> {
        let header = &message.header;
        if !is_ip(header.family) || header.flags.contains(NeighbourFlags::Proxy) {
            return None;
        }
        let mut address = None;
        let mut mac = None;
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(destination) => address = ip_address(destination),
                NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
                _ => {}
            }
        }
        Some(Self {
            ifindex: header.ifindex,
            address: address?,
            mac: mac.filter(|_| is_usable(header.state)),
        })
    }
}

fn ip_address(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(address) => Some((*address).into()),
        NeighbourAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// The kernel's NUD_VALID (include/net/neighbour.h): the states in which it sends to the address it has.
fn is_usable(state: NeighbourState) -> bool {
    use NeighbourState::{Delay, Noarp, Permanent, Probe, Reachable, Stale};
    matches!(state, Reachable | Stale | Delay | Probe | Permanent | Noarp)
}

impl RouteNetlink {
    /// The whole neighbour table.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub async fn neighbours(&self) -> Result<Vec<Neighbour>, NetError> {
        let messages = self
            .dump(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()))
            .await
            .map_err(NetError::refused("list the neighbours"))?;
        Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewNeighbour(message) => Neighbour::from_message(&message),
                _ => None,
            })
            .collect())
    }

    /// Makes the kernel resolve an address as if it had a packet for it: an unknown one is solicited, a stale one
    /// probed. A known MAC stays meanwhile.
    ///
    /// # Errors
    /// The kernel refuses: the NIC is gone or down, or CAP_NET_ADMIN is missing.
    pub async fn solicit(&self, ifindex: u32, address: IpAddr) -> Result<(), NetError> {
        let refused = || NetError::refused(format!("resolve {address} on the interface with index {ifindex}"));
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = ifindex;
        let destination = match address {
            IpAddr::V4(address) => NeighbourAddress::Inet(address),
            IpAddr::V6(address) => NeighbourAddress::Inet6(address),
        };
        message.attributes.push(NeighbourAttribute::Destination(destination));

        match self.get(RouteNetlinkMessage::GetNeighbour(message.clone())).await {
            Ok(Some(RouteNetlinkMessage::NewNeighbour(present))) if !is_for_the_kernel(&present) => return Ok(()),
            Err(error) if !is_errno(&error, libc::ENOENT) => return Err(refused()(error)),
            _ => {}
        }
        message.header.flags = NeighbourFlags::Use;
        self.change(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
            .await
            .map_err(refused())
    }
}

/// Whether the kernel resolves this entry on demand. NTF_USE would turn a permanent entry into one without a
/// MAC, and would take the mark off a managed or externally learned one (__neigh_update and neigh_update_flags in
/// net/core/neighbour.c, since Linux 5.16); those who made them keep them fresh.
fn is_for_the_kernel(entry: &NeighbourMessage) -> bool {
    let managed = |attribute: &NeighbourAttribute| match attribute {
        NeighbourAttribute::ExtFlags(flags) => flags.contains(NeighbourExtFlags::Managed),
        _ => false,
    };
    !matches!(entry.header.state, NeighbourState::Permanent | NeighbourState::Noarp)
        && !entry.header.flags.contains(NeighbourFlags::ExtLearned)
        && !entry.attributes.iter().any(managed)
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::AddressFamily;

    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn entry(state: NeighbourState) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = 4;
        message.header.state = state;
        message.attributes = vec![
            NeighbourAttribute::Destination(NeighbourAddress::Inet(std::net::Ipv4Addr::new(10, 0, 0, 2))),
            NeighbourAttribute::LinkLayerAddress(MAC.to_vec()),
        ];
        message
    }

    #[test]
    fn a_mac_counts_only_where_the_kernel_would_send_to_it() {
        use NeighbourState::{Delay, Failed, Incomplete, None as Unset, Permanent, Probe, Reachable, Stale};
        for state in [Reachable, Stale, Delay, Probe, Permanent] {
            let read = Neighbour::from_message(&entry(state));
            assert_eq!(read.map(|neighbour| neighbour.mac), Some(Some(MAC)), "{state}");
        }
        for state in [Unset, Incomplete, Failed] {
            let read = Neighbour::from_message(&entry(state));
            assert_eq!(read.map(|neighbour| neighbour.mac), Some(None), "{state}");
        }
    }

    #[test]
    fn reads_both_families() {
        let address = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
        let mut message = entry(NeighbourState::Reachable);
        message.header.family = AddressFamily::Inet6;
        message.attributes[0] = NeighbourAttribute::Destination(NeighbourAddress::Inet6(address));
        let expected = Neighbour {
            ifindex: 4,
            address: address.into(),
            mac: Some(MAC),
        };
        assert_eq!(Neighbour::from_message(&message), Some(expected));
    }

    #[test]
    fn a_bridge_entry_is_no_neighbour() {
        let mut message = entry(NeighbourState::Reachable);
        message.header.family = AddressFamily::Bridge;
        assert_eq!(Neighbour::from_message(&message), None);
    }

    #[test]
    fn entries_of_others_are_left_alone() {
        assert!(is_for_the_kernel(&entry(NeighbourState::Stale)));
        assert!(is_for_the_kernel(&entry(NeighbourState::Failed)));
        assert!(!is_for_the_kernel(&entry(NeighbourState::Permanent)));
        let mut managed = entry(NeighbourState::Reachable);
        managed
            .attributes
            .push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        assert!(!is_for_the_kernel(&managed));
    }
}
