//! The tables that map a packet to its service: VIPs, then protocol and port. Like those of flows they consist of buckets:
//! the program looks into two candidate buckets, without calling the kernel. Only the daemon writes them.
//!
//! An entry is written key first and removed value first; it is reused only when no packet can be reading it any more. So a
//! reader that finds a value and then the key it looks for has found the right entry.

use crate::address::Address;

/// VIPs in a bucket of two cache lines.
pub const VIPS_PER_BUCKET: usize = 4;
/// Ports in a bucket of one cache line.
pub const PORTS_PER_BUCKET: usize = 4;

/// Bit 16 of a value: there is an entry.
pub const PRESENT: u64 = 1 << 16;
/// A VIP's value: a TCP service on it takes all ports that no other service has.
pub const ALL_TCP_PORTS: u64 = 1 << 17;
/// A VIP's value: the same for UDP.
pub const ALL_UDP_PORTS: u64 = 1 << 18;
/// A port's value: it is the primary port of its service.
pub const PRIMARY_PORT: u64 = 1 << 17;

/// A VIP. All zero: empty.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VipEntry {
    /// VIP number in bits 0–15, [`PRESENT`], [`ALL_TCP_PORTS`], [`ALL_UDP_PORTS`]. Written last.
    pub vip_number_and_flags: u64,
    /// The VIP.
    pub address: Address,
    /// Always zero.
    pub pad: u64,
}

/// Two cache lines of VIPs.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VipBucket {
    /// In no order.
    pub entries: [VipEntry; VIPS_PER_BUCKET],
}

/// A port of a VIP. All zero: empty.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortEntry {
    /// Service number in bits 0–15, [`PRESENT`], [`PRIMARY_PORT`]. Written last.
    pub service_number_and_flags: u64,
    /// [`port_key`].
    pub key: u64,
}

/// A cache line of ports.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortBucket {
    /// In no order.
    pub entries: [PortEntry; PORTS_PER_BUCKET],
}

const _: () = assert!(size_of::<VipEntry>() == 32 && size_of::<VipBucket>() == 128);
const _: () = assert!(size_of::<PortEntry>() == 16 && size_of::<PortBucket>() == 64);

/// The key of a port: VIP number in bits 0–15, IP protocol number in 16–23, port as it lies in the packet in 32–47 (0: all
/// ports). Never zero, since no protocol of ours is.
#[inline(always)]
#[must_use]
pub const fn port_key(vip: u16, protocol: u8, port: [u8; 2]) -> u64 {
    vip as u64 | (protocol as u64) << 16 | (u16::from_le_bytes(port) as u64) << 32
}

/// The VIP number, IP protocol number and port (host byte order) of a key.
#[must_use]
pub const fn split_port_key(key: u64) -> (u16, u8, u16) {
    (
        key as u16,
        (key >> 16) as u8,
        u16::from_be_bytes(((key >> 32) as u16).to_le_bytes()),
    )
}

/// The number in a value.
#[inline(always)]
#[must_use]
pub const fn strip_flags(value: u64) -> u16 {
    value as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_keys_round_trip() {
        for (vip, protocol, port) in [(0, 6, 0), (7, 17, 443), (u16::MAX, 6, u16::MAX)] {
            assert_eq!(
                split_port_key(port_key(vip, protocol, port.to_be_bytes())),
                (vip, protocol, port)
            );
        }
    }
}
