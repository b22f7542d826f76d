//! The director's own traffic with VIPs: its probes, and connections to its own VIPs.
//!
//! The socket of such a session is connected to a real server's own address (RIP), so that the kernel resolves the MAC
//! address. In sent packets the VIP replaces the RIP, in received ones the RIP replaces the VIP. Where a socket is steered
//! is in its socket storage ([`Steering`]); sent packets are recorded in a table of sessions, where replies find their RIP.

use crate::address::Address;

/// A probe: steered by user space, not counted for any service.
pub const PROBE_SESSION: u8 = 1;
/// A connection of the director to its own VIP: counted for service and backend.
pub const LOCAL_SESSION: u8 = 2;

/// Value of the socket storage: where the packets of a socket are steered. All zero: not steered.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steering {
    /// The VIP that replaces the RIP in packets to the real server.
    pub vip: Address,
    /// The real server's own address, which the socket is connected to.
    pub rip: Address,
    /// The port of both, as in the packet.
    pub port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// [`PROBE_SESSION`] or [`LOCAL_SESSION`].
    pub session_kind: u8,
    /// [`LOCAL_SESSION`]: service number.
    pub service: u16,
    /// [`LOCAL_SESSION`]: the backend's index within the service.
    pub backend_index: u16,
    /// [`LOCAL_SESSION`]: index in the backend counters.
    pub counter_index: u32,
    /// Always zero.
    pub pad: u32,
}

/// Direction of a key for replies: packets from the VIP.
pub const FROM_VIP: u8 = 0;
/// Direction of a key for packets to the RIP: for those of closed sockets (TIME_WAIT), and for user space, which does not
/// know the MAC address the kernel resolved. Its MAC address is zero.
pub const TO_RIP: u8 = 1;
/// Direction of a key for later fragments of a reply: its ports hold the identification, the remote one the upper half.
pub const FRAGMENT_FROM_VIP: u8 = 2;

/// Key of the session table. Addresses and ports are as in the packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// The remote address: the VIP in [`FROM_VIP`] and [`FRAGMENT_FROM_VIP`], the RIP in [`TO_RIP`].
    pub remote: Address,
    /// The director's address.
    pub local: Address,
    /// The remote port.
    pub remote_port: [u8; 2],
    /// The director's port.
    pub local_port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// [`FROM_VIP`], [`TO_RIP`] or [`FRAGMENT_FROM_VIP`].
    pub direction: u8,
    /// MAC address of the real server: the only difference between replies of two real servers with the same VIP and port.
    pub mac: [u8; 6],
    /// Always zero.
    pub pad: u32,
}

/// Value of the session table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// The address that replaces the remote one: the RIP in [`FROM_VIP`] and [`FRAGMENT_FROM_VIP`], the VIP in [`TO_RIP`].
    pub replacement_address: Address,
    /// [`FROM_VIP`]: packets sent to the VIP.
    pub packets_sent: u64,
    /// [`FROM_VIP`]: packets received from it.
    pub packets_received: u64,
    /// [`FROM_VIP`]: the tick of the last packet sent, for UDP also of the last one received. [`TO_RIP`]: of the first packet.
    pub updated_tick: u32,
    /// Destination MAC address of sent packets.
    pub mac: [u8; 6],
    /// [`PROBE_SESSION`] or [`LOCAL_SESSION`].
    pub session_kind: u8,
    /// 1 once FIN or RST was sent.
    pub fin_or_rst_sent: u8,
    /// Always zero.
    pub pad: u32,
}

/// Sessions at most, each with two entries; a new one evicts the least recently used.
pub const MAX_SESSIONS: u32 = 1 << 16;

/// Words of the bitmap of local ports: a bit for every port of TCP, then for every port of UDP.
pub const PORT_BITMAP_WORDS: usize = 2 * 65_536 / 64;

/// Word index and mask of a local port's bit. Port 0 stands for fragments, whose ports are not known.
#[inline(always)]
#[must_use]
pub const fn port_bit(udp: bool, port: [u8; 2]) -> (usize, u64) {
    let bit = (udp as usize) << 16 | u16::from_be_bytes(port) as usize;
    (bit / 64, 1 << (bit % 64))
}

const _: () = assert!(size_of::<Steering>() == 48 && align_of::<Steering>() == 8);
const _: () = assert!(size_of::<SessionKey>() == 48 && align_of::<SessionKey>() == 8);
const _: () = assert!(size_of::<Session>() == 48 && align_of::<Session>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_has_a_bit_of_its_own() {
        let mut words = [0u64; PORT_BITMAP_WORDS];
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
