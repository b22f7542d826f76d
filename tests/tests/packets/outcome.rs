//! What the program does with a frame: the action, the frame afterwards, and everything it counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
};

use anyhow::{Result, bail};
use lbx::{
    dataplane::Dataplane,
    desired::VirtualService,
    tables::{NextHop, Tables},
};
use lbx_common::{backend::VlanTags, counters::Traffic, drops::DropReason};
use lbx_tests::{
    mac::Mac,
    packet::{Frame, SERVICE_VLAN, VLAN},
};

/// The actions of `enum xdp_action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The program has failed.
    Aborted,
    /// The frame is thrown away.
    Drop,
    /// The frame goes to the network stack.
    Pass,
    /// The frame goes back by the NIC it came in.
    Tx,
    /// The frame goes out of another NIC.
    Redirect,
}

impl Action {
    /// The action of a return value.
    pub fn of(value: u32) -> Self {
        match value {
            1 => Self::Drop,
            2 => Self::Pass,
            3 => Self::Tx,
            4 => Self::Redirect,
            _ => Self::Aborted,
        }
    }
}

/// What a packet that is sent on counts as, besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// A new connection.
    Opens,
    /// A packet.
    Continues,
    /// The end of a connection.
    Ends,
}

/// What is expected of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It passes as it is, and nothing is counted.
    Passed,
    /// It is dropped, and that is counted under this reason.
    Dropped(DropReason),
    /// It becomes this answer, which goes back by the NIC it came in, and that is counted.
    Rejected(Box<Frame>),
    /// It is sent on.
    Sent(Sent),
}

/// A frame that is sent on: its Ethernet header is rewritten, and it is counted for the service and the real server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Back by the NIC it came in, or out of another.
    pub action: Action,
    /// For which service.
    pub service: VirtualService,
    /// To which real server.
    pub server: IpAddr,
    /// How that one is reached.
    pub hop: NextHop,
    /// With these VLAN tags, the outermost first: EtherType and control information.
    pub tags: Vec<(u16, u16)>,
    /// As what.
    pub counts: Counts,
}

impl Sent {
    /// The tags a frame gets on a way: those of the VLANs there, with the priority it came with.
    pub fn tags_of(hop: NextHop, frame: &Frame) -> Vec<(u16, u16)> {
        const PRIORITY: u16 = 0xf000;
        let priority = frame.tags().first().map_or(0, |(_, control)| control & PRIORITY);
        let vlans = hop.vlan_tags.into_iter().filter(|vlan| *vlan != 0);
        vlans
            .map(|vlan| {
                let outer = vlan & VlanTags::SERVICE_TAG_FLAG != 0;
                let ether_type = if outer { SERVICE_VLAN } else { VLAN };
                (ether_type, priority | vlan & VlanTags::ID_MASK)
            })
            .collect()
    }
}

/// What is counted; zeros left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    drops: BTreeMap<DropReason, u64>,
    services: BTreeMap<VirtualService, Traffic>,
    servers: BTreeMap<(VirtualService, IpAddr), Traffic>,
}

impl Counted {
    /// Everything that has been counted so far.
    pub fn read(dataplane: &Dataplane, tables: &Tables) -> Result<Self> {
        let mut counted = Self::default();
        for &reason in DropReason::ALL {
            counted.drops.insert(reason, dataplane.drops(reason)?);
        }
        for (&id, loaded) in &tables.services {
            counted
                .services
                .insert(id, dataplane.service_traffic(loaded.service_number)?);
            for member in loaded.backends.values() {
                let traffic = dataplane.backend_traffic(member.counter_index)?;
                counted.servers.insert((id, member.address), traffic);
            }
        }
        counted.drops.retain(|_, count| *count != 0);
        counted.services.retain(|_, traffic| *traffic != Traffic::default());
        counted.servers.retain(|_, traffic| *traffic != Traffic::default());
        Ok(counted)
    }

    /// A line for every counter.
    fn lines(&self) -> BTreeSet<String> {
        let drops = self
            .drops
            .iter()
            .map(|(reason, count)| format!("{} {count}", reason.name()));
        let services = self
            .services
            .iter()
            .map(|(service, traffic)| format!("{service} {traffic:?}"));
        let servers = self.servers.iter();
        let servers = servers.map(|((service, server), traffic)| format!("{service} at {server} {traffic:?}"));
        drops.chain(services).chain(servers).collect()
    }

    /// The same, with a drop more.
    pub fn and_drop(mut self, reason: DropReason) -> Self {
        *self.drops.entry(reason).or_default() += 1;
        self
    }

    /// The same, with this much more for a service and one of its real servers.
    pub fn and_traffic(mut self, service: VirtualService, server: IpAddr, traffic: Traffic) -> Self {
        *self.services.entry(service).or_default() += traffic;
        *self.servers.entry((service, server)).or_default() += traffic;
        self
    }
}

/// What the program did with a frame, and what all counters said afterwards.
#[derive(Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What becomes of the frame.
    pub action: Action,
    /// The frame afterwards.
    pub bytes: Vec<u8>,
    /// All counters.
    pub counted: Counted,
}

impl Expected {
    /// The whole outcome that this means for a frame, after what had been counted `before`.
    fn outcome(&self, frame: &Frame, before: Counted) -> Outcome {
        match self {
            Self::Passed => Outcome {
                action: Action::Pass,
                bytes: frame.bytes(),
                counted: before,
            },
            Self::Dropped(reason) => Outcome {
                action: Action::Drop,
                bytes: frame.bytes(),
                counted: before.and_drop(*reason),
            },
            Self::Rejected(answer) => Outcome {
                action: Action::Tx,
                bytes: answer.bytes(),
                counted: before.and_drop(DropReason::Rejected),
            },
            Self::Sent(sent) => Outcome {
                action: sent.action,
                bytes: frame.rewritten(Mac(sent.hop.source), Mac(sent.hop.mac), &sent.tags),
                counted: before.and_traffic(sent.service, sent.server, traffic(frame, sent.counts)),
            },
        }
    }

    /// Compares it with what was found.
    ///
    /// # Errors
    /// They differ, and how.
    pub fn check(&self, frame: &Frame, before: Counted, found: &Outcome) -> Result<()> {
        let expected = self.outcome(frame, before);
        if expected == *found {
            return Ok(());
        }
        let mut report = format!("{self:?} was expected of {frame:?}");
        if expected.action != found.action {
            write!(report, "\n  action: {:?}, not {:?}", found.action, expected.action)?;
        }
        if expected.bytes != found.bytes {
            write!(report, "\n  frame: {}", difference(&expected.bytes, &found.bytes))?;
        }
        let (found, expected) = (found.counted.lines(), expected.counted.lines());
        for line in found.difference(&expected) {
            write!(report, "\n  counted: {line}")?;
        }
        for line in expected.difference(&found) {
            write!(report, "\n  expected: {line}")?;
        }
        bail!(report)
    }
}

/// What a packet that is sent on adds to the counters of its service and its real server: bytes count from the IP header
/// on, as the header says.
pub fn traffic(frame: &Frame, counts: Counts) -> Traffic {
    Traffic {
        packets: 1,
        bytes: frame.packet_length(),
        connections: u64::from(counts == Counts::Opens),
        fin_rst_packets: u64::from(counts == Counts::Ends),
    }
}

/// Where two frames differ first.
fn difference(expected: &[u8], found: &[u8]) -> String {
    if expected.len() != found.len() {
        return format!("{} bytes, not {}", found.len(), expected.len());
    }
    let at = expected.iter().zip(found).position(|(a, b)| a != b).unwrap_or(0);
    let end = expected.len().min(at + 16);
    format!(
        "from byte {at} {:02x?}, not {:02x?}",
        &found[at..end],
        &expected[at..end]
    )
}
