//! The rows of the bench: a program and its traffic.

use std::fmt;

use lbx::desired::Protocol;

use crate::{
    program::{Program, SchedulerMode},
    tables::TableContents,
    traffic::{FlowOrder, IpVersion, PacketKind, Traffic},
};

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The program.
    pub program: Program,
    /// Its traffic.
    pub traffic: Traffic,
}

/// Rows that are measured alternately, so that load on the machine affects all of them and their ratios stay valid.
pub struct ScenarioGroup {
    /// Their subject.
    pub title: &'static str,
    /// The rows.
    pub scenarios: Vec<Scenario>,
}

/// Flows of most rows about large numbers.
pub const MILLION: u32 = 1_000_000;
/// Flows that fit into a default table of lbx at low load; rows with fewer share that table.
const SMALL: u32 = 100_000;
/// Established flows during a flood: half the capacity of a default table of lbx.
const FLOODED: u32 = 1 << 19;

/// lbx's hashing mode, no slot in a window.
pub const MAGLEV: Program = Program::Lbx(SchedulerMode::Maglev);
/// lbx's mode with a record for every flow.
pub const RR: Program = Program::Lbx(SchedulerMode::Rr);
/// lbx's hashing mode, every slot in a window.
pub const MAGLEV_IN_WINDOW: Program = Program::LbxInWindow(SchedulerMode::Maglev);

impl Scenario {
    /// A row.
    pub const fn new(program: Program, traffic: Traffic) -> Self {
        Self { program, traffic }
    }

    /// Established connections.
    pub const fn established(program: Program, flows: u32) -> Self {
        Self::new(program, Traffic::established(flows))
    }

    /// The tables the program needs.
    pub fn table_contents(&self) -> TableContents {
        let Traffic {
            ip_version: ip,
            flows,
            services,
            ..
        } = self.traffic;
        let protocol = if self.traffic.packet_kind == PacketKind::Datagram {
            Protocol::Udp
        } else {
            Protocol::Tcp
        };
        let flows = match self.program {
            _ if !self.program.records_every_flow() || !self.traffic.to_vip => 0,
            _ if self.traffic.is_flood() => FLOODED,
            // Its table is sized for the flows of the row.
            Program::Reference => flows,
            _ => flows.max(SMALL),
        };
        TableContents {
            ip_version: ip,
            protocol,
            services,
            flows,
            tagged: self.traffic.tagged,
            // Floods change the tables.
            flood_packet: self.traffic.is_flood().then_some(self.traffic.packet_kind),
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.program, self.traffic)
    }
}

/// All groups.
pub fn all_scenario_groups() -> Vec<ScenarioGroup> {
    vec![
        ScenarioGroup {
            title: "One service",
            scenarios: one_service(),
        },
        ScenarioGroup {
            title: "Many services",
            scenarios: many_services(),
        },
        ScenarioGroup {
            title: "Floods: every packet a new flow, besides 524,288 established ones",
            scenarios: floods(),
        },
    ]
}

/// A selection that shows in seconds that everything works.
pub fn quick_scenario_groups() -> Vec<ScenarioGroup> {
    let mut scenarios = Vec::new();
    for program in [Program::MacSwap, Program::Reference, MAGLEV, RR, MAGLEV_IN_WINDOW] {
        scenarios.extend([1, 1_000].map(|flows| Scenario::established(program, flows)));
    }
    for program in [Program::Reference, MAGLEV, RR] {
        let base = Traffic::established(1_000);
        scenarios.extend(variations(base).map(|traffic| Scenario::new(program, traffic)));
    }
    scenarios.retain(Scenario::is_possible);
    vec![ScenarioGroup {
        title: "Few flows",
        scenarios,
    }]
}

/// Rows whose instructions are counted: every mode, and every kind of packet. The number of flows matters to caches alone.
pub fn instruction_scenario_groups() -> Vec<ScenarioGroup> {
    let established = Traffic::established(1_000);
    let mut scenarios: Vec<_> = [Program::MacSwap, MAGLEV_IN_WINDOW]
        .into_iter()
        .chain([SchedulerMode::Sh, SchedulerMode::Wlc, SchedulerMode::Persistent].map(Program::Lbx))
        .map(|program| Scenario::new(program, established))
        .collect();
    for program in [Program::Reference, MAGLEV, RR] {
        let traffic = std::iter::once(established).chain(variations(established));
        scenarios.extend(traffic.map(|traffic| Scenario::new(program, traffic)));
    }
    scenarios.retain(Scenario::is_possible);
    // One after the other: counts need no comparison under the same load, and a guest has little memory.
    let alone = |scenario| ScenarioGroup {
        title: "Instructions",
        scenarios: vec![scenario],
    };
    scenarios.into_iter().map(alone).collect()
}

fn one_service() -> Vec<Scenario> {
    let mut rows = vec![
        Scenario::established(Program::MacSwap, 1),
        Scenario::established(Program::MacSwap, 4 * MILLION),
    ];
    for flows in [1, 1_000, SMALL, MILLION, 4 * MILLION] {
        rows.extend([Program::Reference, MAGLEV].map(|program| Scenario::established(program, flows)));
        if flows <= MILLION {
            rows.push(Scenario::established(RR, flows));
        }
    }
    rows.extend([1, 1_000, SMALL, MILLION].map(|flows| Scenario::established(MAGLEV_IN_WINDOW, flows)));
    for mode in [SchedulerMode::Sh, SchedulerMode::Wlc, SchedulerMode::Persistent] {
        rows.extend([1, MILLION].map(|flows| Scenario::established(Program::Lbx(mode), flows)));
    }
    for program in [Program::Reference, MAGLEV, RR] {
        for flows in [1, MILLION] {
            rows.extend(variations(Traffic::established(flows)).map(|traffic| Scenario::new(program, traffic)));
        }
    }
    rows.retain(Scenario::is_possible);
    rows
}

/// Other traffic with the same number of flows.
fn variations(base: Traffic) -> impl Iterator<Item = Traffic> {
    [
        Traffic {
            packet_kind: PacketKind::Syn,
            ..base
        },
        Traffic {
            packet_kind: PacketKind::Datagram,
            ..base
        },
        Traffic {
            ip_version: IpVersion::V6,
            ..base
        },
        Traffic { tagged: true, ..base },
        Traffic { to_vip: false, ..base },
    ]
    .into_iter()
}

fn many_services() -> Vec<Scenario> {
    let mut rows = Vec::new();
    for services in [100, 10_000] {
        let traffic = Traffic {
            services,
            ..Traffic::established(MILLION)
        };
        rows.extend([Program::Reference, MAGLEV, RR].map(|program| Scenario::new(program, traffic)));
    }
    rows
}

fn floods() -> Vec<Scenario> {
    let mut rows = Vec::new();
    for packet in [PacketKind::Syn, PacketKind::Ack, PacketKind::Datagram] {
        let traffic = Traffic {
            packet_kind: packet,
            // Above the numbers of all established flows.
            flow_order: FlowOrder::SequentialFrom(1 << 28),
            ..Traffic::established(0)
        };
        rows.extend([Program::Reference, MAGLEV, MAGLEV_IN_WINDOW, RR].map(|program| Scenario::new(program, traffic)));
    }
    rows
}

impl Scenario {
    /// Whether the program supports the traffic: the reference does not parse VLAN tags.
    fn is_possible(&self) -> bool {
        self.program != Program::Reference || !self.traffic.tagged
    }
}
