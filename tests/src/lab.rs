//! The lab: hosts in network namespaces, joined by bridges.
//!
//! ```text
//! client 192.168.1.10 ─┐
//! director 192.168.1.2 ┼─ segment 1 (a bridge in a namespace of its own) ─ rs1 192.168.1.185, rs2 192.168.1.190, …
//! ```
//!
//! A host with an address in 192.168.2.0/24 has a NIC on segment 2, and so on. Every NIC has an IPv6 address too, which is
//! told from the other: fd00:1::10 beside 192.168.1.10. Many labs may run side by side: all names carry the process id of
//! the run and a number.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};
use nix::unistd::Uid;

use crate::{
    bpffs,
    host::Host,
    leftovers,
    mac::Mac,
    netns::Namespace,
    xdp::{self, Mode},
};

/// What clients connect to.
pub const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 160);
/// The client's address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 10);
/// The director's own address.
pub const DIP: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);

/// The address of the n-th real server, from 1: 192.168.1.185, 192.168.1.190, ….
#[must_use]
pub const fn rip(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 1, 180 + 5 * number)
}

/// The IPv6 address that goes with an address of the lab: segment and host as in decimals, fd00:1::185 for 192.168.1.185.
#[must_use]
pub const fn six(address: Ipv4Addr) -> Ipv6Addr {
    const fn as_in_decimals(octet: u8) -> u16 {
        let octet = octet as u16;
        octet / 100 * 0x100 + octet / 10 % 10 * 0x10 + octet % 10
    }
    let [_, _, segment, host] = address.octets();
    Ipv6Addr::new(0xfd00, as_in_decimals(segment), 0, 0, 0, 0, 0, as_in_decimals(host))
}

/// What clients connect to over IPv6: fd00:1::160.
pub const VIP6: Ipv6Addr = six(VIP);
/// The client's IPv6 address.
pub const CLIENT6: Ipv6Addr = six(CLIENT);
/// The director's own IPv6 address.
pub const DIP6: Ipv6Addr = six(DIP);

/// A lab to be built.
#[derive(Debug, Default)]
pub struct Builder {
    hosts: Vec<(String, Vec<Ipv4Addr>)>,
}

impl Builder {
    /// Adds a host with a NIC (eth0, eth1, …) for every address. The third octet says on which segment the NIC is.
    #[must_use]
    pub fn host(mut self, name: &str, addresses: &[Ipv4Addr]) -> Self {
        self.hosts.push((name.to_owned(), addresses.to_owned()));
        self
    }

    /// Builds it.
    ///
    /// # Errors
    /// We are not root, or iproute2 or ethtool is missing.
    pub fn build(self) -> Result<Lab> {
        anyhow::ensure!(
            Uid::effective().is_root(),
            "the lab makes network namespaces: run it as root"
        );
        leftovers::sweep_once();
        bpffs::mount_if_missing()?;
        let mut lab = Lab::empty()?;
        for (name, addresses) in &self.hosts {
            lab.add_host(name, addresses)?;
        }
        Ok(lab)
    }
}

/// Hosts on their segments. Everything is gone when the lab goes, after a panic too.
#[derive(Debug)]
pub struct Lab {
    id: String,
    hosts: Vec<Host>,
    /// XDP programs on ports of the bridges; detached when closed.
    programs: Vec<OwnedFd>,
    segments: BTreeSet<u8>,
    bridges: Namespace,
    directory: Directory,
}

impl Lab {
    /// The standard lab: client, director, rs1 and rs2.
    ///
    /// # Errors
    /// See [`Builder::build`].
    pub fn new() -> Result<Self> {
        Self::with_real_servers(2)
    }

    /// The standard lab with this many real servers.
    ///
    /// # Errors
    /// See [`Builder::build`].
    pub fn with_real_servers(count: u8) -> Result<Self> {
        let base = Self::builder().host("client", &[CLIENT]).host("director", &[DIP]);
        let add = |builder: Builder, number| builder.host(&format!("rs{number}"), &[rip(number)]);
        (1..=count).fold(base, add).build()
    }

    /// A lab with other hosts. A host whose name begins with `director` can transmit by XDP on all its NICs.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// What all names of this lab begin with; good as the name of a director too.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A directory of the lab's own.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory.0
    }

    /// All hosts in the order they were added.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The host of this name.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn host(&self, name: &str) -> &Host {
        let host = self.hosts.iter().find(|host| host.name() == name);
        host.unwrap_or_else(|| panic!("the lab has no host {name}"))
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &Host {
        self.host("client")
    }

    /// The director.
    #[must_use]
    pub fn director(&self) -> &Host {
        self.host("director")
    }

    /// The n-th real server, from 1.
    #[must_use]
    pub fn real_server(&self, number: usize) -> &Host {
        self.host(&format!("rs{number}"))
    }

    /// All real servers.
    pub fn real_servers(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(|host| host.name().starts_with("rs"))
    }

    fn empty() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let id = leftovers::name_for(std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let directory = Directory::create(&id)?;
        let bridges = Namespace::create(&format!("{id}-bridge"))?;
        settle(&bridges)?;
        // Bridges carry frames and have nothing to say themselves.
        set(
            &bridges,
            &[
                ("ipv6/conf/all/disable_ipv6", "1"),
                ("ipv6/conf/default/disable_ipv6", "1"),
            ],
        )?;
        Ok(Self {
            id,
            hosts: Vec::new(),
            programs: Vec::new(),
            segments: BTreeSet::new(),
            bridges,
            directory,
        })
    }

    /// Adds a host to the running lab.
    ///
    /// # Errors
    /// Its name is taken, or a command fails.
    pub fn add_host(&mut self, name: &str, addresses: &[Ipv4Addr]) -> Result<()> {
        let namespace = Namespace::create(&format!("{}-{name}", self.id))?;
        settle(&namespace)?;
        let host = Host::new(name, addresses, &self.directory().join(name), namespace)?;
        host.ip("link set lo up")?;
        for (number, address) in addresses.iter().enumerate() {
            self.plug(&host, number, *address)?;
        }
        self.hosts.push(host);
        Ok(())
    }

    /// Gives a host a NIC on the segment of its address.
    fn plug(&mut self, host: &Host, number: usize, address: Ipv4Addr) -> Result<()> {
        self.connect(host, number, address, Mac::of(address))?;
        self.address(host, &format!("eth{number}"), address)
    }

    /// Connects a new NIC of a host with the segment of an address, which it does not get.
    pub(crate) fn connect(&mut self, host: &Host, number: usize, address: Ipv4Addr, mac: Mac) -> Result<()> {
        let bridge = self.bridge(address)?;
        let port = Self::port(host, number);
        let namespace = host.namespace().name();
        self.bridge_ip(&format!(
            "link add {port} type veth peer name eth{number} address {mac} netns {namespace}"
        ))?;
        self.bridge_ip(&format!("link set {port} master {bridge} up"))?;
        if host.name().starts_with("director") {
            self.let_xdp_transmit(&port)?;
        }
        Ok(())
    }

    /// Gives a NIC of a host its addresses and brings it up.
    pub(crate) fn address(&self, host: &Host, nic: &str, address: Ipv4Addr) -> Result<()> {
        host.ip(&format!("address add {address}/24 dev {nic}"))?;
        host.ip(&format!("address add {}/64 dev {nic} nodad", six(address)))?;
        host.ip(&format!("link set {nic} up")).map(drop)
    }

    /// The segment's end of a host's NIC.
    pub(crate) fn port(host: &Host, number: usize) -> String {
        format!("p{number}-{}", host.name())
    }

    /// The name of the bridge of an address's segment.
    pub(crate) fn bridge_of(address: Ipv4Addr) -> String {
        format!("br{}", address.octets()[2])
    }

    /// The bridge of an address's segment, made on first use.
    fn bridge(&mut self, address: Ipv4Addr) -> Result<String> {
        let bridge = Self::bridge_of(address);
        if self.segments.insert(address.octets()[2]) {
            self.bridge_ip(&format!(
                "link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
            ))?;
            self.bridge_ip(&format!("link set {bridge} up"))?;
        }
        Ok(bridge)
    }

    /// Makes a port of the bridge the peer that XDP_TX and redirects on the other end of the veth pair need.
    fn let_xdp_transmit(&mut self, port: &str) -> Result<()> {
        // Without a program on the peer the kernel counts the frame as sent and throws it away (veth_xdp_flush).
        let program = xdp::attach(&self.bridges, port, &xdp::pass(), Mode::Native)?;
        self.programs.push(program);
        // A partial checksum would go out as it is: nothing completes it for a frame that XDP sends back. A VLAN tag beside
        // the frame would be lost on the program: only what is in the frame reaches it.
        for feature in ["tx", "tx-vlan-hw-insert", "tx-vlan-stag-hw-insert"] {
            let mut ethtool = self.bridges.command("ethtool");
            crate::process::run(ethtool.args(["-K", port, feature, "off"]), crate::netns::LIMIT)?.success()?;
        }
        Ok(())
    }

    /// Pulls a NIC of a host out of the segment, or puts it back: the NIC loses its carrier and stays up.
    ///
    /// # Errors
    /// There is no such NIC.
    pub fn set_cable(&self, host: &Host, number: usize, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        self.bridge_ip(&format!("link set {} {state}", Self::port(host, number)))
    }

    /// Runs an XDP program on the segment's end of a host's NIC, so that the host's own programs can transmit.
    ///
    /// # Errors
    /// There is no such NIC.
    pub fn attach_to_peer(&mut self, host: &Host, number: usize) -> Result<()> {
        self.let_xdp_transmit(&Self::port(host, number))
    }

    /// Gives the segment's end of a host's NIC so many queues to send to it (two at most).
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_send_queues(&self, host: &Host, number: usize, queues: u32) -> Result<()> {
        let mut ethtool = self.bridges.command("ethtool");
        ethtool.args(["-L", &Self::port(host, number), "tx", &queues.to_string()]);
        crate::process::run(&mut ethtool, crate::netns::LIMIT)?.success()?;
        Ok(())
    }

    /// Ends the programs on the segments' ends of all NICs.
    pub fn detach_from_peers(&mut self) {
        self.programs.clear();
    }

    pub(crate) fn bridge_ip(&self, arguments: &str) -> Result<()> {
        let mut ip = self.bridges.command("ip");
        crate::process::run(ip.args(arguments.split_whitespace()), crate::netns::LIMIT)?.success()?;
        Ok(())
    }
}

/// Settings of every namespace of the lab: no reverse path filter that a distribution turned on; IPv6 addresses that are
/// there at once, that stay when a NIC is down for a moment, and nobody who asks for routers.
fn settle(namespace: &Namespace) -> Result<()> {
    const SETTINGS: [(&str, &str); 5] = [
        ("ipv4/conf/CONF/rp_filter", "0"),
        ("ipv6/conf/CONF/accept_dad", "0"),
        ("ipv6/conf/CONF/accept_ra", "0"),
        ("ipv6/conf/CONF/router_solicitations", "0"),
        ("ipv6/conf/CONF/keep_addr_on_down", "1"),
    ];
    for conf in ["all", "default"] {
        let settings = SETTINGS.map(|(key, value)| (key.replace("CONF", conf), value));
        set(
            namespace,
            &settings.each_ref().map(|(key, value)| (key.as_str(), *value)),
        )?;
    }
    Ok(())
}

/// Changes kernel settings, by their paths under /proc/sys/net.
fn set(namespace: &Namespace, settings: &[(&str, &str)]) -> Result<()> {
    namespace.enter(|| {
        for (key, value) in settings {
            let path = format!("/proc/sys/net/{key}");
            fs::write(&path, value).with_context(|| format!("cannot write {value} to {path}"))?;
        }
        Ok(())
    })?
}

/// The directory of a lab; deleted with everything in it, and with what else bears the lab's name.
#[derive(Debug)]
struct Directory(PathBuf);

impl Directory {
    fn create(id: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(id);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let id = self.0.file_name().unwrap_or_default();
        leftovers::remove_files_of(&id.to_string_lossy());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_addresses_read_like_the_others() {
        assert_eq!(VIP6.to_string(), "fd00:1::160");
        assert_eq!(six(rip(1)).to_string(), "fd00:1::185");
        assert_eq!(six(Ipv4Addr::new(192, 168, 12, 9)).to_string(), "fd00:12::9");
    }
}
