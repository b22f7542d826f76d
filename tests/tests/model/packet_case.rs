//! One packet on its way: what was known before it came, its frame, and what became of it.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail, ensure};
use lbx::desired::{Protocol, VirtualService};
use lbx_common::{
    address::Address,
    counters::Traffic,
    drops::DropReason,
    flow::{FlowEntry, FlowKey},
};

use crate::{
    cluster::{self, Cluster, hop, identity},
    counters::Counted,
    expected::{Expected, Signal},
    frame::{Ends, Fragment, Frame},
    history::{Kind, Packet},
    model::Model,
    schedule::Loads,
};

const FIN: u8 = 1;
const SYN: u8 = 1 << 1;
const RST: u8 = 1 << 2;
const PSH: u8 = 1 << 3;
const ACK: u8 = 1 << 4;

/// The flow of a client's port to a port of a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowId {
    pub vip: IpAddr,
    pub protocol: Protocol,
    pub vip_port: u16,
    pub client: u8,
    pub port: u8,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketOutcome {
    Passed,
    Dropped(DropReason),
    Sent { service: usize, server: u8, new: bool },
}

/// A packet on its way, and what was known before it came.
pub struct PacketCase {
    pub id: FlowId,
    pub kind: Kind,
    pub signal: Signal,
    pub fragment: Option<u32>,
    /// The services it may be for, by what may be in force.
    pub services: Vec<Option<usize>>,
    /// What its client may expect.
    pub expected: Option<Expected>,
    pub loads: Loads,
}

impl PacketCase {
    /// Whether a new connection may begin with it.
    pub fn begins(&self) -> bool {
        matches!(self.signal, Signal::Open | Signal::Datagram)
    }
}

impl Model<'_> {
    /// A packet arrives and is judged.
    pub fn arrive(&mut self, packet: Packet) -> Result<()> {
        let case = self.case(packet)?;
        let frame = case.frame();
        let outcome = self.director.run(&frame)?;
        let counted = self.counters.follow(self.director.maps(), &self.state)?;
        let outcome = match outcome.action {
            1 | 2 => {
                ensure!(outcome.bytes == frame.bytes, "a frame that goes nowhere was changed");
                match (outcome.action, counted) {
                    (1, Counted::Dropped(reason)) => PacketOutcome::Dropped(reason),
                    (2, Counted::Nothing) => PacketOutcome::Passed,
                    (action, counted) => bail!("action {action}, and {counted:?}"),
                }
            }
            3 => self.sent(&case, &frame, &outcome.bytes, counted)?,
            action => bail!("action {action}"),
        };
        let judged = self
            .verify(&case, outcome)
            .and_then(|()| self.verify_scheduler(&case, outcome));
        if let Err(error) = judged {
            return Err(error.context(format!(
                "it was {outcome:?}, expected {:?} of {:?}",
                case.expected, case.services
            )));
        }
        self.expect_next(&case, outcome)
    }

    fn case(&self, packet: Packet) -> Result<PacketCase> {
        let service = identity(packet.service);
        let first = if service.port == 0 { 8000 } else { service.port };
        let id = FlowId {
            vip: service.vip,
            protocol: service.protocol,
            vip_port: first + u16::from(packet.offset),
            client: packet.client,
            port: packet.port,
        };
        let fragment = match packet.kind {
            Kind::First | Kind::Orphan => Some(Self::fragment_id()),
            Kind::Later => Some(self.fragments.get(&id).map_or_else(Self::fragment_id, |first| first.id)),
            _ => None,
        };
        let services: Vec<_> = self.in_force.iter().map(|cluster| id.service(cluster)).collect();
        let mut case = PacketCase {
            id,
            kind: packet.kind,
            signal: signal(packet.kind, id.is_udp()),
            fragment,
            loads: services
                .iter()
                .flatten()
                .next()
                .map_or_else(Loads::new, |&service| self.loads(service)),
            services,
            expected: self
                .flows
                .get(&id)
                .copied()
                .filter(|expected| expected.lives(self.now())),
        };
        if let Some(expected) = case.expected.filter(|_| !self.roomy) {
            let record = self.record(&id, expected.service)?;
            ensure!(
                record.is_some() || !expected.firm,
                "the record of {expected:?} was taken from it"
            );
            case.expected = case.expected.filter(|expected| expected.recorded && record.is_some());
        }
        Ok(case)
    }

    /// The record of a flow of a service: while a plan is carried out another may have one of the same.
    pub fn record(&self, id: &FlowId, service: usize) -> Result<Option<FlowEntry>> {
        let ends = id.ends();
        let address = match ends.client {
            IpAddr::V4(address) => Address::from_ipv4(address.octets()),
            IpAddr::V6(address) => Address::from_octets(address.octets()),
        };
        let services = self.state.iter().flat_map(|tables| &tables.services);
        let numbers: Vec<u16> = services
            .filter(|&(&other, _)| known_by(other) == Some(service))
            .map(|(_, loaded)| loaded.service_number)
            .collect();
        let own = |(key, entry): &(FlowKey, FlowEntry)| {
            key.client == address
                && key.client_port == ends.client_port.to_be_bytes()
                && entry.vip_port == id.vip_port.to_be_bytes()
                && numbers.contains(&key.service)
        };
        Ok(self.director.records()?.into_iter().find(own).map(|(_, entry)| entry))
    }

    /// To which real server a frame was sent, everything about it being right.
    fn sent(&self, case: &PacketCase, frame: &Frame, bytes: &[u8], counted: Counted) -> Result<PacketOutcome> {
        let Counted::Sent {
            service,
            counter,
            traffic,
        } = counted
        else {
            bail!("sent, and {counted:?}");
        };
        let six = case.id.vip.is_ipv6();
        let [from, server] = [bytes[4], bytes[5]];
        ensure!(
            bytes == frame.towards(&hop(six, server, from)),
            "the frame was changed: {bytes:02x?}, it was {:02x?}",
            frame.bytes
        );
        let known = |cluster: &Cluster| cluster.hops.get(&server) == Some(&from);
        ensure!(self.in_force.iter().any(known), "{server} is not where NIC {from} is");
        let address = cluster::address(six, server);
        let own = self
            .state
            .iter()
            .filter_map(|tables| tables.services.get(&service))
            .any(|loaded| {
                let mut members = loaded.backends.values();
                members.any(|member| member.counter_index == counter && member.address == address)
            });
        ensure!(own, "counted for {counter}, which is not the counter of {server}");
        let due = Traffic {
            packets: 1,
            bytes: frame.length,
            connections: traffic.connections.min(u64::from(case.begins())),
            fin_rst_packets: u64::from(matches!(case.signal, Signal::Finish | Signal::Reset)),
        };
        ensure!(traffic == due, "counted as {traffic:?} instead of {due:?}");
        let service = known_by(service).with_context(|| format!("{service} is no service"))?;
        ensure!(
            self.may[service].contains(&server),
            "{server} is no real server of service {service}"
        );
        let held = self.in_force.iter().all(|cluster| cluster.holds(service, server));
        ensure!(!held, "{server} is held");
        Ok(PacketOutcome::Sent {
            service,
            server,
            new: traffic.connections != 0,
        })
    }
}

/// The service that an identity is of. A daemon that died while it took a service away may have left its later ports alone,
/// and whoever adopts them knows it by the first of those.
fn known_by(id: VirtualService) -> Option<usize> {
    let exact = (0..cluster::SERVICES).find(|&n| identity(n) == id);
    exact.or_else(|| {
        (0..cluster::SERVICES).find(|&n| {
            let own = identity(n);
            (own.vip, own.protocol) == (id.vip, id.protocol) && own.port != 0 && own.port < id.port
        })
    })
}

fn signal(kind: Kind, udp: bool) -> Signal {
    match kind {
        Kind::Error | Kind::Later | Kind::Orphan => Signal::Mention,
        _ if udp => Signal::Datagram,
        Kind::Syn => Signal::Open,
        Kind::SynAck => Signal::Odd,
        Kind::Ack | Kind::Data | Kind::First => Signal::Data,
        Kind::Fin => Signal::Finish,
        Kind::Rst => Signal::Reset,
    }
}

impl FlowId {
    fn ends(&self) -> Ends {
        Ends {
            client: cluster::client(self.vip.is_ipv6(), self.client),
            client_port: 30_000 + u16::from(self.port),
            vip: self.vip,
            vip_port: self.vip_port,
        }
    }
}

impl PacketCase {
    fn frame(&self) -> Frame {
        const PAYLOAD: usize = 20;
        let ends = self.id.ends();
        let protocol = self.id.protocol.number();
        let first = self.fragment.map(|id| Fragment { id, offset: 0 });
        match self.kind {
            Kind::Error => ends.too_big(protocol),
            Kind::Later | Kind::Orphan => ends.later_fragment(protocol, self.fragment.unwrap_or_default()),
            Kind::First if self.id.is_udp() => ends.udp(PAYLOAD + 4, first),
            Kind::First => ends.tcp(PSH | ACK, PAYLOAD, first),
            _ if self.id.is_udp() => ends.udp(PAYLOAD, None),
            Kind::Syn => ends.tcp(SYN, 0, None),
            Kind::SynAck => ends.tcp(SYN | ACK, 0, None),
            Kind::Ack => ends.tcp(ACK, 0, None),
            Kind::Data => ends.tcp(PSH | ACK, PAYLOAD, None),
            Kind::Fin => ends.tcp(FIN | ACK, 0, None),
            Kind::Rst => ends.tcp(RST, 0, None),
        }
    }
}
