//! A director without a daemon, whose clock the test moves: the real program, its tables made by the real planner.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Map, MapData};
use lbx::{
    dataplane::Dataplane,
    desired::{
        AttachMode, DesiredState, FailurePolicy, HashOptions, OnEmpty, PortSet, Protocol, RealServer, Scheduler,
        ServerState, Service, TableSizes, Timeouts, VirtualService,
    },
    tables::{NextHop, NextHops, Tables, scan::FlowScanResult},
};
use lbx_common::{
    flow::{TICK_MASK, TICK_SHIFT},
    maps::ABI,
    nic::{self, Nic},
};
use lbx_tests::{bpffs, leftovers};

use crate::{memory::Memory, stress_xdp::StressXdp};

/// Index of lo, the NIC that test runs take for the ingress one.
pub const LO: u32 = 1;
/// The director's MAC address.
pub const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 1, 0];
/// Whence clients' frames come.
pub const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 2, 0];
/// Nanoseconds of a second.
pub const SECOND: u64 = 1_000_000_000;

/// The director of one test. Nothing of it stays, after a panic neither.
pub struct Director {
    /// There until the drop.
    dataplane: Option<Dataplane>,
    name: String,
    /// What was planned last.
    pub tables: Tables,
    /// What is planned next.
    pub desired: DesiredState,
    /// Where real servers are.
    pub hops: NextHops,
    /// The time, in nanoseconds.
    pub now: u64,
}

impl Director {
    /// A director of these services, all slots at rest, its tables of these sizes.
    pub fn open(sizes: TableSizes, services: Vec<Service>) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        leftovers::sweep_once();
        bpffs::mount_if_missing()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = leftovers::name_for(std::process::id(), number) + "-stress";
        let dataplane = Dataplane::open_with_test_clock(&name, sizes)?;
        let tables = dataplane.empty_tables();
        let mut director = Self {
            dataplane: Some(dataplane),
            name,
            tables,
            desired: DesiredState {
                interfaces: vec!["lo".to_owned()],
                mode: AttachMode::Auto,
                network_grace_seconds: 0,
                timeouts: Timeouts::default(),
                tables: sizes,
                services,
            },
            hops: hops(),
            now: 0,
        };
        let nic = Nic {
            mac: OWN_MAC,
            roles: nic::CLIENT_FACING | nic::SERVER_FACING,
            ifindex: LO,
            vlan_tags: lbx_common::backend::VlanTags::default(),
        };
        director.dataplane_mut().set_nic(nic)?;
        director.pass(1_000_000 * SECOND)?;
        director.plan()?;
        // Slots rest two ticks after their last change.
        director.pass(4 * SECOND)?;
        director.sweep()?;
        Ok(director)
    }

    /// The data plane.
    pub fn dataplane(&self) -> &Dataplane {
        self.dataplane.as_ref().expect("there until the drop")
    }

    /// The data plane, to change it.
    pub fn dataplane_mut(&mut self) -> &mut Dataplane {
        self.dataplane.as_mut().expect("there until the drop")
    }

    /// A stress_xdp for its program.
    pub fn stress_xdp(&self) -> Result<StressXdp> {
        StressXdp::load(self.dataplane().program()?)
    }

    /// Lets so many nanoseconds pass.
    pub fn pass(&mut self, nanoseconds: u64) -> Result<()> {
        self.now += nanoseconds;
        let now = self.now;
        Ok(self.dataplane_mut().set_test_clock(now)?)
    }

    /// The tick it is.
    pub fn tick(&self) -> u32 {
        (self.now >> TICK_SHIFT) as u32 & TICK_MASK
    }

    /// Brings the maps to what is desired.
    pub fn plan(&mut self) -> Result<()> {
        let plan = self.tables.plan(&self.desired, &self.hops, self.tick())?;
        self.dataplane_mut().apply(&plan.writes)?;
        self.tables = plan.resulting_tables;
        Ok(())
    }

    /// What the daemon does every two seconds.
    pub fn sweep(&mut self) -> Result<FlowScanResult> {
        let scan = self.dataplane().sweep_flows(&self.tables, self.tick());
        let plan = self.tables.plan_expiry(&scan);
        self.dataplane_mut().apply(&plan.writes)?;
        self.tables = plan.resulting_tables;
        Ok(scan)
    }

    /// A map as it lies in memory.
    pub fn memory<T: Copy>(&self, map: &str) -> Result<Memory<T>> {
        let path: PathBuf = bpffs::pins_of(&self.name).join(format!("v{ABI}")).join(map);
        let data = MapData::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
        match Map::from_map_data(data)? {
            Map::Array(data) => Memory::of(&data),
            _ => anyhow::bail!("{map} is no array"),
        }
    }

    /// The number of a service.
    pub fn number(&self, service: VirtualService) -> u16 {
        self.tables.services[&service].service_number
    }

    /// Checks that the connections the program counts are those that have records.
    pub fn loads_agree(&self) -> Result<()> {
        let scan = self.dataplane().sweep_flows(&self.tables, self.tick());
        for (id, service) in &self.tables.services {
            for (&index, member) in &service.backends {
                let found = scan
                    .flows
                    .get(&(service.service_number, index))
                    .copied()
                    .unwrap_or_default();
                let counted = self.dataplane().backend_load(member.counter_index);
                ensure!(
                    (u64::from(counted.active), u64::from(counted.inactive)) == (found.active, found.inactive),
                    "{id}: {} has {found:?} by its records, {counted:?} by the program's count",
                    member.address
                );
            }
        }
        Ok(())
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        if let Some(dataplane) = self.dataplane.take() {
            // What could not be removed is a leftover for the next run.
            dataplane.detach_and_unpin().ok();
        }
    }
}

/// A service of these real servers, each of weight 1.
pub fn service(id: VirtualService, scheduler: Scheduler, servers: impl IntoIterator<Item = u8>) -> Service {
    Service {
        name: id.to_string(),
        virtual_service: id,
        ports: PortSet::one(id.port),
        scheduler,
        hash_options: HashOptions {
            include_port: true,
            fallback: true,
        },
        slots: Some(1021),
        persistence: None,
        one_packet: false,
        sorry_server: None,
        quic: false,
        health: None,
        failure_policy: FailurePolicy {
            on_empty: OnEmpty::Drop,
            ..FailurePolicy::default()
        },
        drain_timeout_seconds: None,
        notify: None,
        local_access: true,
        awaits_checks: false,
        failed_removed_servers: std::collections::BTreeSet::new(),
        servers: servers
            .into_iter()
            .map(|number| server(address_of(id.vip, number), 1))
            .collect(),
    }
}

/// A real server without limits.
pub const fn server(address: IpAddr, weight: u16) -> RealServer {
    RealServer {
        address,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
        quic_id: None,
        state: ServerState::Up,
    }
}

/// What a service is known by.
pub const fn id(vip: IpAddr, port: u16, protocol: Protocol) -> VirtualService {
    VirtualService { vip, port, protocol }
}

/// The address of the n-th real server, of the family of a VIP.
pub const fn address_of(vip: IpAddr, number: u8) -> IpAddr {
    match vip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(192, 0, 2, number)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, number as u16)),
    }
}

/// The MAC address of the n-th real server.
pub const fn mac_of(number: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, number]
}

/// Real servers there are.
const SERVERS: u8 = 9;

/// Where real servers are: all on the ingress NIC.
fn hops() -> NextHops {
    let hop = |number| NextHop {
        mac: mac_of(number),
        ifindex: LO,
        vlan_tags: [0; 2],
        source: OWN_MAC,
    };
    let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let numbers = || (1..=SERVERS).map(move |number| (number, hop(number)));
    any.iter()
        .flat_map(|&vip| numbers().map(move |(number, hop)| (address_of(vip, number), hop)))
        .collect()
}

/// The number of the real server that a frame goes to, if it goes to one.
pub fn sent_to(frame: &[u8]) -> Option<u8> {
    let number = *frame.get(5)?;
    (frame[..6] == mac_of(number) && frame[6..12] == OWN_MAC).then_some(number)
}
