//! The rows of the bench: a program and its traffic.

use std::fmt;

use lbx::desired::Protocol;

use crate::{
    program::{Mode, Program},
    tables::Tables,
    traffic::{Ip, Order, Packet, Traffic},
};

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The program.
    pub program: Program,
    /// Its traffic.
    pub traffic: Traffic,
}

/// Rows that are measured alternately, so that load on the machine affects all of them and their ratios stay valid.
pub struct Group {
    /// Their subject.
    pub title: &'static str,
    /// The rows.
    pub rows: Vec<Row>,
}

/// Flows of most rows about large numbers.
pub const MILLION: u32 = 1_000_000;
/// Flows that fit into a default table of lbx at low load; rows with fewer share that table.
const SMALL: u32 = 100_000;
/// Established flows during a flood: half the capacity of a default table of lbx.
const FLOODED: u32 = 1 << 19;

/// lbx's hashing mode, no slot in a window.
pub const MAGLEV: Program = Program::Lbx(Mode::Maglev);
/// lbx's mode with a record for every flow.
pub const RR: Program = Program::Lbx(Mode::Rr);
/// lbx's hashing mode, every slot in a window.
pub const WINDOW: Program = Program::InWindow(Mode::Maglev);

impl Row {
    /// A row.
    pub const fn new(program: Program, traffic: Traffic) -> Self {
        Self { program, traffic }
    }

    /// Established connections.
    pub const fn established(program: Program, flows: u32) -> Self {
        Self::new(program, Traffic::established(flows))
    }

    /// The tables the program needs.
    pub fn tables(&self) -> Tables {
        let Traffic {
            ip, flows, services, ..
        } = self.traffic;
        let protocol = if self.traffic.packet == Packet::Datagram {
            Protocol::Udp
        } else {
            Protocol::Tcp
        };
        let flows = match self.program {
            _ if !self.program.records() || !self.traffic.to_vip => 0,
            _ if self.traffic.is_flood() => FLOODED,
            // Its table is sized for the flows of the row.
            Program::Reference => flows,
            _ => flows.max(SMALL),
        };
        Tables {
            ip,
            protocol,
            services,
            flows,
            tagged: self.traffic.tagged,
            // Floods change the tables.
            apart: self.traffic.is_flood().then_some(self.traffic.packet),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.program, self.traffic)
    }
}

/// All groups.
pub fn all() -> Vec<Group> {
    vec![
        Group {
            title: "One service",
            rows: one_service(),
        },
        Group {
            title: "Many services",
            rows: many_services(),
        },
        Group {
            title: "Floods: every packet a new flow, besides 524,288 established ones",
            rows: floods(),
        },
    ]
}

/// A selection that shows in seconds that everything works.
pub fn quick() -> Vec<Group> {
    let mut rows = Vec::new();
    for program in [Program::Floor, Program::Reference, MAGLEV, RR, WINDOW] {
        rows.extend([1, 1_000].map(|flows| Row::established(program, flows)));
    }
    for program in [Program::Reference, MAGLEV, RR] {
        let base = Traffic::established(1_000);
        rows.extend(variations(base).map(|traffic| Row::new(program, traffic)));
    }
    rows.retain(Row::is_possible);
    vec![Group {
        title: "Few flows",
        rows,
    }]
}

fn one_service() -> Vec<Row> {
    let mut rows = vec![
        Row::established(Program::Floor, 1),
        Row::established(Program::Floor, 4 * MILLION),
    ];
    for flows in [1, 1_000, SMALL, MILLION, 4 * MILLION] {
        rows.extend([Program::Reference, MAGLEV].map(|program| Row::established(program, flows)));
        if flows <= MILLION {
            rows.push(Row::established(RR, flows));
        }
    }
    rows.extend([1, 1_000, SMALL, MILLION].map(|flows| Row::established(WINDOW, flows)));
    for mode in [Mode::Sh, Mode::Wlc, Mode::Persistent] {
        rows.extend([1, MILLION].map(|flows| Row::established(Program::Lbx(mode), flows)));
    }
    for program in [Program::Reference, MAGLEV, RR] {
        for flows in [1, MILLION] {
            rows.extend(variations(Traffic::established(flows)).map(|traffic| Row::new(program, traffic)));
        }
    }
    rows.retain(Row::is_possible);
    rows
}

/// Other traffic with the same number of flows.
fn variations(base: Traffic) -> impl Iterator<Item = Traffic> {
    [
        Traffic {
            packet: Packet::Syn,
            ..base
        },
        Traffic {
            packet: Packet::Datagram,
            ..base
        },
        Traffic { ip: Ip::V6, ..base },
        Traffic { tagged: true, ..base },
        Traffic { to_vip: false, ..base },
    ]
    .into_iter()
}

fn many_services() -> Vec<Row> {
    let mut rows = Vec::new();
    for services in [100, 10_000] {
        let traffic = Traffic {
            services,
            ..Traffic::established(MILLION)
        };
        rows.extend([Program::Reference, MAGLEV, RR].map(|program| Row::new(program, traffic)));
    }
    rows
}

fn floods() -> Vec<Row> {
    let mut rows = Vec::new();
    for packet in [Packet::Syn, Packet::Ack, Packet::Datagram] {
        let traffic = Traffic {
            packet,
            // Above the numbers of all established flows.
            order: Order::InSequence(1 << 28),
            ..Traffic::established(0)
        };
        rows.extend([Program::Reference, MAGLEV, WINDOW, RR].map(|program| Row::new(program, traffic)));
    }
    rows
}

impl Row {
    /// Whether the program supports the traffic: the reference does not parse VLAN tags.
    fn is_possible(&self) -> bool {
        self.program != Program::Reference || !self.traffic.tagged
    }
}
