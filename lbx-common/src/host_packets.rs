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
    /// The VIP of the last.
    pub last_vip: Address,
    /// IP protocol number of the last.
    pub last_protocol: u8,
    /// Always zero.
    pub pad: [u8; 5],
    /// Port of the VIP of the last, as in the packet.
    pub last_port: [u8; 2],
}

const _: () = assert!(size_of::<HostPackets>() == 32 && align_of::<HostPackets>() == 8);
