//! Packets for services that reach this host's own stack, which refuses them.

use crate::address::Address;

/// Devices that the map has room for.
pub const MAX_DEVICES: u32 = 256;

/// Those that one device has received.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostPackets {
    /// How many.
    pub packets: u64,
    /// The VIP of the first.
    pub vip: Address,
    /// IP protocol number of the first.
    pub protocol: u8,
    /// Always zero.
    pub pad: [u8; 5],
    /// Port of the VIP of the first, as in the packet.
    pub port: [u8; 2],
}

const _: () = assert!(size_of::<HostPackets>() == 32 && align_of::<HostPackets>() == 8);
