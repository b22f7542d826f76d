//! A director without a daemon: its data plane, in the namespace of the lab's director.

use std::{collections::BTreeSet, net::IpAddr, path::Path, sync::Arc};

use anyhow::{Context as _, Result, bail, ensure};
use aya::programs::XdpMode;
use lbx::{
    config,
    dataplane::{Dataplane, clock, local::probes::ProbeSessions, traffic_control::TcAttachment},
    desired::TableSizes,
    tables::{NextHop, NextHops, Tables},
};
use lbx_common::counters::Traffic;
use lbx_tests::{cluster::Cluster, host::Host, lab::Lab};

use crate::setup::start_real_servers;

/// Small tables.
const SIZES: TableSizes = TableSizes {
    flows4: 1 << 12,
    flows6: 1 << 12,
    slots: 1 << 16,
    ports: 1 << 12,
    fragments: 1 << 8,
};

/// What serves a cluster's real servers: see [`Prober::balancing`].
pub struct Balanced<Server> {
    /// What serves on rs1, rs2, ….
    _servers: Vec<Server>,
    /// The director, with the VIPs on its NIC, which it can use itself.
    pub prober: Prober,
}

/// The director and its lab. Nothing stays of it.
pub struct Prober {
    /// There until the drop.
    dataplane: Option<Dataplane>,
    probes: Arc<ProbeSessions>,
    tables: Option<Tables>,
    /// The lab.
    pub lab: Lab,
}

impl Prober {
    /// A director whose programs are on these NICs.
    pub fn start(lab: Lab, nics: &[&str]) -> Result<Self> {
        let dataplane = lab.director().enter(|| Dataplane::open(lab.id(), SIZES))??;
        let mut prober = Self {
            probes: dataplane.probe_sessions(),
            dataplane: Some(dataplane),
            tables: None,
            lab,
        };
        let devices = prober.devices(nics)?;
        for &device in &devices {
            prober.with(|dataplane| dataplane.attach(device, None, XdpMode::Driver))??;
        }
        prober.see_to(&devices)?;
        Ok(prober)
    }

    /// A director of a cluster in a lab of its own, on whose real servers `serve` is called.
    pub fn balancing<Server>(
        cluster: impl Into<Cluster>,
        serve: impl Fn(&Host) -> Result<Server>,
    ) -> Result<Balanced<Server>> {
        let cluster = cluster.into();
        let lab = Lab::new()?;
        let vips: BTreeSet<IpAddr> = cluster.services.iter().map(|service| service.vip).collect();
        let servers = start_real_servers(&lab, &vips, serve)?;
        for vip in vips {
            let how = if vip.is_ipv4() {
                "/32 dev eth0"
            } else {
                "/128 dev eth0 nodad preferred_lft 0"
            };
            lab.director().ip(&format!("address add {vip}{how}"))?;
        }
        let mut prober = Self::start(lab, &["eth0"])?;
        prober.plan(&cluster)?;
        prober.with(|dataplane| dataplane.set_local_vip_access(true))??;
        Ok(Balanced {
            _servers: servers,
            prober,
        })
    }

    /// Brings the tables to what a cluster says; its real servers are those of the lab.
    pub fn plan(&mut self, cluster: &Cluster) -> Result<()> {
        let desired = config::parse(&cluster.to_string(), Path::new("lb.yaml"))?;
        let ifindex = self.lab.director().interface_index("eth0")?;
        let hop = |host: &Host| -> Result<[(IpAddr, NextHop); 2]> {
            let hop = NextHop {
                mac: host.mac("eth0")?.0,
                ifindex,
                vlan_tags: [0; 2],
                source: self.lab.director().mac("eth0")?.0,
            };
            Ok([host.address().into(), host.address6().into()].map(|address| (address, hop)))
        };
        let mut hops = NextHops::new();
        for host in self.lab.real_servers() {
            hops.extend(hop(host)?);
        }
        let mut tables = self.tables.take();
        let planned = self.with(|dataplane| -> Result<Tables> {
            let tables = tables.take().unwrap_or_else(|| dataplane.empty_tables());
            let plan = tables.plan(&desired, &hops, clock::current_tick())?;
            dataplane.apply(&plan.writes)?;
            Ok(plan.resulting_tables)
        })??;
        self.tables = Some(planned);
        Ok(())
    }

    /// What the first service and each of its real servers have carried.
    pub fn traffic(&mut self) -> Result<(Traffic, Vec<Traffic>)> {
        let tables = self.tables.take().context("nothing was planned")?;
        let service = tables.services.values().next().context("no service")?;
        let read = self.with(|dataplane| -> Result<_> {
            let whole = dataplane.service_traffic(service.service_number)?;
            let members = service
                .backends
                .values()
                .map(|member| dataplane.backend_traffic(member.counter_index));
            Ok((whole, members.collect::<Result<_, _>>()?))
        })?;
        self.tables = Some(tables);
        read
    }

    /// Does as a daemon that is killed and started again.
    pub fn restart(&mut self, nics: &[&str]) -> Result<()> {
        self.restart_by(TcAttachment::TcxLink, nics)?;
        self.with(|dataplane| dataplane.set_local_vip_access(true))??;
        Ok(())
    }

    /// The same without the programs on sockets.
    pub fn restart_by(&mut self, way: TcAttachment, nics: &[&str]) -> Result<()> {
        drop(self.dataplane.take());
        let (lab, devices) = (&self.lab, self.devices(nics)?);
        let mut dataplane = lab.director().enter(|| Dataplane::open(lab.id(), SIZES))??;
        ensure!(dataplane.has_adopted_maps(), "nothing was adopted");
        for &device in &devices {
            let running = lab.director().xdp_program("eth0")?.map(|(program, _)| program as u32);
            lab.director()
                .enter(|| dataplane.attach(device, running, XdpMode::Driver))??;
        }
        self.probes = dataplane.probe_sessions();
        self.dataplane = Some(dataplane);
        self.see_to_by(way, &devices)
    }

    /// The data plane, to be ended by the caller.
    pub fn take_dataplane(&mut self) -> Option<Dataplane> {
        self.dataplane.take()
    }

    /// The indices of the director's NICs.
    pub fn devices(&self, nics: &[&str]) -> Result<BTreeSet<u32>> {
        let director = self.lab.director();
        nics.iter().map(|nic| director.interface_index(nic)).collect()
    }

    /// Has what exactly these devices send rewritten.
    pub fn see_to(&mut self, devices: &BTreeSet<u32>) -> Result<()> {
        self.see_to_by(TcAttachment::TcxLink, devices)
    }

    /// The same by one of both ways.
    pub fn see_to_by(&mut self, way: TcAttachment, devices: &BTreeSet<u32>) -> Result<()> {
        let failed = self.with(|dataplane| dataplane.reconcile_egress_programs_with(way, devices))?;
        if let Some((device, error)) = failed.into_iter().next() {
            bail!("device {device}: {:#}", anyhow::Error::from(error));
        }
        Ok(())
    }

    /// What leads probes.
    pub fn probes(&self) -> &ProbeSessions {
        &self.probes
    }

    /// Does something with the data plane in the director's namespace.
    pub fn with<T: Send>(&mut self, work: impl FnOnce(&mut Dataplane) -> T + Send) -> Result<T> {
        let dataplane = self.dataplane.as_mut().context("there until the drop")?;
        self.lab.director().enter(|| work(dataplane))
    }

    /// Does something in the director's namespace.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.lab.director().enter(work)
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        let dataplane = self.dataplane.take();
        // What could not be removed is a leftover for the next run.
        self.lab
            .director()
            .enter(|| dataplane.map(Dataplane::detach_and_unpin))
            .ok();
    }
}
