//! A director without a daemon: its data plane, in the namespace of the lab's director.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context as _, Result, bail};
use aya::programs::XdpMode;
use lbx::{
    dataplane::{Dataplane, local::probes::Probes},
    desired::TableSizes,
};
use lbx_tests::lab::Lab;

/// Small tables.
const SIZES: TableSizes = TableSizes {
    flows: 1 << 12,
    flows6: 1 << 12,
    slots: 1 << 16,
    ports: 1 << 12,
    fragments: 1 << 8,
};

/// The director and its lab. Nothing stays of it.
pub struct Prober {
    /// There until the drop.
    dataplane: Option<Dataplane>,
    probes: Arc<Probes>,
    /// The lab.
    pub lab: Lab,
}

impl Prober {
    /// A director whose programs are on these NICs.
    pub fn start(lab: Lab, nics: &[&str]) -> Result<Self> {
        let dataplane = lab.director().enter(|| Dataplane::open(lab.id(), SIZES))??;
        let mut prober = Self {
            probes: dataplane.probes(),
            dataplane: Some(dataplane),
            lab,
        };
        let devices = prober.devices(nics)?;
        for &device in &devices {
            prober.with(|dataplane| dataplane.attach(device, None, XdpMode::Driver))??;
        }
        prober.see_to(&devices)?;
        Ok(prober)
    }

    /// The indices of the director's NICs.
    pub fn devices(&self, nics: &[&str]) -> Result<BTreeSet<u32>> {
        let director = self.lab.director();
        nics.iter().map(|nic| director.interface_index(nic)).collect()
    }

    /// Has what exactly these devices send rewritten.
    pub fn see_to(&mut self, devices: &BTreeSet<u32>) -> Result<()> {
        let failed = self.with(|dataplane| dataplane.sync_egress(devices))?;
        if let Some((device, error)) = failed.into_iter().next() {
            bail!("device {device}: {:#}", anyhow::Error::from(error));
        }
        Ok(())
    }

    /// What leads probes.
    pub fn probes(&self) -> &Probes {
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
        self.lab.director().enter(|| dataplane.map(Dataplane::remove)).ok();
    }
}
