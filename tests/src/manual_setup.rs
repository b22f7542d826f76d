//! What the shell scripts of an LVS-DR cluster do, for tests that must not depend on lbx: the lab proves itself by it.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;

use crate::{host::Host, mac::Mac};

/// Makes a host a real server: the VIP on `lo`, and no answer to ARP requests for it. Questions of IPv6 neighbours for what
/// is on `lo` are never answered.
///
/// # Errors
/// A command fails.
pub fn make_real_server(host: &Host, vip: impl Into<IpAddr>) -> Result<()> {
    let vip = match vip.into() {
        IpAddr::V4(vip) => vip,
        IpAddr::V6(vip) => {
            let line = format!("address add {vip}/128 dev lo nodad preferred_lft 0");
            return host.ip(&line).map(drop);
        }
    };
    make_loud_real_server(host, vip)?;
    for (key, value) in [("arp_ignore", "1"), ("arp_announce", "2")] {
        for interface in ["all", "lo"] {
            host.set_sysctl(&format!("ipv4/conf/{interface}/{key}"), value)?;
        }
    }
    Ok(())
}

/// Makes a host a real server that forgot about ARP: it answers requests for the VIP.
///
/// # Errors
/// A command fails.
pub fn make_loud_real_server(host: &Host, vip: Ipv4Addr) -> Result<()> {
    host.ip(&format!("address add {vip}/32 dev lo")).map(drop)
}

/// Has a host take `mac` for the address `neighbour` and never ask.
///
/// # Errors
/// `ip` fails.
pub fn pin_neighbour(host: &Host, neighbour: Ipv4Addr, mac: Mac) -> Result<()> {
    host.ip(&format!(
        "neighbour replace {neighbour} lladdr {mac} dev eth0 nud permanent"
    ))
    .map(drop)
}
