//! A host of the lab: a network namespace with NICs, and what one can do on it.

use std::{
    ffi::OsStr,
    fmt, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    lab::six,
    mac::Mac,
    netns::{LIMIT, Namespace},
    process::{self, Output, Process},
    wait,
    xdp::Mode,
};

/// A host. Clones are the same host; its namespace goes with the last of them.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    name: String,
    addresses: Vec<Ipv4Addr>,
    directory: PathBuf,
    namespace: Namespace,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0.name, self.0.namespace.name())
    }
}

impl Host {
    /// A host over a namespace whose NICs are made elsewhere.
    pub(crate) fn new(name: &str, addresses: &[Ipv4Addr], directory: &Path, namespace: Namespace) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(Self(Arc::new(Inner {
            name: name.to_owned(),
            addresses: addresses.to_owned(),
            directory: directory.to_owned(),
            namespace,
        })))
    }

    /// Its name in the lab, such as `rs1`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The address of its first NIC.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.0.addresses[0]
    }

    /// The IPv6 address of its first NIC.
    #[must_use]
    pub fn address6(&self) -> Ipv6Addr {
        six(self.address())
    }

    /// The addresses of its NICs eth0, eth1, ….
    #[must_use]
    pub fn addresses(&self) -> &[Ipv4Addr] {
        &self.0.addresses
    }

    /// A directory of its own, for configurations, pages and logs.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// The namespace it lives in.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.0.namespace
    }

    /// A program that will run on it.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.0.namespace.command(program)
    }

    /// Runs a command line to its end, with a time limit.
    ///
    /// # Errors
    /// It cannot be started or takes too long.
    pub fn run<Word: AsRef<OsStr>>(&self, line: impl IntoIterator<Item = Word>) -> Result<Output> {
        let mut words = line.into_iter();
        let program = words.next().context("an empty command line")?;
        process::run(self.command(program).args(words), LIMIT).with_context(|| format!("on {}", self.name()))
    }

    /// Starts a command line in the background; its log is kept under `title` in the host's directory.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn<Word: AsRef<OsStr>>(&self, title: &str, line: impl IntoIterator<Item = Word>) -> Result<Process> {
        let mut words = line.into_iter();
        let program = words.next().context("an empty command line")?;
        let log = self.directory().join(format!("{title}.log"));
        let title = format!("{title} on {}", self.name());
        Process::spawn(&title, self.command(program).args(words), &log)
    }

    /// Runs a closure on a thread inside its namespace, for sockets made in Rust.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.0.namespace.enter(work)
    }

    /// Runs `ip` with the words of `arguments` and gives what it prints.
    ///
    /// # Errors
    /// It fails.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        let line = std::iter::once("ip").chain(arguments.split_whitespace());
        self.run(line)?.success().with_context(|| format!("on {}", self.name()))
    }

    /// Runs `ip -json` and gives the list it prints.
    ///
    /// # Errors
    /// It fails or prints something else.
    pub fn ip_json(&self, arguments: &str) -> Result<Vec<Value>> {
        let text = self.ip(&format!("-details -json {arguments}"))?;
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        serde_json::from_str(&text).with_context(|| format!("`ip -json {arguments}` printed {text:?}"))
    }

    /// Whether an address is on any of its interfaces.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn has_address(&self, address: impl Into<IpAddr>) -> Result<bool> {
        let list = self.ip_json(&format!("address show to {}", address.into()))?;
        Ok(list.iter().any(|entry| entry["ifname"].is_string()))
    }

    /// Watches addresses come and go from now on; the log of the watcher tells them.
    ///
    /// # Errors
    /// `ip` cannot be run.
    pub fn watch_addresses(&self) -> Result<Process> {
        let watcher = self.spawn("addresses", ["ip", "-oneline", "monitor", "address"])?;
        let pid = watcher.pid().to_string();
        let sockets = format!("/proc/{pid}/net/netlink");
        // Columns: address, protocol, port (the process), groups, ….
        let listens = |line: &str| {
            let columns: Vec<_> = line.split_whitespace().collect();
            columns.get(2) == Some(&pid.as_str()) && columns.get(3).is_some_and(|groups| *groups != "00000000")
        };
        wait::until_true(LIMIT, "`ip monitor` listens", || {
            Ok(fs::read_to_string(&sockets)?.lines().any(listens))
        })?;
        Ok(watcher)
    }

    /// The page at a URL, with everything `curl` has to say if it fails.
    ///
    /// # Errors
    /// No page within five seconds.
    pub fn curl(&self, url: &str) -> Result<String> {
        let line = [
            "curl",
            "--globoff",
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "5",
            url,
        ];
        Ok(self.run(line)?.success()?.trim_end().to_owned())
    }

    /// Downloads what is at a URL to a file.
    ///
    /// # Errors
    /// It does not arrive within twenty seconds.
    pub fn download(&self, url: &str, to: &Path) -> Result<()> {
        let file = to.display().to_string();
        let line = [
            "curl",
            "--globoff",
            "--silent",
            "--show-error",
            "--fail",
            "--output",
            &file,
            url,
        ];
        self.run(line)?.success().map(drop)
    }

    /// Uploads a file to a URL (PUT).
    ///
    /// # Errors
    /// It is not accepted within twenty seconds.
    pub fn upload(&self, from: &Path, url: &str) -> Result<()> {
        let file = from.display().to_string();
        let line = [
            "curl",
            "--globoff",
            "--silent",
            "--show-error",
            "--fail",
            "--upload-file",
            &file,
            url,
        ];
        self.run(line)?.success().map(drop)
    }

    /// Whether an address answers three echo requests, all of them.
    ///
    /// # Errors
    /// `ping` cannot be run.
    pub fn ping(&self, address: impl Into<IpAddr>) -> Result<bool> {
        let address = address.into().to_string();
        let output = self.run(["ping", "-n", "-c", "3", "-i", "0.05", "-w", "3", &address])?;
        Ok(output.stdout.contains(" 0% packet loss"))
    }

    /// What `ip` knows about a NIC.
    ///
    /// # Errors
    /// There is no such NIC.
    pub fn link(&self, nic: &str) -> Result<Value> {
        let link = self.ip_json(&format!("link show dev {nic}"))?.into_iter().next();
        link.with_context(|| format!("`ip` says nothing about {nic} on {}", self.name()))
    }

    /// The index of a NIC.
    ///
    /// # Errors
    /// There is no such NIC.
    pub fn interface_index(&self, nic: &str) -> Result<u32> {
        let index = self.link(nic)?["ifindex"].as_u64().context("no index")?;
        Ok(index.try_into()?)
    }

    /// The MAC address of a NIC.
    ///
    /// # Errors
    /// There is no such NIC.
    pub fn mac(&self, nic: &str) -> Result<Mac> {
        let link = self.link(nic)?;
        link["address"].as_str().context("no MAC address")?.parse()
    }

    /// Gives a NIC another MAC address while it is up. Nobody is told, unless `arp_notify` is set.
    ///
    /// # Errors
    /// There is no such NIC.
    pub fn set_mac(&self, nic: &str, mac: Mac) -> Result<()> {
        self.ip(&format!("link set dev {nic} address {mac}")).map(drop)
    }

    /// Brings a NIC up or takes it down.
    ///
    /// # Errors
    /// There is no such NIC.
    pub fn set_up(&self, nic: &str, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        self.ip(&format!("link set dev {nic} {state}")).map(drop)
    }

    /// The number of the XDP program on a NIC and how it is attached, if there is one.
    ///
    /// # Errors
    /// There is no such NIC.
    pub fn xdp_program(&self, nic: &str) -> Result<Option<(u64, Mode)>> {
        // As in IFLA_XDP_ATTACHED; `ip` lists attachments in several modes at once only for offloading NICs.
        let xdp = &self.link(nic)?["xdp"];
        let mode = match xdp["mode"].as_u64() {
            Some(1) => Mode::Native,
            Some(2) => Mode::Generic,
            Some(other) => anyhow::bail!("{nic} has an XDP program in the unknown mode {other}"),
            None => return Ok(None),
        };
        Ok(Some((
            xdp["prog"]["id"].as_u64().context("a program without a number")?,
            mode,
        )))
    }

    /// A kernel setting, by its path under /proc/sys/net (`ipv4/conf/all/arp_ignore`).
    ///
    /// # Errors
    /// There is no such setting.
    pub fn sysctl(&self, key: &str) -> Result<String> {
        let path = format!("/proc/sys/net/{key}");
        let value = self.enter(|| fs::read_to_string(&path))?;
        let value = value.with_context(|| format!("cannot read {path} on {}", self.name()))?;
        Ok(value.trim().to_owned())
    }

    /// Changes a kernel setting, by its path under /proc/sys/net.
    ///
    /// # Errors
    /// There is no such setting.
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{key}");
        let written = self.enter(|| fs::write(&path, value))?;
        written.with_context(|| format!("cannot write {value} to {path} on {}", self.name()))
    }

    /// A counter of the network stack since the host was made, as `nstat` names it.
    ///
    /// # Errors
    /// There is no such counter.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let counters = self
            .run(["nstat", "--ignore", "--zeros", "--noupdate", name])?
            .success()?;
        let line = counters.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(value.with_context(|| format!("no {name} in {counters}"))?.parse()?)
    }

    /// Turns a feature of a NIC on or off, as `ethtool -K` names it.
    ///
    /// # Errors
    /// `ethtool` fails.
    pub fn set_offload(&self, nic: &str, feature: &str, on: bool) -> Result<()> {
        let state = if on { "on" } else { "off" };
        self.run(["ethtool", "-K", nic, feature, state])?.success().map(drop)
    }

    /// Every MAC address that answers ARP requests for `address` on eth0: two broadcasts, and all the replies.
    ///
    /// # Errors
    /// `arping` cannot be run or prints something unknown.
    pub fn arp_probe(&self, address: Ipv4Addr) -> Result<std::collections::BTreeSet<Mac>> {
        // No -c: a count of replies would end it before a second host is heard.
        let target = address.to_string();
        let output = self.run(["arping", "-b", "-w", "2", "-I", "eth0", &target])?;
        ensure!(output.stdout.starts_with("ARPING"), "{output}");
        let replies = output.stdout.lines().filter(|line| line.contains("reply from"));
        replies
            .map(|line| {
                let mac = line.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
                mac.with_context(|| format!("no MAC address in {line:?}"))?.0.parse()
            })
            .collect()
    }

    /// Tells the segment, by one gratuitous ARP request, who has its address.
    ///
    /// # Errors
    /// `arping` fails.
    pub fn announce(&self) -> Result<()> {
        let own = self.address().to_string();
        let output = self.run(["arping", "-U", "-c", "1", "-I", "eth0", "-s", &own, &own])?;
        ensure!(output.stdout.contains("Sent 1 probe"), "{output}");
        Ok(())
    }
}
