//! Sends ARP and neighbour discovery on a NIC: solicitations and announcements, in either family.

use std::{io, mem, net::IpAddr, os::fd::AsRawFd, os::fd::OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::{NetError, arp, ndp};

/// A packet socket that sends on one NIC and receives nothing.
#[derive(Debug)]
pub struct SegmentSocket {
    fd: OwnedFd,
    to: libc::sockaddr_ll,
}

impl SegmentSocket {
    /// Opens a socket for one NIC. On a VLAN device the kernel adds the tags.
    ///
    /// # Errors
    /// CAP_NET_RAW is missing.
    pub fn open(ifindex: u32) -> Result<Self, NetError> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // Protocol 0 receives nothing (packet(7)), so that no frame is ever queued here.
        let fd = socket(AddressFamily::Packet, SockType::Raw, flags, None).map_err(|errno| NetError::Socket {
            kind: "packet",
            source: errno.into(),
        })?;
        // SAFETY: sockaddr_ll is plain data for which all zeroes is a valid value.
        let mut to: libc::sockaddr_ll = unsafe { mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = ifindex.cast_signed();
        Ok(Self { fd, to })
    }

    /// Solicits the MAC address of `target` from an address of this host: of the host with the MAC address `known` alone, or of
    /// the whole segment.
    ///
    /// # Errors
    /// The NIC is gone or down, or its queue is full.
    pub fn solicit(
        &self,
        mac: [u8; 6],
        source: IpAddr,
        target: IpAddr,
        known: Option<[u8; 6]>,
    ) -> Result<(), NetError> {
        match (source, target) {
            (IpAddr::V4(source), IpAddr::V4(target)) => self.send(&match known {
                Some(known) => arp::unicast_request(mac, source, known, target),
                None => arp::request(mac, source, target),
            }),
            (IpAddr::V6(source), IpAddr::V6(target)) if !source.is_unspecified() => self.send(&match known {
                Some(known) => ndp::unicast_solicitation(mac, source, known, target),
                None => ndp::solicitation(mac, source, target),
            }),
            // The kernel gives no source of the other family; a solicitation from `::` would be one of duplicate address
            // detection (RFC 4861 section 4.3).
            _ => Ok(()),
        }
    }

    /// Announces on the segment that an address is at a MAC address.
    ///
    /// # Errors
    /// The NIC is gone or down, or its queue is full.
    pub fn announce(&self, mac: [u8; 6], address: IpAddr) -> Result<(), NetError> {
        match address {
            IpAddr::V4(address) => self.send(&arp::announcement(mac, address)),
            IpAddr::V6(address) => self.send(&ndp::unsolicited_advertisement(mac, address)),
        }
    }

    /// Sends a frame as it is.
    fn send(&self, frame: &[u8]) -> Result<(), NetError> {
        // The kernel takes the protocol for taps from here, the wire from the frame itself: they are the same.
        let mut to = self.to;
        to.sll_protocol = match frame {
            [_, _, _, _, _, _, _, _, _, _, _, _, high, low, ..] => u16::from_ne_bytes([*high, *low]),
            _ => 0,
        };
        // SAFETY: frame and address are borrowed for the call and their true lengths are given.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                mem::size_of_val(&to) as libc::socklen_t,
            )
        };
        if sent < 0 {
            let action = format!("send on the interface with index {}", self.to.sll_ifindex);
            return Err(NetError::refused(action)(io::Error::last_os_error()));
        }
        Ok(())
    }
}
