//! Listens to ARP on a NIC, to detect other hosts that use an address.

use std::{
    io, mem,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use super::NetError;

/// Frames read at a time: a storm must not hold the daemon up.
const MAX_IN_FLIGHT: usize = 1_024;
const ARP: u16 = libc::ETH_P_ARP as u16;

/// A host's statement that an address is at a MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArpBinding {
    /// The address.
    pub address: IpAddr,
    /// The MAC address stated.
    pub mac: [u8; 6],
}

/// A packet socket that receives the ARP of one NIC.
#[derive(Debug)]
pub struct ArpListener(OwnedFd);

impl ArpListener {
    /// Opens the socket.
    ///
    /// # Errors
    /// CAP_NET_RAW is missing, or the NIC is gone.
    pub fn open(ifindex: u32) -> Result<Self, NetError> {
        let failed = || NetError::Socket {
            kind: "packet",
            source: io::Error::last_os_error(),
        };
        let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // Without a protocol until it is bound, so that it receives nothing from other NICs.
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::socket(libc::AF_PACKET, flags, 0) };
        if fd < 0 {
            return Err(failed());
        }
        // SAFETY: just opened, not owned by anything else.
        let socket = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        // SAFETY: sockaddr_ll is plain data for which all zeroes is a valid value.
        let mut here: libc::sockaddr_ll = unsafe { mem::zeroed() };
        here.sll_family = libc::AF_PACKET as u16;
        here.sll_protocol = ARP.to_be();
        here.sll_ifindex = ifindex.cast_signed();
        let length = mem::size_of_val(&here) as libc::socklen_t;
        // SAFETY: the address is borrowed for the call and its true length given.
        if unsafe { libc::bind(fd, (&raw const here).cast(), length) } < 0 {
            return Err(failed());
        }
        Ok(socket)
    }

    /// The bindings received since the last call.
    pub fn read(&self) -> Vec<ArpBinding> {
        let mut frame = [0u8; super::arp::FRAME_LEN];
        let mut bindings = Vec::new();
        for _ in 0..MAX_IN_FLIGHT {
            // SAFETY: the buffer is borrowed for the call and its true length given.
            let length = unsafe { libc::recv(self.0.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
            match usize::try_from(length) {
                Ok(length) => bindings.extend(binding(&frame[..length])),
                Err(_) => break,
            }
        }
        bindings
    }
}

/// The sender's own binding in an ARP frame for IPv4 over Ethernet, request or reply (RFC 826); nothing
/// where it has no address yet (RFC 5227 section 2.1.1).
fn binding(frame: &[u8]) -> Option<ArpBinding> {
    const HEADER: [u8; 8] = [0x08, 0x06, 0x00, 0x01, 0x08, 0x00, 6, 4];
    if frame.len() < super::arp::FRAME_LEN || frame[12..20] != HEADER {
        return None;
    }
    let mac = frame[22..28].try_into().ok()?;
    let address: [u8; 4] = frame[28..32].try_into().ok()?;
    let address = Ipv4Addr::from(address);
    (!address.is_unspecified()).then_some(ArpBinding {
        address: address.into(),
        mac,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::arp;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    #[test]
    fn requests_and_announcements_bind_the_senders_address() {
        let [own, other] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
        let said = Some(ArpBinding {
            address: own.into(),
            mac: MAC,
        });
        assert_eq!(binding(&arp::request(MAC, own, other)), said);
        assert_eq!(binding(&arp::announcement(MAC, own)), said);
        assert_eq!(binding(&arp::request(MAC, Ipv4Addr::UNSPECIFIED, other)), None);
    }

    #[test]
    fn other_frames_bind_nothing() {
        let mut frame = arp::announcement(MAC, Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(binding(&frame[..41]), None);
        frame[13] = 0;
        assert_eq!(binding(&frame), None);
    }
}
