//! What many tests begin with.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddrV4, SocketAddrV6},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use lbx_tests::{
    bpffs,
    cluster::Cluster,
    host::Host,
    lab::{CLIENT, DIP, Lab, VIP, VIP6, rip, six},
    lbx::{self, Director},
    manual_setup,
    nginx::Nginx,
    payload::{self, Digest},
    wait,
};

/// The web service of the lab.
pub const WEB: SocketAddrV4 = SocketAddrV4::new(VIP, 80);

/// Its page.
pub const PAGE: &str = "http://192.168.1.160/";

/// The web service over IPv6.
pub const WEB6: SocketAddrV6 = SocketAddrV6::new(VIP6, 80, 0, 0);

/// Its page over IPv6.
pub const PAGE6: &str = "http://[fd00:1::160]/";

/// A director at work and real servers that serve. Fields go in their order: the lab last.
pub struct Site<Server> {
    /// The director.
    pub director: Director,
    /// What serves on rs1, rs2, ….
    pub servers: Vec<Server>,
    /// The hosts.
    pub lab: Lab,
}

impl<Server> Site<Server> {
    /// A director with this configuration, and as many real servers as it needs, on all of which `serve` is called.
    pub fn start(cluster: impl Into<Cluster>, serve: impl Fn(&Host) -> Result<Server>) -> Result<Self> {
        let cluster = cluster.into();
        let needed = cluster.services.iter().map(|service| service.servers.len()).max();
        let lab = Lab::with_real_servers(u8::try_from(needed.unwrap_or_default())?)?;
        Self::start_in(lab, &cluster, serve)
    }

    /// The same in a lab of one's own.
    pub fn start_in(lab: Lab, cluster: &Cluster, serve: impl Fn(&Host) -> Result<Server>) -> Result<Self> {
        let vips = cluster.services.iter().map(|service| service.vip).collect();
        let servers = start_real_servers(&lab, &vips, serve)?;
        Ok(Self {
            director: Director::start(&lab, cluster)?,
            servers,
            lab,
        })
    }

    /// The client.
    pub fn client(&self) -> &Host {
        self.lab.client()
    }
}

/// Has every real server of a lab hold these VIPs as LVS-DR scripts do it, and calls `serve` on it.
pub fn start_real_servers<Server>(
    lab: &Lab,
    vips: &BTreeSet<IpAddr>,
    serve: impl Fn(&Host) -> Result<Server>,
) -> Result<Vec<Server>> {
    let start = |host| {
        for vip in vips {
            manual_setup::make_real_server(host, *vip)?;
        }
        serve(host)
    };
    lab.real_servers().map(start).collect()
}

/// A site of nginx servers.
pub fn web(cluster: impl Into<Cluster>) -> Result<Site<Nginx>> {
    Site::start(cluster, Nginx::start)
}

impl Site<Nginx> {
    /// Who answers that many requests, one after the other: `rs1`, `rs2`, ….
    pub fn pages(&self, count: usize) -> Result<Vec<String>> {
        self.pages_of(PAGE, count)
    }

    /// The same at another URL.
    pub fn pages_of(&self, url: &str, count: usize) -> Result<Vec<String>> {
        let page = |_| Ok(self.client().curl(url)?.replace(" nginx", ""));
        (0..count).map(page).collect()
    }
}

/// Has a director take another configuration, and waits until it has.
pub fn reload(director: &Director, cluster: impl Into<Cluster>) -> Result<()> {
    let taken = || director.log().matches("reloaded").count();
    let before = taken();
    director.reload(&cluster.into().to_string())?;
    wait::until_true(Duration::from_secs(5), "the new configuration is taken", || {
        Ok(taken() > before)
    })
    .map_err(|error| error.context(director.log()))
}

/// That all of these are one server.
pub fn expect_all(answers: &[String], server: &str) -> Result<()> {
    ensure!(
        !answers.is_empty() && answers.iter().all(|answer| answer == server),
        "not all {server}: {answers:?}"
    );
    Ok(())
}

/// Puts the same big file on every server and gives its digest.
pub fn serve_big(servers: &[Nginx], megabytes: usize) -> Result<Digest> {
    let mut digest = None;
    for nginx in servers {
        digest = Some(payload::write(&nginx.root().join("big"), megabytes)?);
    }
    digest.context("no servers")
}

/// That every window of `of` answers holds each server once: strict turns.
pub fn expect_turns(answers: &[String], of: usize) -> Result<()> {
    for window in answers.windows(of) {
        let different: BTreeSet<_> = window.iter().collect();
        ensure!(different.len() == of, "not in turn: {answers:?}");
    }
    ensure!(answers.len() >= of, "too few answers: {answers:?}");
    Ok(())
}

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
    lab.real_server(2)
        .ip(&format!("route add {}/128 via {}", six(address), six(gateway)))?;
    Ok(lab)
}

/// Everything about a host that lbx may change, and must change back.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<String, String>);

impl Snapshot {
    /// The state of a host now.
    pub fn of(host: &Host) -> Result<Self> {
        let mut state = BTreeMap::new();
        // The kernel adds link-local ones when it likes.
        let without_link_local = |text: String| -> String {
            text.lines()
                .filter(|line| !line.contains("fe80:"))
                .map(|line| format!("{line}\n"))
                .collect()
        };
        state.insert(
            "addresses".to_owned(),
            without_link_local(host.ip("-oneline address show")?),
        );
        state.insert(
            "routes".to_owned(),
            without_link_local(host.ip("route show table all")?),
        );
        for (number, _) in host.addresses().iter().enumerate() {
            let nic = format!("eth{number}");
            let features = host.run(["ethtool", "--show-features", &nic])?.success()?;
            state.insert(format!("features of {nic}"), features);
            state.insert(
                format!("XDP program of {nic}"),
                format!("{:?}", host.xdp_program(&nic)?),
            );
            state.insert(
                format!("qdiscs of {nic}"),
                host.run(["tc", "qdisc", "show", "dev", &nic])?.success()?,
            );
        }
        for interface in ["all", "lo", "eth0"] {
            for key in ["arp_ignore", "arp_announce", "rp_filter"] {
                let key = format!("ipv4/conf/{interface}/{key}");
                let value = host.sysctl(&key)?;
                state.insert(key, value);
            }
        }
        Ok(Self(state))
    }

    /// That the host is as it was, with what differs.
    pub fn expect(&self, host: &Host) -> Result<()> {
        let now = Self::of(host)?;
        for (what, before) in &self.0 {
            let after = now.0.get(what);
            ensure!(
                after == Some(before),
                "{what} of {} were\n{before}\nand are\n{after:?}",
                host.name()
            );
        }
        Ok(())
    }
}

/// That a director of this name has left neither pins nor a socket.
pub fn expect_no_traces(name: &str) -> Result<()> {
    let absent = |path: &Path| {
        ensure!(!path.exists(), "{} is left", path.display());
        Ok(())
    };
    absent(&bpffs::pins_of(name))?;
    absent(&lbx::socket_of(name))
}
