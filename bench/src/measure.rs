//! Measures groups of rows: all programs loaded and their tables filled, then round after round a sample of each.

use anyhow::{Context as _, Result, ensure};

use crate::{
    loaded_program::{BpfObjectPaths, LoadedProgram},
    packet_generator::{PacketGenerator, XDP_PASS, XDP_TX},
    program::Program,
    scenarios::{Scenario, ScenarioGroup},
    statistics::Summary,
    tables::TableContents,
    traffic::{FlowOrder, PacketKind, Traffic},
};

/// The number and length of samples.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// Samples of each row.
    pub rounds: usize,
    /// Minimum length of a sample, in nanoseconds.
    pub min_sample_ns: f64,
    /// The same for rows whose packets touch different memory: they take longer to reach a steady state.
    pub min_sample_ns_many_flows: f64,
    /// Minimum number of packets before a sample.
    pub min_warm_up_packets: u32,
    /// Packets of each run of the packet generator alone.
    pub noop_packets: u32,
}

impl Sampling {
    /// For times.
    pub const fn of_times(rounds: usize, min_sample_ns: f64) -> Self {
        Self {
            rounds,
            min_sample_ns,
            min_sample_ns_many_flows: min_sample_ns * 10.0,
            min_warm_up_packets: 20_000,
            noop_packets: 100_000,
        }
    }

    /// For counts of instructions, which repeat but for timer interrupts.
    pub const OF_COUNTS: Self = Self {
        rounds: 5,
        min_sample_ns: 8e6,
        min_sample_ns_many_flows: 8e6,
        min_warm_up_packets: 100,
        noop_packets: 5_000,
    };
}

/// A row, measured.
pub struct Measurement {
    /// The row.
    pub scenario: Scenario,
    /// Nanoseconds per packet net of the packet generator, one sample per round.
    pub net_ns_per_packet: Vec<f64>,
    /// Their summary.
    pub summary: Summary,
    /// Flows without an entry in the program's table at the end; none if it has no table or is flooded.
    pub unrecorded_flows: Option<u64>,
}

/// A loaded program with its tables, shared by rows that need the same.
struct Setup {
    program: Program,
    tables: TableContents,
    loaded: LoadedProgram,
    /// Packets run so far that it should have forwarded.
    sent: u64,
}

/// A row being measured.
struct Case {
    row: Scenario,
    setup: usize,
    packet_generator: PacketGenerator,
    /// Packets of each run of a sample; 0: not known yet.
    packets: u32,
    net: Vec<f64>,
}

/// Maximum number of packets before a sample.
const MAX_WARM_UP: u32 = 2_000_000;
/// Runs per sample: the kernel randomises its stack offset for every system call, which changes the result by a few
/// nanoseconds.
const PARTS: u32 = 4;

/// Measures a group.
///
/// # Errors
/// The kernel refuses something, or a program does not do to packets what it should.
pub fn measure_group(
    group: &ScenarioGroup,
    objects: &BpfObjectPaths<'_>,
    effort: Sampling,
) -> Result<Vec<Measurement>> {
    let mut setups: Vec<Setup> = Vec::new();
    let mut cases = Vec::new();
    for &row in &group.scenarios {
        let setup = Setup::find(&mut setups, &row, objects).with_context(|| format!("{row}"))?;
        cases.push(Case {
            row,
            setup,
            packet_generator: PacketGenerator::load(objects.packet_generator, &row.traffic)?,
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
        Ok(Measurement {
            scenario: case.row,
            summary: Summary::from_samples(&case.net).context("no rounds")?,
            unrecorded_flows: setups[case.setup].missing()?,
            net_ns_per_packet: case.net,
        })
    });
    rows.collect()
}

impl Setup {
    /// The setup a row needs, created if there is none yet.
    fn find(setups: &mut Vec<Self>, row: &Scenario, objects: &BpfObjectPaths<'_>) -> Result<usize> {
        let (program, tables) = (row.program, row.table_contents());
        let same = |setup: &Self| (setup.program, setup.tables) == (program, tables);
        if let Some(index) = setups.iter().position(same) {
            return Ok(index);
        }
        let mut setup = Self {
            program,
            tables,
            loaded: LoadedProgram::load(program, &tables, objects)?,
            sent: 0,
        };
        if matches!(program, Program::LbxInWindow(_)) {
            setup.loaded.open_windows()?;
        }
        if tables.flows > 0 {
            setup.fill(&row.traffic, objects)?;
        }
        setups.push(setup);
        Ok(setups.len() - 1)
    }

    /// Opens and establishes every flow.
    fn fill(&mut self, traffic: &Traffic, objects: &BpfObjectPaths<'_>) -> Result<()> {
        let packets = match traffic.packet_kind {
            PacketKind::Datagram => [PacketKind::Datagram; 2],
            // In a window a new flow would go to the slot's current backend: flows from before the change are wanted.
            _ if matches!(self.program, Program::LbxInWindow(_)) => [PacketKind::Ack; 2],
            PacketKind::Ack | PacketKind::Syn => [PacketKind::Syn, PacketKind::Ack],
        };
        for packet in packets {
            let each_once = Traffic {
                packet_kind: packet,
                flow_order: FlowOrder::SequentialFrom(0),
                to_vip: true,
                flows: self.tables.flows,
                ..*traffic
            };
            let mut packet_generator = PacketGenerator::load(objects.packet_generator, &each_once)?;
            self.run(&mut packet_generator, self.tables.flows, XDP_TX)?;
        }
        Ok(())
    }

    fn run(&mut self, packet_generator: &mut PacketGenerator, packets: u32, action: u32) -> Result<f64> {
        if action == XDP_TX {
            self.sent += u64::from(packets);
        }
        packet_generator.measure_ns_per_packet(&self.loaded.program()?, packets, action)
    }

    /// Checks that the program has counted exactly the packets it should have forwarded.
    fn check(&self) -> Result<()> {
        if let Some(forwarded) = self.loaded.forwarded()? {
            ensure!(
                forwarded == self.sent,
                "{forwarded} of {} packets were forwarded",
                self.sent
            );
        }
        Ok(())
    }

    fn missing(&self) -> Result<Option<u64>> {
        if self.tables.flows == 0 || self.tables.flood_packet.is_some() {
            return Ok(None);
        }
        self.loaded.unrecorded_flows(self.tables.flows).map(Some)
    }
}

impl Case {
    /// Takes a sample: the cost of a packet, less that of the packet generator alone.
    fn sample(&mut self, setup: &mut Setup, effort: Sampling) -> Result<f64> {
        let action = if self.row.traffic.to_vip { XDP_TX } else { XDP_PASS };
        // One flow of one service fits into the CPU's first caches.
        let memory = setup.tables.services > 1 || (setup.tables.flows > 0 && self.row.traffic.flows != 1);
        let warm_up = self.warm_up(memory, effort.min_warm_up_packets);
        let taken = setup.run(&mut self.packet_generator, warm_up, action)?;
        if self.packets == 0 {
            let wanted = if memory {
                effort.min_sample_ns_many_flows
            } else {
                effort.min_sample_ns
            };
            self.packets = (wanted / taken) as u32 / PARTS + 1;
        }
        let mut net = 0.0;
        for _ in 0..PARTS {
            let bare = self.packet_generator.measure_noop_ns_per_packet(effort.noop_packets)?;
            net += setup.run(&mut self.packet_generator, self.packets, action)? - bare;
        }
        Ok(net / f64::from(PARTS))
    }

    /// Packets before a sample, to refill the caches after other rows.
    fn warm_up(&self, memory: bool, least: u32) -> u32 {
        let flood = self.row.traffic.is_flood();
        match memory {
            false => least,
            // A flood has to fill the table first; later it needs little.
            true if flood && self.packets == 0 => MAX_WARM_UP,
            true if flood => least * 10,
            true => self.row.traffic.flows.saturating_mul(2).clamp(least, MAX_WARM_UP),
        }
    }
}
