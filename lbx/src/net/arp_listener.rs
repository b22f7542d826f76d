//! Who else says that it has an address: ARP as it is heard on a segment.

use std::{
    io, mem,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use super::NetError;

/// Frames taken in at a time: a storm must not hold the daemon up.
const MAX_IN_FLIGHT: usize = 1_024;
const ARP: u16 = libc::ETH_P_ARP as u16;

/// Somebody says that an address is at a MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArpBinding {
    /// The address.
    pub address: IpAddr,
    /// Where it is said to be.
    pub mac: [u8; 6],
}

/// A packet socket that hears the ARP of one NIC.
#[derive(Debug)]
pub struct ArpListener(OwnedFd);

impl ArpListener {
    /// Listens from now on.
    ///
    /// # Errors
    /// CAP_NET_RAW is missing, or the NIC is gone.
    pub fn open(ifindex: u32) -> Result<Self, NetError> {
        let failed = || NetError::Socket {
            kind: "packet",
            source: io::Error::last_os_error(),
        };
        let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // Without a protocol until it is bound, so that it hears no other NIC.
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::socket(libc::AF_PACKET, flags, 0) };
        if fd < 0 {
            return Err(failed());
        }
        // SAFETY: just opened, owned by nobody else.
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

    /// The claims heard since the last time.
    pub fn read(&self) -> Vec<ArpBinding> {
        let mut frame = [0u8; super::arp::FRAME_LEN];
        let mut claims = Vec::new();
        for _ in 0..MAX_IN_FLIGHT {
            // SAFETY: the buffer is borrowed for the call and its true length given.
            let length = unsafe { libc::recv(self.0.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
            match usize::try_from(length) {
                Ok(length) => claims.extend(claim(&frame[..length])),
                Err(_) => break,
            }
        }
        claims
    }
}

/// What the sender of an ARP frame for IPv4 over Ethernet says of itself, in question and answer alike (RFC 826); nothing
/// where it has no address yet (RFC 5227 section 2.1.1).
fn claim(frame: &[u8]) -> Option<ArpBinding> {
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
    fn whoever_asks_or_announces_claims_its_own_address() {
        let [own, other] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
        let said = Some(ArpBinding {
            address: own.into(),
            mac: MAC,
        });
        assert_eq!(claim(&arp::request(MAC, own, other)), said);
        assert_eq!(claim(&arp::announcement(MAC, own)), said);
        assert_eq!(claim(&arp::request(MAC, Ipv4Addr::UNSPECIFIED, other)), None);
    }

    #[test]
    fn what_is_no_arp_for_ipv4_claims_nothing() {
        let mut frame = arp::announcement(MAC, Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(claim(&frame[..41]), None);
        frame[13] = 0;
        assert_eq!(claim(&frame), None);
    }
}
