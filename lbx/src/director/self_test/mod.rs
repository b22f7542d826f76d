//! The self-test of the data path: after each change a frame for every service through the loaded program and its maps, as if each
//! NIC of clients had received it ([`frame`]). What becomes of it is compared with the tables, and taken off the counters again.
//!
//! It is bounded by time, a part each second, so that neither start nor loop waits for it.

pub mod frame;

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use lbx_common::{counters::CountedFrame, nic::Nic, slot::Slot};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity},
    unistd::Pid,
};

use self::frame::{CLIENT_PORT, TestFrame, client_of, mac_addresses};
use super::network::{
    nics::{client_nics, interface_name},
    topology::Topology,
};
use crate::{
    dataplane::{
        Dataplane, DataplaneError,
        test_frame::{TestOutcome, XdpAction},
    },
    desired::{PortSet, VirtualService},
    tables::{
        Tables,
        lookup::address,
        members::{BackendState, LoadedBackend},
        service::LoadedService,
    },
};

/// Time that it takes of a second at most.
const TIME_EACH_SECOND: Duration = Duration::from_millis(5);

/// The state of the self-test.
#[derive(Debug, Default)]
pub struct SelfTest {
    /// Something has changed since the round began.
    is_requested: bool,
    /// The services that the round has not tested yet.
    queue: VecDeque<VirtualService>,
    /// What the round has found so far.
    round: BTreeMap<(u32, Fault), Finding>,
    /// What the last whole round found, by NIC.
    findings: BTreeMap<(u32, Fault), Finding>,
    /// Why the last test could not be run: reported once.
    refusal: Option<String>,
}

/// What is wrong with a frame after the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Passed,
    Dropped,
    WrongNextHop,
}

/// The services of which frames on one NIC have one fault.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    interface: String,
    first: VirtualService,
    services: usize,
}

impl SelfTest {
    /// Has all services tested anew: tables or NICs have changed.
    pub fn request(&mut self) {
        self.is_requested = true;
    }

    /// Tests the next services, as many as the time allows; logs what a round has found, where that is new.
    pub fn on_second(&mut self, dataplane: &mut Dataplane, tables: &Tables, topology: &Topology) {
        if self.queue.is_empty() {
            if !std::mem::take(&mut self.is_requested) {
                return;
            }
            self.queue.extend(tables.services.keys().copied());
            self.round.clear();
        }
        let nics = client_nics(topology);
        let began = Instant::now();
        let _pinned = PinnedThread::new();
        while began.elapsed() < TIME_EACH_SECOND
            && let Some(id) = self.queue.pop_front()
        {
            let Some(loaded) = tables.services.get(&id) else {
                continue;
            };
            for nic in &nics {
                match test(dataplane, tables, id, loaded, nic) {
                    Ok(None) => {}
                    Ok(Some(fault)) => self.add(id, fault, nic, topology),
                    Err(error) => {
                        self.queue.clear();
                        self.log_refusal(format!("{:#}", anyhow::Error::from(error)));
                        return;
                    }
                }
            }
        }
        if self.queue.is_empty() {
            self.end_round();
        }
    }

    /// A NIC may have gone meanwhile: the next change is tested again.
    fn log_refusal(&mut self, refusal: String) {
        if self.refusal.as_ref() != Some(&refusal) {
            tracing::warn!("self-test cannot run, the data path is not tested: {refusal}");
            self.refusal = Some(refusal);
        }
    }

    fn add(&mut self, service: VirtualService, fault: Fault, nic: &Nic, topology: &Topology) {
        let finding = self.round.entry((nic.ifindex, fault)).or_insert_with(|| Finding {
            interface: interface_name(topology, nic.ifindex),
            first: service,
            services: 0,
        });
        finding.services += 1;
    }

    /// Logs what is new since the round before, and what is over.
    fn end_round(&mut self) {
        let round = std::mem::take(&mut self.round);
        for ((nic, fault), finding) in &round {
            if !self.findings.contains_key(&(*nic, *fault)) {
                let Finding {
                    interface,
                    first,
                    services,
                } = finding;
                tracing::warn!(interface, service = %first, services, "{}", fault.message(finding));
            }
        }
        // Of a NIC that is gone, or whose services are gone, nothing is left to fail.
        let fails = |nic: u32| round.keys().any(|(failing, _)| *failing == nic);
        let interfaces: BTreeMap<_, _> = self
            .findings
            .iter()
            .map(|((nic, _), finding)| (*nic, &finding.interface))
            .collect();
        for (_, interface) in interfaces.into_iter().filter(|(nic, _)| !fails(*nic)) {
            tracing::info!(interface, "self-test no longer fails on {interface}");
        }
        self.findings = round;
    }

    /// What an operator should know of a NIC.
    pub fn warnings_of(&self, nic: u32) -> impl Iterator<Item = String> {
        let findings = self.findings.iter().filter(move |((ifindex, _), _)| *ifindex == nic);
        findings.map(|((_, fault), finding)| fault.message(finding))
    }
}

impl Fault {
    fn message(self, finding: &Finding) -> String {
        let Finding {
            interface,
            first,
            services,
        } = finding;
        let more = match services {
            1 => String::new(),
            _ => format!(" and {} more services", services - 1),
        };
        let what = match self {
            Self::Passed => "reach this host's own stack, which refuses connections",
            Self::Dropped => "are dropped although a real server is up",
            Self::WrongNextHop => "are sent to a MAC address of none of its real servers",
        };
        format!(
            "self-test failed on {interface}: frames for {first}{more} {what}; the loaded tables are not what lbx wrote: stop and start \
             lbx, and find what else writes to its maps"
        )
    }
}

/// The fault of a frame for a service on a NIC, if it has one. A service that no real server is there for is not tested.
fn test(
    dataplane: &mut Dataplane,
    tables: &Tables,
    id: VirtualService,
    loaded: &LoadedService,
    nic: &Nic,
) -> Result<Option<Fault>, DataplaneError> {
    let Some(port) = port_of(tables, id, loaded) else {
        return Ok(None);
    };
    let frame = TestFrame::new(id, port, nic);
    let Some(expected) = expected_backend(loaded, id.vip, port) else {
        return Ok(None);
    };
    let outcome = dataplane.test_frame(nic.ifindex, &frame.bytes)?;
    Ok(match outcome.action {
        XdpAction::Pass => Some(Fault::Passed),
        XdpAction::Drop | XdpAction::Aborted => Some(Fault::Dropped),
        XdpAction::Tx | XdpAction::Redirect => match receiver(loaded, expected, &outcome) {
            Some(member) => {
                dataplane.uncount_test_frame(CountedFrame {
                    service: loaded.service_number.into(),
                    backend_counter: member.counter_index,
                    bytes: frame.ip_length,
                })?;
                None
            }
            None => Some(Fault::WrongNextHop),
        },
    })
}

/// A port that is the service's and no other's.
fn port_of(tables: &Tables, id: VirtualService, loaded: &LoadedService) -> Option<u16> {
    if let PortSet::Ranges(ranges) = &loaded.ports {
        return ranges.first().map(|range| *range.start());
    }
    let others = || {
        let of_vip = |other: &VirtualService| other.vip == id.vip && other.protocol == id.protocol && *other != id;
        tables.services.iter().filter(move |(other, _)| of_vip(other))
    };
    (1..=u16::MAX).find(|&port| {
        let port = PortSet::one(port);
        !others().any(|(_, other)| other.ports.overlaps(&port))
    })
}

/// The backend that the slot of the frame leads to. None where there is none, or where one that has failed may keep its flows waiting.
fn expected_backend(loaded: &LoadedService, vip: IpAddr, port: u16) -> Option<&LoadedBackend> {
    let client = address(client_of(vip));
    let slot = loaded.slot_of(vip, client, CLIENT_PORT.to_be_bytes(), port.to_be_bytes());
    let Slot {
        current,
        owner,
        has_records,
    } = *loaded.slots.as_slice().get(slot as usize)?;
    let member = |index| loaded.backends.get(&index);
    let is_waiting = |index| member(index).is_some_and(|member| member.state == BackendState::FailedDrop);
    if is_waiting(current) || is_waiting(owner) {
        return None;
    }
    let order = if loaded.records_all() || has_records {
        [owner, current]
    } else {
        [current, owner]
    };
    order.into_iter().filter_map(member).find(|member| receives(member))
}

/// The backend that a frame is sent to: the expected one, or another of the service if the frame's flow has a record.
fn receiver<'l>(
    loaded: &'l LoadedService,
    expected: &'l LoadedBackend,
    outcome: &TestOutcome,
) -> Option<&'l LoadedBackend> {
    let addresses = mac_addresses(&outcome.frame)?;
    let all = loaded.backends.values().filter(|member| receives(member));
    std::iter::once(expected)
        .chain(all)
        .find(|member| (member.next_hop.mac, member.next_hop.source) == addresses)
}

const fn receives(member: &LoadedBackend) -> bool {
    matches!(
        member.state,
        BackendState::Up | BackendState::Draining | BackendState::FailedKeep
    )
}

/// Keeps the thread on its CPU: a frame is taken off the counters of the CPU that has counted it.
struct PinnedThread {
    before: Option<CpuSet>,
}

impl PinnedThread {
    fn new() -> Self {
        let thread = Pid::from_raw(0);
        let before = sched_getaffinity(thread).ok();
        let mut here = CpuSet::new();
        let is_pinned = sched_getcpu()
            .and_then(|cpu| here.set(cpu))
            .and_then(|()| sched_setaffinity(thread, &here));
        Self {
            before: before.filter(|_| is_pinned.is_ok()),
        }
    }
}

impl Drop for PinnedThread {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // It worked before; where it fails the thread stays on one CPU.
            let _stays = sched_setaffinity(Pid::from_raw(0), before);
        }
    }
}
