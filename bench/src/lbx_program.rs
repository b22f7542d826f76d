//! lbx as the bench loads it: through its library, tables made by its planner, without a daemon and without NICs of the host.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Result, ensure};
use aya::programs::ProgramFd;
use lbx::{
    dataplane::{Dataplane, clock},
    desired::{self, Desired, RealServer, Scheduler, Service, Timeouts, VirtualService},
    tables::{Hop, Hops, Tables as Mirror, census::Census},
};
use lbx_common::nic::{self, Nic};

use crate::{
    subject::{self, Mode, Tables},
    traffic::{DIRECTOR, Ip, Traffic, vip4},
};

/// Flows that fill lbx's table to half.
const FLOWS4_AT_HALF: u32 = lbx_common::maps::FLOW_BUCKETS * 2;
/// Index of lo, the NIC that test runs take for the ingress one.
const LO: u32 = 1;

/// What this lbx cannot do yet, if a row asks for it.
pub fn lacks(mode: Mode, traffic: &Traffic) -> Option<&'static str> {
    if traffic.ip == Ip::V6 {
        Some("this lbx does not balance IPv6")
    } else if traffic.tagged {
        Some("this lbx passes tagged frames")
    } else if !matches!(mode, Mode::Maglev | Mode::Rr) {
        Some("this lbx has no such mode")
    } else if traffic.flows > FLOWS4_AT_HALF && mode == Mode::Rr {
        Some("this lbx's table of flows is too small")
    } else {
        None
    }
}

/// lbx's program and its tables. Nothing of it stays.
pub struct Lbx {
    /// There until the drop.
    dataplane: Option<Dataplane>,
    mirror: Mirror,
    desired: Desired,
    hops: Hops,
}

impl Lbx {
    /// Loads the program; its services are at rest.
    ///
    /// # Errors
    /// The kernel refuses something, or lbx cannot do what the tables ask for.
    pub fn open(mode: Mode, tables: &Tables) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "bench-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let mut lbx = Self {
            dataplane: Some(Dataplane::open(&name)?),
            mirror: Mirror::default(),
            desired: cluster(mode, tables),
            // Twice as many, for the window.
            hops: (0..tables.servers() * 2)
                .map(|server| (rip(server), hop(server)))
                .collect(),
        };
        lbx.dataplane_mut().set_nic(Nic {
            mac: DIRECTOR,
            roles: nic::CLIENTS | nic::SERVERS,
            ifindex: LO,
            pad: 0,
        })?;
        lbx.plan()?;
        lbx.rest()?;
        for service in lbx.mirror.services.values() {
            let slots = service.slots_range.len;
            ensure!(
                slots == tables.slots(),
                "services have {slots} slots each instead of {}",
                tables.slots()
            );
        }
        Ok(lbx)
    }

    /// Replaces every real server, so that all slots are in their windows.
    ///
    /// # Errors
    /// The kernel refuses something.
    pub fn replace_servers(&mut self) -> Result<()> {
        for service in &mut self.desired.services {
            let count = service.servers.len() as u32;
            for server in &mut service.servers {
                server.weight = 0;
            }
            service.servers.extend((count..count * 2).map(real_server));
        }
        self.plan()
    }

    fn plan(&mut self) -> Result<()> {
        let plan = self.mirror.plan(&self.desired, &self.hops, clock::now())?;
        self.dataplane_mut().apply(&plan.writes)?;
        self.mirror = plan.tables;
        Ok(())
    }

    /// Slots rest two ticks after their last change.
    fn rest(&mut self) -> Result<()> {
        let census = Census {
            taken: clock::now() + 2,
            ..Census::default()
        };
        let plan = self.mirror.age(&census);
        self.dataplane_mut().apply(&plan.writes)?;
        self.mirror = plan.tables;
        Ok(())
    }

    fn dataplane(&self) -> &Dataplane {
        self.dataplane.as_ref().expect("there until the drop")
    }

    fn dataplane_mut(&mut self) -> &mut Dataplane {
        self.dataplane.as_mut().expect("there until the drop")
    }

    /// The program.
    ///
    /// # Errors
    /// It is not loaded.
    pub fn program(&self) -> Result<&ProgramFd> {
        Ok(self.dataplane().program()?.fd()?)
    }

    /// How many packets it has sent on.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn forwarded(&self) -> Result<u64> {
        self.mirror.services.values().try_fold(0, |sum, service| {
            Ok(sum + self.dataplane().service_traffic(service.number)?.packets)
        })
    }

    /// How many live records there are.
    pub fn records(&self) -> u64 {
        self.dataplane().sweep(&self.mirror, clock::now()).live
    }
}

impl Drop for Lbx {
    fn drop(&mut self) {
        if let Some(dataplane) = self.dataplane.take()
            && let Err(error) = dataplane.remove()
        {
            eprintln!("pins are left behind: {error}");
        }
    }
}

fn cluster(mode: Mode, tables: &Tables) -> Desired {
    let scheduler = match mode {
        Mode::Rr => Scheduler::Rr,
        _ => Scheduler::Maglev,
    };
    let service = |number| {
        let (vip, port) = vip4(number);
        let virtual_service = VirtualService {
            vip,
            port,
            protocol: tables.protocol,
        };
        Service {
            name: virtual_service.to_string(),
            virtual_service,
            scheduler,
            servers: (0..tables.servers()).map(real_server).collect(),
        }
    };
    Desired {
        interfaces: vec!["lo".to_owned()],
        mode: desired::Mode::Auto,
        // So long that nothing expires while the bench runs.
        timeouts: Timeouts {
            established: 57_600,
            udp: 57_600,
            ..Timeouts::default()
        },
        services: (0..tables.services).map(service).collect(),
    }
}

fn real_server(server: u32) -> RealServer {
    RealServer {
        address: rip(server),
        weight: 1,
    }
}

fn rip(server: u32) -> Ipv4Addr {
    (u32::from(Ipv4Addr::new(172, 16, 0, 0)) + server + 1).into()
}

fn hop(server: u32) -> Hop {
    Hop {
        mac: subject::mac(server),
        ifindex: LO,
        source: DIRECTOR,
    }
}
