//! Measures groups of rows: all programs loaded and their tables filled, then round after round a sample of each.

use anyhow::{Context as _, Result, ensure};

use crate::{
    prologue::{Prologue, XDP_PASS, XDP_TX},
    rows::{Group, Row},
    statistics::Summary,
    subject::{Objects, Program, Subject, Tables},
    traffic::{Order, Packet, Traffic},
};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Samples of each row.
    pub rounds: usize,
    /// How long a sample takes at least, in nanoseconds.
    pub sample: f64,
    /// The same where every packet needs memory of its own, which takes longer to come to a steady state.
    pub sample_of_memory: f64,
}

/// A row, measured.
pub struct Measured {
    /// The row.
    pub row: Row,
    /// Nanoseconds a packet net of the prologue, a sample a round.
    pub net: Vec<f64>,
    /// Their summary.
    pub summary: Summary,
    /// Flows without an entry in the program's table when all was done; none where it has none or is flooded.
    pub missing: Option<u64>,
}

/// A program with its tables, and what tells it from others.
struct Setup {
    program: Program,
    tables: Tables,
    subject: Subject,
    /// Packets run so far that it should have sent on.
    sent: u64,
}

/// A row being measured.
struct Case {
    row: Row,
    setup: usize,
    prologue: Prologue,
    /// Packets of each run of a sample; 0: not known yet.
    packets: u32,
    net: Vec<f64>,
}

/// Packets before a sample at least.
const FEWEST: u32 = 20_000;
/// Packets before a sample at most.
const MOST: u32 = 2_000_000;
/// Runs a sample is put together from: the kernel puts its stack elsewhere for every system call, and a few nanoseconds hang
/// on where.
const PARTS: u32 = 4;
/// Packets of each run of the prologue by itself.
const BARE: u32 = 100_000;

/// Measures a group.
///
/// # Errors
/// The kernel refuses something, or a program does not do to packets what it should.
pub fn group(group: &Group, objects: &Objects<'_>, effort: Effort) -> Result<Vec<Measured>> {
    let mut setups: Vec<Setup> = Vec::new();
    let mut cases = Vec::new();
    for &row in &group.rows {
        let setup = Setup::find(&mut setups, &row, objects).with_context(|| format!("{row}"))?;
        cases.push(Case {
            row,
            setup,
            prologue: Prologue::load(objects.prologue, &row.traffic)?,
            packets: 0,
            net: Vec::new(),
        });
    }
    for round in 0..effort.rounds {
        eprint!("\r{}: round {} of {}", group.title, round + 1, effort.rounds);
        for case in &mut cases {
            let sample = case.sample(&mut setups[case.setup], effort);
            case.net.push(sample.with_context(|| format!("{}", case.row))?);
        }
    }
    eprintln!();
    for setup in &setups {
        setup.check().with_context(|| setup.program.to_string())?;
    }
    let rows = cases.into_iter().map(|case| {
        Ok(Measured {
            row: case.row,
            summary: Summary::of(&case.net).context("no rounds")?,
            missing: setups[case.setup].missing()?,
            net: case.net,
        })
    });
    rows.collect()
}

impl Setup {
    /// The one a row needs, made if there is none yet.
    fn find(setups: &mut Vec<Self>, row: &Row, objects: &Objects<'_>) -> Result<usize> {
        let (program, tables) = (row.program, row.tables());
        let same = |setup: &Self| (setup.program, setup.tables) == (program, tables);
        if let Some(place) = setups.iter().position(same) {
            return Ok(place);
        }
        let mut setup = Self {
            program,
            tables,
            subject: Subject::load(program, &tables, objects)?,
            sent: 0,
        };
        if matches!(program, Program::InWindow(_)) {
            setup.subject.open_windows()?;
        }
        if tables.flows > 0 {
            setup.fill(&row.traffic, objects)?;
        }
        setups.push(setup);
        Ok(setups.len() - 1)
    }

    /// Lets every flow begin and go on.
    fn fill(&mut self, traffic: &Traffic, objects: &Objects<'_>) -> Result<()> {
        let packets = match traffic.packet {
            Packet::Datagram => [Packet::Datagram; 2],
            // In a window a flow that begins goes to whom the slot's new connections go: those of before are meant.
            _ if matches!(self.program, Program::InWindow(_)) => [Packet::Ack; 2],
            Packet::Ack | Packet::Syn => [Packet::Syn, Packet::Ack],
        };
        for packet in packets {
            let each_once = Traffic {
                packet,
                order: Order::InTurn(0),
                ours: true,
                flows: self.tables.flows,
                ..*traffic
            };
            let mut prologue = Prologue::load(objects.prologue, &each_once)?;
            self.run(&mut prologue, self.tables.flows, XDP_TX)?;
        }
        Ok(())
    }

    fn run(&mut self, prologue: &mut Prologue, packets: u32, action: u32) -> Result<f64> {
        if action == XDP_TX {
            self.sent += u64::from(packets);
        }
        prologue.run(&self.subject.program()?, packets, action)
    }

    /// Whether the program has counted every packet it should have sent on, and no other.
    fn check(&self) -> Result<()> {
        if let Some(forwarded) = self.subject.forwarded()? {
            ensure!(
                forwarded == self.sent,
                "{forwarded} of {} packets were sent on",
                self.sent
            );
        }
        Ok(())
    }

    fn missing(&self) -> Result<Option<u64>> {
        if self.tables.flows == 0 || self.tables.apart.is_some() {
            return Ok(None);
        }
        self.subject.missing(self.tables.flows).map(Some)
    }
}

impl Case {
    /// One more sample: what a packet costs, less what the prologue costs by itself.
    fn sample(&mut self, setup: &mut Setup, effort: Effort) -> Result<f64> {
        let action = if self.row.traffic.ours { XDP_TX } else { XDP_PASS };
        // One flow of one service needs no more than the caches next to the CPU.
        let memory = setup.tables.services > 1 || (setup.tables.flows > 0 && self.row.traffic.flows != 1);
        let warm_up = self.warm_up(memory);
        let taken = setup.run(&mut self.prologue, warm_up, action)?;
        if self.packets == 0 {
            let wanted = if memory { effort.sample_of_memory } else { effort.sample };
            self.packets = (wanted / taken) as u32 / PARTS + 1;
        }
        let mut net = 0.0;
        for _ in 0..PARTS {
            let bare = self.prologue.run_bare(BARE)?;
            net += setup.run(&mut self.prologue, self.packets, action)? - bare;
        }
        Ok(net / f64::from(PARTS))
    }

    /// Packets before a sample: other rows have had the caches since.
    fn warm_up(&self, memory: bool) -> u32 {
        let flood = self.row.traffic.is_flood();
        match memory {
            false => FEWEST,
            // A flood has to fill the table first, and needs no more to go on.
            true if flood && self.packets == 0 => MOST,
            true if flood => FEWEST * 10,
            true => self.row.traffic.flows.saturating_mul(2).clamp(FEWEST, MOST),
        }
    }
}
