//! The kernel's neighbour table: ARP and neighbour discovery.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{
    RouteNetlinkMessage,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
    route::RouteProtocol,
};

use super::{NetError, RouteNetlink, family, is_errno, is_ip};

/// The origin that entries we add carry (NDA_PROTOCOL), so that a later lbx knows them. "L" in ASCII.
const LBX_NEIGHBOUR_PROTO: u8 = 0x4c;

/// Who keeps an entry of the neighbour table true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// The kernel: it resolves the entry when it has a packet for it.
    Kernel,
    /// An lbx: the entry is marked as ours.
    Lbx,
    /// The operator or another program: it is permanent, externally learned or managed.
    Other,
}

/// An entry of the neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The NIC it is behind.
    pub ifindex: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its MAC, if the kernel would send to it now: not while it is being resolved, nor after that has failed.
    pub mac: Option<[u8; 6]>,
    /// Who keeps it.
    pub keeper: Keeper,
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
            keeper: keeper(message),
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

    /// Has the kernel send to an address by this MAC address, unless somebody else keeps the entry. The entry is marked as ours
    /// and does not count towards `gc_thresh3`, nor is it ever collected: it is «externally learned» (neigh_alloc and
    /// neigh_update_gc_list in net/core/neighbour.c, since Linux 5.0).
    ///
    /// # Errors
    /// The kernel refuses: the NIC is gone or down, or CAP_NET_ADMIN is missing.
    pub async fn set_neighbour(&self, ifindex: u32, address: IpAddr, mac: [u8; 6]) -> Result<(), NetError> {
        let refused = NetError::refused(format!(
            "set the neighbour {address} on the interface with index {ifindex}"
        ));
        let mut message = message_for(ifindex, address);
        match self.get(RouteNetlinkMessage::GetNeighbour(message.clone())).await {
            Ok(Some(RouteNetlinkMessage::NewNeighbour(present))) if keeper(&present) == Keeper::Other => return Ok(()),
            Err(error) if !is_errno(&error, libc::ENOENT) => return Err(refused(error)),
            _ => {}
        }
        message.header.flags = NeighbourFlags::ExtLearned;
        message.header.state = NeighbourState::Reachable;
        let protocol = RouteProtocol::Other(LBX_NEIGHBOUR_PROTO);
        message
            .attributes
            .push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        message.attributes.push(NeighbourAttribute::Protocol(protocol));
        self.change(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
            .await
            .map_err(refused)
    }

    /// Removes an entry that is marked as ours; it may be gone already.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn remove_neighbour(&self, ifindex: u32, address: IpAddr) -> Result<(), NetError> {
        let message = message_for(ifindex, address);
        match self.get(RouteNetlinkMessage::GetNeighbour(message.clone())).await {
            Ok(Some(RouteNetlinkMessage::NewNeighbour(present))) if keeper(&present) == Keeper::Lbx => {}
            // It is gone, and its NIC perhaps too, or somebody else's by now.
            _ => return Ok(()),
        }
        match self.change(RouteNetlinkMessage::DelNeighbour(message), 0).await {
            Err(error) if !is_errno(&error, libc::ENOENT) => {
                let action = format!("remove the neighbour {address} from the interface with index {ifindex}");
                Err(NetError::refused(action)(error))
            }
            _ => Ok(()),
        }
    }
}

/// A message about an address on a NIC.
fn message_for(ifindex: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = ifindex;
    let destination = match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    };
    message.attributes.push(NeighbourAttribute::Destination(destination));
    message
}

/// Who keeps an entry. A permanent one is the operator's, whatever mark it has: `ip neighbour replace` leaves the origin.
fn keeper(entry: &NeighbourMessage) -> Keeper {
    let managed = |attribute: &NeighbourAttribute| match attribute {
        NeighbourAttribute::ExtFlags(flags) => flags.contains(NeighbourExtFlags::Managed),
        _ => false,
    };
    let is_ours = |attribute: &NeighbourAttribute| match attribute {
        NeighbourAttribute::Protocol(protocol) => u8::from(*protocol) == LBX_NEIGHBOUR_PROTO,
        _ => false,
    };
    let learned = entry.header.flags.contains(NeighbourFlags::ExtLearned);
    if matches!(entry.header.state, NeighbourState::Permanent | NeighbourState::Noarp)
        || entry.attributes.iter().any(managed)
    {
        Keeper::Other
    } else if !learned {
        Keeper::Kernel
    } else if entry.attributes.iter().any(is_ours) {
        Keeper::Lbx
    } else {
        Keeper::Other
    }
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
            keeper: Keeper::Kernel,
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
    fn entries_have_their_keepers() {
        assert_eq!(keeper(&entry(NeighbourState::Stale)), Keeper::Kernel);
        assert_eq!(keeper(&entry(NeighbourState::Failed)), Keeper::Kernel);
        assert_eq!(keeper(&entry(NeighbourState::Permanent)), Keeper::Other);
        let mut managed = entry(NeighbourState::Reachable);
        managed
            .attributes
            .push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        assert_eq!(keeper(&managed), Keeper::Other);
        let mut learned = entry(NeighbourState::Reachable);
        learned.header.flags = NeighbourFlags::ExtLearned;
        assert_eq!(keeper(&learned), Keeper::Other);
        let protocol = RouteProtocol::Other(LBX_NEIGHBOUR_PROTO);
        learned.attributes.push(NeighbourAttribute::Protocol(protocol));
        assert_eq!(keeper(&learned), Keeper::Lbx);
        learned.header.state = NeighbourState::Permanent;
        assert_eq!(keeper(&learned), Keeper::Other, "replaced by hand");
    }
}
