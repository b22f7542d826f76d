//! The packet sockets of the segments: ARP and neighbour discovery are sent and received by them.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
};

use super::{neighbours::Solicitation, topology::Topology};
use crate::net::{AddressBinding, BindingListener, NetError, ResolutionProtocol, SegmentSocket};

/// Sockets by device, opened when they are needed first.
#[derive(Debug, Default)]
pub struct SegmentSockets {
    senders: BTreeMap<u32, SegmentSocket>,
    listeners: BTreeMap<(u32, ResolutionProtocol), BindingListener>,
}

impl SegmentSockets {
    /// Closes the sockets of devices that take part in none of these topologies.
    pub fn retain(&mut self, topologies: &[&Topology]) {
        let in_use = |ifindex: u32| topologies.iter().any(|topology| topology.device(ifindex).is_some());
        self.senders.retain(|ifindex, _| in_use(*ifindex));
        self.listeners.retain(|(ifindex, _), _| in_use(*ifindex));
    }

    /// Receives on a device from now on what is stated about addresses of the family of `address`.
    ///
    /// # Errors
    /// A socket cannot be opened.
    pub fn listen(&mut self, ifindex: u32, address: IpAddr) -> Result<(), NetError> {
        if let Entry::Vacant(vacant) = self.listeners.entry((ifindex, ResolutionProtocol::of(address))) {
            let (ifindex, protocol) = *vacant.key();
            vacant.insert(BindingListener::open(ifindex, protocol)?);
        }
        Ok(())
    }

    /// What hosts have stated since the last call, with the device it came by; in order for each device and family.
    #[must_use]
    pub fn read(&self) -> Vec<(u32, AddressBinding)> {
        let read = |(&(ifindex, _), listener): (&(u32, ResolutionProtocol), &BindingListener)| {
            listener.read().into_iter().map(move |binding| (ifindex, binding))
        };
        self.listeners.iter().flat_map(read).collect()
    }

    /// Sends a solicitation, from a device's MAC address.
    ///
    /// # Errors
    /// The NIC cannot send, or a socket cannot be opened.
    pub fn solicit(&mut self, mac: [u8; 6], solicitation: &Solicitation) -> Result<(), NetError> {
        let Solicitation {
            ifindex,
            source,
            target,
            target_mac: known,
        } = *solicitation;
        self.listen(ifindex, target)?;
        self.sender(ifindex)?.solicit(mac, source, target, known)
    }

    /// Announces a VIP on a device, so that switches and clients learn where it is.
    ///
    /// # Errors
    /// The NIC cannot send, or a socket cannot be opened.
    pub fn announce(&mut self, ifindex: u32, mac: [u8; 6], vip: IpAddr) -> Result<(), NetError> {
        self.sender(ifindex)?.announce(mac, vip)
    }

    fn sender(&mut self, ifindex: u32) -> Result<&SegmentSocket, NetError> {
        match self.senders.entry(ifindex) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => Ok(entry.insert(SegmentSocket::open(ifindex)?)),
        }
    }
}
