//! A NIC the program is attached to.

/// Clients' traffic arrives here: packets for a VIP are balanced.
pub const CLIENTS: u16 = 1 << 0;
/// Real servers are reached through it.
pub const SERVERS: u16 = 1 << 1;

/// Value of the NIC map; its key is the interface index.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Its own MAC address, as on the wire: frames to another are not ours (a NIC in promiscuous mode sees them).
    pub mac: [u8; 6],
    /// [`CLIENTS`], [`SERVERS`].
    pub roles: u16,
}

const _: () = assert!(size_of::<Nic>() == 8);
