//! lbx in the bench: loaded through its library, tables written by its planner, without a daemon and without NICs of the host.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::Result;
use aya::programs::ProgramFd;
use lbx::{
    dataplane::{Dataplane, clock},
    desired::{
        self, DesiredState, FailurePolicy, HashOptions, Persistence, PortSet, RealServer, Scheduler, ServerState,
        Service, TableSizes, Timeouts, VirtualService,
    },
    tables::{NextHop, NextHops, Tables as Mirror, scan::FlowScanResult},
};
use lbx_common::{
    backend::VlanTags,
    nic::{self, Nic},
};

use crate::{
    program::SchedulerMode,
    tables::{TableContents, server_mac},
    traffic::{DIRECTOR_MAC, IpVersion, VLAN_ID, vip4, vip6},
};

/// Index of lo, the ingress NIC of test runs.
const LO: u32 = 1;
/// A timeout so long that nothing expires while the bench runs.
const FOREVER: u16 = 57_600;

/// lbx's program and its tables; removed when dropped.
pub struct LbxProgram {
    /// None only while being dropped.
    dataplane: Option<Dataplane>,
    mirror: Mirror,
    desired: DesiredState,
    hops: NextHops,
}

impl LbxProgram {
    /// Loads the program; no slot has a window.
    ///
    /// # Errors
    /// The kernel refuses something, or the tables exceed lbx's capacity.
    pub fn open(mode: SchedulerMode, tables: &TableContents) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "bench-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let desired = cluster(mode, tables);
        let dataplane = Dataplane::open(&name, desired.tables)?;
        let tags = if tables.tagged {
            VlanTags {
                outer: VLAN_ID,
                inner: 0,
            }
        } else {
            VlanTags::NONE
        };
        let mut lbx = Self {
            mirror: dataplane.empty_tables(),
            dataplane: Some(dataplane),
            desired,
            // Twice as many: replace_all_servers uses the second half.
            hops: (0..tables.servers_per_service() * 2)
                .map(|server| (rip(tables.ip_version, server), hop(server, tags)))
                .collect(),
        };
        lbx.dataplane_mut().set_nic(Nic {
            mac: DIRECTOR_MAC,
            roles: nic::CLIENT_FACING | nic::SERVER_FACING,
            ifindex: LO,
            vlan_tags: tags,
        })?;
        lbx.plan()?;
        lbx.settle()?;
        Ok(lbx)
    }

    /// Replaces every real server, so that all slots are in windows.
    ///
    /// # Errors
    /// The kernel refuses something.
    pub fn replace_all_servers(&mut self) -> Result<()> {
        for service in &mut self.desired.services {
            let count = service.servers.len() as u32;
            for server in &mut service.servers {
                server.weight = 0;
            }
            let ip = match service.virtual_service.vip {
                IpAddr::V4(_) => IpVersion::V4,
                IpAddr::V6(_) => IpVersion::V6,
            };
            service
                .servers
                .extend((count..count * 2).map(|server| real_server(ip, server)));
        }
        self.plan()
    }

    fn plan(&mut self) -> Result<()> {
        let plan = self.mirror.plan(&self.desired, &self.hops, clock::current_tick())?;
        self.dataplane_mut().apply(&plan.writes)?;
        self.mirror = plan.resulting_tables;
        Ok(())
    }

    /// Settles all slots: their windows close two ticks after their last change.
    fn settle(&mut self) -> Result<()> {
        let scan = FlowScanResult {
            tick: clock::current_tick() + 2,
            ..FlowScanResult::default()
        };
        let plan = self.mirror.plan_expiry(&scan);
        self.dataplane_mut().apply(&plan.writes)?;
        self.mirror = plan.resulting_tables;
        Ok(())
    }

    fn dataplane(&self) -> &Dataplane {
        self.dataplane.as_ref().expect("present until dropped")
    }

    fn dataplane_mut(&mut self) -> &mut Dataplane {
        self.dataplane.as_mut().expect("present until dropped")
    }

    /// The program.
    ///
    /// # Errors
    /// It is not loaded.
    pub fn program(&self) -> Result<&ProgramFd> {
        Ok(self.dataplane().program()?.fd()?)
    }

    /// Number of packets it has forwarded.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn forwarded(&self) -> Result<u64> {
        self.mirror.services.values().try_fold(0, |sum, service| {
            Ok(sum + self.dataplane().service_traffic(service.service_number)?.packets)
        })
    }

    /// Number of live records.
    pub fn live_records(&self) -> u64 {
        self.dataplane()
            .sweep_flows(&self.mirror, clock::current_tick())
            .live_records
    }
}

impl Drop for LbxProgram {
    fn drop(&mut self) {
        if let Some(dataplane) = self.dataplane.take()
            && let Err(error) = dataplane.detach_and_unpin()
        {
            eprintln!("cannot remove the pins: {error}");
        }
    }
}

/// The desired state.
fn cluster(mode: SchedulerMode, tables: &TableContents) -> DesiredState {
    let scheduler = match mode {
        SchedulerMode::Maglev => Scheduler::Maglev,
        SchedulerMode::Sh => Scheduler::Sh,
        SchedulerMode::Rr | SchedulerMode::Persistent => Scheduler::Rr,
        SchedulerMode::Wlc => Scheduler::Wlc,
    };
    let service = |number| {
        let (vip, port) = match tables.ip_version {
            IpVersion::V4 => ipv4(vip4(number)),
            IpVersion::V6 => ipv6(vip6(number)),
        };
        let virtual_service = VirtualService {
            vip,
            port,
            protocol: tables.protocol,
        };
        Service {
            name: virtual_service.to_string(),
            virtual_service,
            ports: PortSet::one(port),
            scheduler,
            hash_options: HashOptions {
                include_port: scheduler == Scheduler::Maglev,
                fallback: true,
            },
            slots: Some(tables.slots_per_service()),
            persistence: (mode == SchedulerMode::Persistent).then_some(Persistence {
                timeout_seconds: FOREVER,
                prefix: if tables.ip_version == IpVersion::V4 { 32 } else { 128 },
                persist_while_draining: true,
            }),
            one_packet: false,
            sorry_server: None,
            quic: false,
            health: None,
            failure_policy: FailurePolicy::default(),
            drain_timeout_seconds: None,
            notify: None,
            local_access: true,
            awaits_checks: false,
            failed_removed_servers: std::collections::BTreeSet::new(),
            servers: (0..tables.servers_per_service())
                .map(|server| real_server(tables.ip_version, server))
                .collect(),
        }
    };
    // A persistent client has a template besides the records of its flows.
    let entries = tables.flows * if mode == SchedulerMode::Persistent { 2 } else { 1 };
    let records = (entries * 2).next_power_of_two();
    let default = TableSizes::default();
    DesiredState {
        interfaces: vec!["lo".to_owned()],
        mode: desired::AttachMode::Auto,
        network_grace_seconds: 0,
        timeouts: Timeouts {
            established_seconds: FOREVER,
            udp_seconds: FOREVER,
            ..Timeouts::default()
        },
        tables: match tables.ip_version {
            IpVersion::V4 => TableSizes {
                flows4: default.flows4.max(records),
                ..default
            },
            IpVersion::V6 => TableSizes {
                flows6: default.flows6.max(records),
                ..default
            },
        },
        services: (0..tables.services).map(service).collect(),
    }
}

fn ipv4((vip, port): (Ipv4Addr, u16)) -> (IpAddr, u16) {
    (vip.into(), port)
}

fn ipv6((vip, port): (Ipv6Addr, u16)) -> (IpAddr, u16) {
    (vip.into(), port)
}

fn real_server(ip: IpVersion, server: u32) -> RealServer {
    RealServer {
        address: rip(ip, server),
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
        quic_id: None,
        state: ServerState::Up,
    }
}

fn rip(ip: IpVersion, server: u32) -> IpAddr {
    match ip {
        IpVersion::V4 => Ipv4Addr::from_bits(Ipv4Addr::new(172, 16, 0, 1).to_bits() + server).into(),
        IpVersion::V6 => {
            Ipv6Addr::from_bits(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).to_bits() + u128::from(server)).into()
        }
    }
}

fn hop(server: u32, tags: VlanTags) -> NextHop {
    NextHop {
        mac: server_mac(server),
        ifindex: LO,
        vlan_tags: [tags.outer, tags.inner],
        source: DIRECTOR_MAC,
    }
}
