//! The contents of a program's tables.

use lbx::desired::Protocol;

use crate::traffic::{IpVersion, PacketKind};

/// The contents of a program's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableContents {
    /// IP version of VIPs and flows.
    pub ip_version: IpVersion,
    /// Protocol of the services.
    pub protocol: Protocol,
    /// Number of services.
    pub services: u32,
    /// Capacity for flows at half load; the table is filled with as many before measuring.
    pub flows: u32,
    /// Whether clients and real servers are in a VLAN.
    pub tagged: bool,
    /// The packet of a flood: rows with other traffic do not share the tables with it.
    pub flood_packet: Option<PacketKind>,
}

impl TableContents {
    /// Real servers of each service.
    pub const fn servers_per_service(&self) -> u32 {
        if self.services > 1_000 { 4 } else { 8 }
    }

    /// Slots, or ring entries, of each service.
    pub const fn slots_per_service(&self) -> u32 {
        if self.services > 1_000 { 251 } else { 1_021 }
    }
}

/// MAC address of a real server.
pub fn server_mac(server: u32) -> [u8; 6] {
    let [a, b, c, d] = server.to_be_bytes();
    [2, 1, a, b, c, d]
}
