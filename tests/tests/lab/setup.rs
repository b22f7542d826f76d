//! What many tests begin with.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Result;
use lbx_tests::lab::{CLIENT, DIP, Lab, VIP, rip};

/// The web service of the lab.
pub const WEB: SocketAddrV4 = SocketAddrV4::new(VIP, 80);

/// The address of a host's NIC on segment 2.
pub const fn on_segment_2(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 2, host)
}

/// A lab whose rs2 is on a segment of its own, to which director and client have a second NIC. What rs2 answers reaches
/// the client's first address by that second NIC: nobody forwards.
pub fn two_segments() -> Result<Lab> {
    let client = [CLIENT, on_segment_2(10)];
    let lab = Lab::builder()
        .host("client", &client)
        .host("director", &[DIP, on_segment_2(2)])
        .host("rs1", &[rip(1)])
        .host("rs2", &[on_segment_2(190)])
        .build()?;
    let [address, gateway] = client;
    lab.real_server(2)
        .ip(&format!("route add {address}/32 via {gateway}"))?;
    Ok(lab)
}
