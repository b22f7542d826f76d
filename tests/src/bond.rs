//! Bonds: a host whose NIC on segment 1 is `bond0` over two members, eth0 and eth1.
//!
//! The members' other ends are ports of the segment's bridge, or, where the mode needs a partner, members of a bond there,
//! which is the port:
//!
//! ```text
//! active-backup:         bond0 ─┬─ eth0 ── p0-director ─┬─ bridge
//!                               └─ eth1 ── p1-director ─┘
//! 802.3ad, balance-xor:  bond0 ─┬─ eth0 ── p0-director ─┬─ lag-director ── bridge
//!                               └─ eth1 ── p1-director ─┘
//! ```

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::{host::Host, lab::Lab, mac::Mac, process::Process, wait};

/// The bond of a host.
pub const BOND: &str = "bond0";
/// The team of a host.
pub const TEAM: &str = "team0";
/// The daemon that chooses a team's port.
pub const TEAMD: &str = "teamd";
/// Its members.
pub const MEMBERS: [&str; 2] = ["eth0", "eth1"];

/// How soon members that have carrier carry frames: LACP's partners have agreed by then.
const SOON: Duration = Duration::from_secs(15);

/// How a bond spreads frames over its members (Documentation/networking/bonding.rst).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BondMode {
    /// One member carries all frames until it has no carrier; the switch knows nothing of it.
    ActiveBackup,
    /// LACP: both members carry frames, and so does the switch's bond.
    Lacp,
    /// Both members carry frames by their hash; the switch's ports are configured in the same way.
    BalanceXor,
}

impl BondMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ActiveBackup, Self::Lacp, Self::BalanceXor];

    /// What `ip` calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ActiveBackup => "active-backup",
            Self::Lacp => "802.3ad",
            Self::BalanceXor => "balance-xor",
        }
    }

    /// Whether the members' other ends are a bond too.
    #[must_use]
    pub const fn needs_partner(self) -> bool {
        !matches!(self, Self::ActiveBackup)
    }

    /// What makes a bond of this name.
    fn commands(self, name: &str) -> [String; 2] {
        let options = match self {
            Self::ActiveBackup => "",
            Self::Lacp => "lacp_rate fast xmit_hash_policy layer3+4",
            Self::BalanceXor => "xmit_hash_policy layer3+4",
        };
        [
            format!("link add {name} type bond mode {} miimon 50 {options}", self.name()),
            format!("link set {name} up"),
        ]
    }
}

/// What puts a NIC into a bond: the kernel takes it only while it is down, and brings it up.
fn enslave(nic: &str, bond: &str) -> [String; 2] {
    [format!("link set {nic} down"), format!("link set {nic} master {bond}")]
}

impl Lab {
    /// Replaces a host's NIC eth0 by `bond0` over eth0 and a new eth1, with eth0's MAC address and addresses; returns when the
    /// bond carries frames.
    ///
    /// `set_cable(host, 0, false)` takes the carrier of member eth0 away, as ever; 1 is for eth1.
    ///
    /// # Errors
    /// The kernel has no bonds, or the host has more than one NIC.
    pub fn bond(&mut self, host: &Host, mode: BondMode) -> Result<()> {
        ensure!(host.addresses().len() == 1, "{} has several NICs", host.name());
        let address = host.address();
        host.ip("address flush dev eth0")?;
        self.connect(host, 1, address, Mac([0x02, 0x01, 0, 0, 0, 1]))?;
        if mode.needs_partner() {
            self.bond_ports(host, mode)?;
        }
        for command in mode
            .commands(BOND)
            .iter()
            .chain(&MEMBERS.map(|nic| enslave(nic, BOND)).concat())
        {
            host.ip(command)?;
        }
        self.address(host, BOND, address)?;
        let ready = || Ok(active_members(host)?.len() == if mode.needs_partner() { 2 } else { 1 });
        wait::until_true(SOON, &format!("the {} bond carries frames", mode.name()), ready)
    }

    /// Replaces a host's NIC eth0 by `team0` over eth0 and a new eth1, of which one carries all frames, as [`Lab::bond`] does with a
    /// bond. The team lives as long as the process that is returned.
    ///
    /// # Errors
    /// The kernel has no teams, `teamd` is missing, or the host has more than one NIC.
    pub fn team(&mut self, host: &Host) -> Result<Process> {
        ensure!(host.addresses().len() == 1, "{} has several NICs", host.name());
        let address = host.address();
        host.ip("address flush dev eth0")?;
        self.connect(host, 1, address, Mac([0x02, 0x01, 0, 0, 0, 1]))?;
        for nic in MEMBERS {
            host.ip(&format!("link set {nic} down"))?;
        }
        let ports = MEMBERS.map(|nic| format!("\"{nic}\": {{}}")).join(", ");
        let config = format!(
            "{{\"device\": \"{TEAM}\", \"runner\": {{\"name\": \"activebackup\"}}, \"link_watch\": {{\"name\": \"ethtool\"}}, \"ports\": {{{ports}}}}}"
        );
        let teamd = host.spawn("teamd", [TEAMD, "-c", &config])?;
        wait::until_true(SOON, "the team is there", || Ok(host.link(TEAM).is_ok()))?;
        host.ip(&format!("link set {TEAM} up"))?;
        self.address(host, TEAM, address)?;
        Ok(teamd)
    }

    /// Puts the segment's ends of a host's two NICs into a bond, which takes their place in the bridge.
    fn bond_ports(&self, host: &Host, mode: BondMode) -> Result<()> {
        let lag = format!("lag-{}", host.name());
        for command in mode.commands(&lag) {
            self.bridge_ip(&command)?;
        }
        for number in 0..MEMBERS.len() {
            let port = Self::port(host, number);
            self.bridge_ip(&format!("link set {port} nomaster"))?;
            for command in enslave(&port, &lag) {
                self.bridge_ip(&command)?;
            }
        }
        self.bridge_ip(&format!("link set {lag} master {}", Self::bridge_of(host.address())))
    }
}

/// The members of a host's `bond0` that carry frames: the active one, or those whose LACP partner agrees.
///
/// # Errors
/// The host has no such bond.
pub fn active_members(host: &Host) -> Result<Vec<&'static str>> {
    let details = host.link(BOND)?;
    let of_bond = &details["linkinfo"]["info_data"];
    let mut active = Vec::new();
    for member in MEMBERS {
        let link = host.link(member)?;
        let slave = &link["linkinfo"]["info_slave_data"];
        if slave["mii_status"] == "UP" && carries(of_bond, slave, member) {
            active.push(member);
        }
    }
    Ok(active)
}

/// Whether a member that has carrier is used.
fn carries(of_bond: &Value, slave: &Value, member: &str) -> bool {
    match of_bond["mode"].as_str() {
        Some("active-backup") => of_bond["active_slave"] == member,
        // Collecting and distributing (IEEE 802.1AX): bits 4 and 5 of the states of both ends.
        Some("802.3ad") => ["ad_actor_oper_port_state", "ad_partner_oper_port_state"]
            .iter()
            .all(|state| slave[state].as_u64().is_some_and(|bits| bits & 0x30 == 0x30)),
        _ => true,
    }
}
