//! What the director itself sends to a VIP and gets back from there: its probes, and connections to its own VIPs.
//!
//! The socket of such a session is connected to a real server's own address (RIP), so that the kernel finds the MAC address.
//! Packets on their way out get the VIP in place of the RIP, packets that come in the RIP in place of the VIP. What a
//! socket is led to is in its own storage ([`Led`]); what has been sent is in a table of sessions, where the reply finds
//! its RIP.

use crate::address::Address;

/// A probe: user space has led it, and it counts for nobody.
pub const PROBE: u8 = 1;
/// A connection of the director to its own VIP: it counts for service and backend.
pub const LOCAL: u8 = 2;

/// Value of the socket storage: where the packets of a socket go. All zero: nowhere else.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Led {
    /// The VIP that the real server is to see.
    pub vip: Address,
    /// The real server's own address, which the socket is connected to.
    pub rip: Address,
    /// The port, the same for both: as it lies in the packet.
    pub port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// [`PROBE`] or [`LOCAL`].
    pub kind: u8,
    /// [`LOCAL`]: service number.
    pub service: u16,
    /// [`LOCAL`]: the backend's index within the service.
    pub index: u16,
    /// [`LOCAL`]: place in the backend counters.
    pub counter: u32,
    /// Always zero.
    pub pad: u32,
}

/// Key of a reply: what comes from the VIP.
pub const IN: u8 = 0;
/// Key of what is sent to the RIP: for packets of sockets that are no more (TIME_WAIT), and for user space, which does not
/// know the MAC address the kernel took. Its MAC address is zero.
pub const OUT: u8 = 1;
/// Key of a reply's fragments but the first: its ports hold the identification, the remote one the upper half.
pub const FRAGMENT: u8 = 2;

/// Key of the session table. Addresses and ports are as they lie in the packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// The other end: the VIP in [`IN`] and [`FRAGMENT`], the RIP in [`OUT`].
    pub remote: Address,
    /// The director's address.
    pub local: Address,
    /// Port of the other end.
    pub remote_port: [u8; 2],
    /// The director's port.
    pub local_port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// [`IN`], [`OUT`] or [`FRAGMENT`].
    pub way: u8,
    /// MAC address of the real server: replies of two that share a VIP and a port differ in nothing else.
    pub mac: [u8; 6],
    /// Always zero.
    pub pad: u32,
}

/// Value of the session table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// What takes the place of the remote address: the RIP in [`IN`] and [`FRAGMENT`], the VIP in [`OUT`].
    pub other: Address,
    /// [`IN`]: packets that were sent to the VIP.
    pub sent: u64,
    /// [`IN`]: packets that came from there.
    pub received: u64,
    /// [`IN`]: the tick of the last packet sent, with UDP also of the last that came. [`OUT`]: of the first packet.
    pub tick: u32,
    /// MAC address that packets are sent to.
    pub mac: [u8; 6],
    /// [`PROBE`] or [`LOCAL`].
    pub kind: u8,
    /// 1 once FIN or RST was sent.
    pub ended: u8,
    /// Always zero.
    pub pad: u32,
}

/// Sessions at one time, each with two entries; the oldest goes for a new one.
pub const MAX_SESSIONS: u32 = 1 << 16;

/// Words of the bitmap of local ports: a bit for every port of TCP, then for every port of UDP.
pub const PORT_WORDS: usize = 2 * 65_536 / 64;

/// Where the bit of a local port is: word and mask. Port 0 stands for fragments, which tell no port.
#[inline(always)]
#[must_use]
pub const fn port_bit(udp: bool, port: [u8; 2]) -> (usize, u64) {
    let bit = (udp as usize) << 16 | u16::from_be_bytes(port) as usize;
    (bit / 64, 1 << (bit % 64))
}

const _: () = assert!(size_of::<Led>() == 48 && align_of::<Led>() == 8);
const _: () = assert!(size_of::<SessionKey>() == 48 && align_of::<SessionKey>() == 8);
const _: () = assert!(size_of::<Session>() == 48 && align_of::<Session>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_has_a_bit_of_its_own() {
        let mut words = [0u64; PORT_WORDS];
        for udp in [false, true] {
            for port in 0..=u16::MAX {
                let (word, mask) = port_bit(udp, port.to_be_bytes());
                assert_eq!(words[word] & mask, 0);
                words[word] |= mask;
            }
        }
        assert!(words.iter().all(|&word| word == u64::MAX));
    }
}
