//! The report behind `lbx list`.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    net::IpAddr,
};

use lbx_common::{counters, drops::DropReason};

use crate::{
    control::report::{Interface, RealServer, ServerState, Service, StatusReport},
    dataplane::{Dataplane, DataplaneError},
    desired::{self, DesiredState, PortSet},
    director::{
        health::HealthChecks,
        network::{
            host_packets::HostPacketsByDevice, lost_frames::LostFrames, neighbours::NeighbourTable,
            routed_replies::DroppedReplies, segment::Segment, topology::Topology, vip_conflicts::VipConflicts,
        },
        self_test::SelfTest,
    },
    health::{ProbeFailure, ServerHealth},
    net::Link,
    tables::{
        Tables,
        event::{mac, resolver},
        members::{self, DesiredServer},
        scan::{FlowCounts, FlowScanResult},
        service::{LoadedBackend, LoadedService},
    },
};

/// Why a real server that has passed its first check gets no connections yet.
const IN_FIRST_ROUND: &str = "health check passed; its service begins when all real servers have a first result";

/// What a report is made of.
pub struct ReportSources<'s> {
    /// The director's name.
    pub name: &'s str,
    /// What the operator wants.
    pub desired: &'s DesiredState,
    /// What is known of the real servers' health.
    pub checks: &'s HealthChecks,
    /// Who else answers for a VIP.
    pub vip_conflicts: &'s VipConflicts,
    /// Replies of real servers that this host drops.
    pub dropped_replies: &'s DroppedReplies,
    /// Packets for services that reach this host's own stack.
    pub host_packets: &'s HostPacketsByDevice,
    /// Frames that are dropped after the verdict.
    pub lost_frames: &'s LostFrames,
    /// Frames that the loaded program does not forward.
    pub self_test: &'s SelfTest,
    /// Whose MAC addresses are known.
    pub neighbours: &'s NeighbourTable,
    /// What is loaded.
    pub tables: &'s Tables,
    /// Where counters are read.
    pub dataplane: &'s Dataplane,
    /// Flows, counted just now.
    pub scan: &'s FlowScanResult,
    /// For flows that have no record.
    pub estimator: &'s ConnectionEstimator,
    /// The NICs of this host, as they are now.
    pub links: &'s [Link],
    /// Which of them take part.
    pub topology: &'s Topology,
}

impl ReportSources<'_> {
    /// Makes the report.
    ///
    /// # Errors
    /// A counter cannot be read.
    pub fn report(&self) -> Result<StatusReport, DataplaneError> {
        let drops = DropReason::ALL
            .iter()
            .map(|&reason| Ok((reason.name().to_owned(), self.dataplane.drops(reason)?)));
        let (flows4, flows6) = self.dataplane.flow_capacity();
        let [flows4, flows6] = [flows4, flows6].map(|records| records as u64);
        let mut services: Vec<_> = self.desired.services.iter().collect();
        services.sort_by_key(|service| service.virtual_service);
        Ok(StatusReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            name: self.name.to_owned(),
            pid: std::process::id(),
            interfaces: self.interfaces()?,
            flow_capacity: flows4 + flows6,
            flow_records: self.scan.live_records,
            services: services
                .into_iter()
                .map(|service| self.service(service))
                .collect::<Result<_, _>>()?,
            drops: drops.collect::<Result<BTreeMap<_, _>, DataplaneError>>()?,
        })
    }

    fn interfaces(&self) -> Result<Vec<Interface>, DataplaneError> {
        let attached = self.dataplane.attached_nics()?;
        let links = self.links.iter().filter(|link| attached.contains(&link.index));
        let interfaces = links.map(|link| Interface {
            name: link.name.clone(),
            xdp_mode: match link.xdp {
                Some(xdp) if xdp.native => "native",
                Some(_) => "generic",
                None => "none",
            }
            .to_owned(),
            warnings: self
                .dropped_replies
                .warnings_of(link.index)
                .chain(self.lost_frames_of(link.index))
                .chain(self.self_test.warnings_of(link.index))
                .collect(),
        });
        Ok(interfaces.collect())
    }

    /// Warnings of lost frames: of a bond too those that its members lose.
    fn lost_frames_of(&self, nic: u32) -> impl Iterator<Item = String> {
        let members = self.topology.members_of_bond(nic).iter().map(|member| member.index);
        let devices = std::iter::once(nic).chain(members);
        devices.flat_map(|device| self.lost_frames.warnings_of(device))
    }

    fn service(&self, service: &desired::Service) -> Result<Service, DataplaneError> {
        let id = service.virtual_service;
        let loaded = self.tables.services.get(&id).map(AsRef::as_ref);
        let traffic = match loaded {
            Some(loaded) => self.dataplane.service_traffic(loaded.service_number)?,
            None => counters::Traffic::default(),
        };
        let mut servers = Vec::new();
        for configured in members::desired_servers(service) {
            let member = loaded.and_then(|loaded| loaded.usable_backend(configured.address));
            let listed = match (loaded, member) {
                (Some(loaded), Some((index, member))) => self.server(service, loaded, index, member)?,
                _ => self.unresolved(loaded, &configured)?,
            };
            let listed = RealServer {
                quic_id: configured.quic_server_id,
                ..listed
            };
            servers.push(if configured.sorry {
                listed
            } else {
                self.with_health(service, listed)
            });
        }
        for (loaded, (&index, member)) in loaded
            .iter()
            .flat_map(|loaded| loaded.backends.iter().map(move |m| (loaded, m)))
        {
            if !member.is_configured() && member.state.may_own_flows() {
                let listed = self.server(service, loaded, index, member)?;
                servers.push(self.with_health(service, listed));
            }
        }
        Ok(Service {
            name: service.name.clone(),
            vip: id.vip,
            port: id.port,
            ports: match &service.ports {
                PortSet::All => Vec::new(),
                PortSet::Ranges(ranges) => ranges.clone(),
            },
            protocol: id.protocol,
            scheduling: service.into(),
            slots: service.slots,
            sorry_server: service.sorry_server,
            quic: service.quic,
            health_check: service.health.as_ref().map(|health| health.check.to_string()),
            has_quorum: self.checks.has_quorum(id),
            warnings: {
                let conflicts = self.conflicts(id.vip, &servers).into_iter();
                conflicts.chain(self.host_packets.warnings_of(id.vip)).collect()
            },
            connections_estimated: !service.records_all_flows() && !service.one_packet,
            traffic: traffic.into(),
            servers,
        })
    }

    fn server(
        &self,
        service: &desired::Service,
        loaded: &LoadedService,
        index: u16,
        member: &LoadedBackend,
    ) -> Result<RealServer, DataplaneError> {
        let traffic = self.dataplane.backend_traffic(member.counter_index)?;
        let flows = if service.one_packet {
            // Each ends with its datagram; records of the service's former configuration are none of its own.
            FlowCounts::default()
        } else if service.records_all_flows() {
            self.scan
                .flows
                .get(&(loaded.service_number, index))
                .copied()
                .unwrap_or_default()
        } else {
            self.estimator.flows(member.counter_index, &traffic)
        };
        let flows = flows.as_in_ipvs(service.virtual_service.protocol);
        let segment = self.topology.segments.get(&Segment::from(&member.next_hop));
        Ok(RealServer {
            address: member.address,
            weight: member.weight,
            upper_threshold: member.upper_threshold,
            lower_threshold: member.lower_threshold,
            quic_id: None,
            state: match member {
                member if member.sorry && member.is_configured() => ServerState::Sorry,
                member if member.accepts_connections() => ServerState::Up,
                _ => ServerState::Draining,
            },
            reason: None,
            drain_seconds_left: service
                .drain_timeout_seconds
                .and_then(|timeout| member.drain_seconds_left(timeout, self.scan.tick)),
            effective_weight: None,
            warnings: self.address_conflicts(member).collect(),
            mac: Some(mac(member.next_hop.mac)),
            interface: segment.map(|segment| segment.device.name.clone()),
            active_connections: flows.active,
            inactive_connections: flows.inactive,
            traffic: traffic.into(),
        })
    }

    /// Who else has the address of a real server.
    fn address_conflicts(&self, member: &LoadedBackend) -> impl Iterator<Item = String> {
        let (address, in_use) = (member.address, mac(member.next_hop.mac));
        self.neighbours.conflicting_macs(address).map(move |other| {
            let (other, resolver) = (mac(other), resolver(address));
            format!("address conflict: {in_use} and {other} both answer {resolver} for it; packets go to {in_use}")
        })
    }

    /// A real server with what its checks say and what else is to be known of it.
    fn with_health(&self, service: &desired::Service, listed: RealServer) -> RealServer {
        let server = (service.virtual_service, listed.address);
        let configured = service.servers.iter().find(|server| server.address == listed.address);
        let known = self
            .checks
            .probe_state(server, self.neighbours.is_resolved(listed.address));
        let (state, reason) = match known {
            ServerHealth::Up { .. } if self.checks.is_in_first_round(service.virtual_service) => {
                (ServerState::Down, Some(IN_FIRST_ROUND.to_owned()))
            }
            ServerHealth::Up { .. } => (listed.state, None),
            ServerHealth::Down(ProbeFailure::NoMac) => {
                let unreachable = self.topology.unreachable.get(&listed.address).cloned();
                let reason = unreachable.unwrap_or_else(|| ProbeFailure::NoMac.to_string());
                (ServerState::Unresolved, Some(reason))
            }
            ServerHealth::Down(reason) => (ServerState::Down, Some(reason.to_string())),
            ServerHealth::Unknown => {
                let reason = self
                    .checks
                    .suspension_reason(server)
                    .unwrap_or(&ProbeFailure::NotProbed);
                (ServerState::Down, Some(reason.to_string()))
            }
        };
        let vip_conflicts = self.vip_conflicts.conflicting_macs(service.virtual_service.vip);
        let answers = vip_conflicts.into_iter().any(|theirs| Some(mac(theirs)) == listed.mac);
        let resolver_of_vip = resolver(service.virtual_service.vip);
        let warning = format!(
            "answers {resolver_of_vip} for the VIP: clients may bypass the director (see `lbx realserver check`)"
        );
        let suspension = self.checks.suspension_reason(server);
        let suspension = suspension.map(|reason| format!("health checks suspended, last state kept: {reason}"));
        RealServer {
            weight: configured.map_or(listed.weight, |configured| configured.weight),
            state,
            reason,
            effective_weight: self.checks.effective_weight(server),
            warnings: listed
                .warnings
                .into_iter()
                .chain(answers.then_some(warning))
                .chain(suspension)
                .collect(),
            ..listed
        }
    }

    /// Who answers ARP or neighbour discovery for a VIP besides this director's client NICs and real servers, which have warnings of their own.
    fn conflicts(&self, vip: IpAddr, servers: &[RealServer]) -> Vec<String> {
        let known = |address: &String| servers.iter().any(|server| server.mac.as_ref() == Some(address));
        let resolver = resolver(vip);
        let conflicts = self
            .vip_conflicts
            .conflicting_macs(vip)
            .map(|theirs| (theirs, mac(theirs)));
        conflicts
            .filter(|(_, address)| !known(address))
            .map(
                |(theirs, address)| match self.topology.non_client_devices.get(&theirs) {
                    Some(interface) => {
                        format!(
                            "{interface} of this host answers {resolver} for the VIP too: clients may be refused there"
                        )
                    }
                    None => {
                        format!(
                            "another host ({address}) answers {resolver} for the VIP: clients may bypass the director"
                        )
                    }
                },
            )
            .collect()
    }

    /// A real server without a MAC address. What it carried before it was lost still counts.
    fn unresolved(&self, loaded: Option<&LoadedService>, server: &DesiredServer) -> Result<RealServer, DataplaneError> {
        let counter = loaded.and_then(|loaded| loaded.previous_counter_index(server.address));
        let traffic = match counter {
            Some(counter) => self.dataplane.backend_traffic(counter)?,
            None => counters::Traffic::default(),
        };
        Ok(RealServer {
            address: server.address,
            weight: server.weight,
            upper_threshold: server.upper_threshold,
            lower_threshold: server.lower_threshold,
            quic_id: None,
            state: ServerState::Unresolved,
            reason: self.topology.unreachable.get(&server.address).cloned(),
            drain_seconds_left: None,
            effective_weight: None,
            warnings: Vec::new(),
            mac: None,
            interface: None,
            active_connections: 0,
            inactive_connections: 0,
            traffic: traffic.into(),
        })
    }
}

/// Estimates connections where no flow is recorded: what began and has not ended is active, what ended within the
/// closing timeout is inactive.
#[derive(Debug, Default)]
pub struct ConnectionEstimator {
    /// Tick, and FIN and RST packets until then, by backend counter; the oldest first.
    samples: HashMap<u32, VecDeque<(u32, u64)>>,
}

/// Ticks between two samples.
const SAMPLE_EVERY: u32 = 5;

impl ConnectionEstimator {
    /// Takes samples of all backends of hashed services. `window` is the closing timeout in ticks.
    ///
    /// # Errors
    /// A counter cannot be read.
    pub fn sample(
        &mut self,
        dataplane: &Dataplane,
        tables: &Tables,
        now: u32,
        window: u32,
    ) -> Result<(), DataplaneError> {
        let hashed = tables.services.values().filter(|service| !service.records_all());
        let counters: HashSet<u32> = hashed
            .flat_map(|service| service.backends.values().map(|m| m.counter_index))
            .collect();
        self.samples.retain(|counter, _| counters.contains(counter));
        for counter in counters {
            let samples = self.samples.entry(counter).or_default();
            if samples
                .back()
                .is_some_and(|&(at, _)| now.wrapping_sub(at) < SAMPLE_EVERY)
            {
                continue;
            }
            samples.push_back((now, dataplane.backend_traffic(counter)?.fin_rst_packets));
            while samples.front().is_some_and(|&(at, _)| now.wrapping_sub(at) > window) {
                samples.pop_front();
            }
        }
        Ok(())
    }

    fn flows(&self, counter: u32, traffic: &counters::Traffic) -> FlowCounts {
        let before = self
            .samples
            .get(&counter)
            .and_then(|samples| samples.front())
            .map_or(0, |&(_, endings)| endings);
        FlowCounts {
            active: traffic.connections.saturating_sub(traffic.fin_rst_packets),
            inactive: traffic.fin_rst_packets.saturating_sub(before),
        }
    }
}
