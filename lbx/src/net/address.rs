//! IPv4 addresses of NICs, and VIPs marked as ours.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage, AddressScope},
};

use super::{Net, NetError, is_errno};

/// The origin that the addresses we add carry (IFA_PROTO, Linux 5.18), so that a later lbx knows them from addresses of
/// other tools. The kernel uses 1 to 3; the rest is free. "L" in ASCII.
pub const ADDRESS_PROTOCOL: u8 = 0x4c;

/// An IPv4 address of a NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The NIC.
    pub ifindex: u32,
    /// The address itself.
    pub address: IpAddr,
    /// Length of its prefix in bits.
    pub prefix_len: u8,
    /// Whether an lbx added it.
    pub ours: bool,
}

/// What became of adding a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It was added.
    New,
    /// An lbx had added it before.
    AlreadyOurs,
    /// Somebody else had added it: it is left to them.
    AlreadyTheirs,
}

impl Address {
    /// Reads an address message; `None` if it is not about an IPv4 address.
    pub(super) fn from_message(message: &AddressMessage) -> Option<Self> {
        if message.header.family != AddressFamily::Inet {
            return None;
        }
        let mut local = None;
        let mut ours = false;
        for attribute in &message.attributes {
            match attribute {
                // On a point-to-point link IFA_ADDRESS is the other end; IFA_LOCAL is always this one.
                AddressAttribute::Local(address) => local = Some(*address),
                AddressAttribute::Protocol(protocol) => ours = u8::from(*protocol) == ADDRESS_PROTOCOL,
                _ => {}
            }
        }
        Some(Self {
            ifindex: message.header.index,
            address: local?,
            prefix_len: message.header.prefix_len,
            ours,
        })
    }
}

impl Net {
    /// All IPv4 addresses of this network namespace.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub async fn addresses(&self) -> Result<Vec<Address>, NetError> {
        let mut request = AddressMessage::default();
        request.header.family = AddressFamily::Inet;
        let messages = self
            .dump(RouteNetlinkMessage::GetAddress(request))
            .await
            .map_err(NetError::refused("list the addresses"))?;
        Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewAddress(message) => Address::from_message(&message),
                _ => None,
            })
            .collect())
    }

    /// Puts a VIP on a NIC as /32 with our mark, unless the NIC has it already, with whatever prefix.
    ///
    /// # Errors
    /// The kernel refuses: the NIC is gone, or CAP_NET_ADMIN is missing.
    pub async fn add_vip(&self, ifindex: u32, vip: IpAddr) -> Result<Added, NetError> {
        if let Some(present) = self.find(ifindex, vip).await? {
            return Ok(if present.ours {
                Added::AlreadyOurs
            } else {
                Added::AlreadyTheirs
            });
        }
        let message = RouteNetlinkMessage::NewAddress(vip_message(ifindex, vip));
        match self.change(message, NLM_F_CREATE | NLM_F_EXCL).await {
            Ok(()) => Ok(Added::New),
            Err(error) if is_errno(&error, libc::EEXIST) => Ok(Added::AlreadyTheirs),
            Err(error) => Err(NetError::refused(format!(
                "add {vip}/32 to the interface with index {ifindex}"
            ))(error)),
        }
    }

    /// Takes a VIP with our mark off a NIC; says whether there was one.
    ///
    /// # Errors
    /// The kernel refuses: CAP_NET_ADMIN is missing.
    pub async fn remove_vip(&self, ifindex: u32, vip: IpAddr) -> Result<bool, NetError> {
        let ours = |present: Address| present.ours && present.prefix_len == 32;
        if !self.find(ifindex, vip).await?.is_some_and(ours) {
            return Ok(false);
        }
        let message = RouteNetlinkMessage::DelAddress(vip_message(ifindex, vip));
        match self.change(message, 0).await {
            Ok(()) => Ok(true),
            Err(error) if is_errno(&error, libc::EADDRNOTAVAIL) || is_errno(&error, libc::ENODEV) => Ok(false),
            Err(error) => Err(NetError::refused(format!(
                "remove {vip}/32 from the interface with index {ifindex}"
            ))(error)),
        }
    }

    async fn find(&self, ifindex: u32, address: IpAddr) -> Result<Option<Address>, NetError> {
        let addresses = self.addresses().await?;
        Ok(addresses
            .into_iter()
            .filter(|present| present.ifindex == ifindex && present.address == address)
            // One with our mark says more than another prefix of the same address.
            .max_by_key(|present| present.ours))
    }
}

fn vip_message(ifindex: u32, vip: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.index = ifindex;
    message.header.prefix_len = 32;
    message.header.scope = AddressScope::Universe;
    message.attributes = vec![
        AddressAttribute::Local(vip),
        AddressAttribute::Address(vip),
        AddressAttribute::Protocol(ADDRESS_PROTOCOL.into()),
    ];
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_own_vip() {
        let vip = IpAddr::from([192, 168, 1, 160]);
        let read = Address::from_message(&vip_message(3, vip));
        let expected = Address {
            ifindex: 3,
            address: vip,
            prefix_len: 32,
            ours: true,
        };
        assert_eq!(read, Some(expected));
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
        let read = Address::from_message(&message);
        assert_eq!(
            read.map(|a| (a.address, a.ours)),
            Some((IpAddr::from([10, 0, 0, 1]), false))
        );
    }
}
