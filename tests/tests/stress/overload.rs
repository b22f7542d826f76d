//! A service overloaded: half its table is full of established connections, and real clients come while it is flooded.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
};

use anyhow::{Result, ensure};
use lbx::desired::{Protocol, VirtualService};
use lbx_common::flow::{ESTABLISHED, FlowEntry, FlowKey, UDP_STREAM};
use lbx_tests_ebpf::COUNT;

use crate::{
    action::XDP_TX,
    director::{Director, SECOND, sent_to},
    flow::{ACK, FIN, Flow, PSH, RST, SYN},
    random::Random,
    records,
    stress_xdp::StressXdp,
};

/// First octets of addresses, by who it is.
const RESIDENTS: u8 = 10;
const NEWCOMERS: u8 = 20;
const NOBODIES: u8 = 100;
/// Mills of flood between two looks at the real clients.
const ROUND: u64 = 8;
/// Real clients that come in a round.
const NEW: u64 = 8;
/// How long a real client takes to answer at most: a half-open record is safe for two whole ticks.
const PATIENCE: u64 = 2 * SECOND;
/// How often the daemon sweeps.
const SWEEP: u64 = 2 * SECOND;

/// What a flood consists of.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// SYNs, each from elsewhere.
    Syns,
    /// Bare ACKs, likewise.
    Acks,
    /// Datagrams, likewise.
    Datagrams,
    /// Whatever flags there may be.
    Anything,
}

/// A connection and the real server that has it.
#[derive(Clone, Copy, Debug)]
struct Held {
    flow: Flow,
    server: u8,
}

/// A real client that came during the flood.
struct Newcomer {
    held: Held,
    due: u64,
    said: usize,
}

/// What a real client says after its first word.
const SAYS: [u8; 4] = [ACK, PSH | ACK, PSH | ACK, FIN | ACK];

/// A service overloaded.
pub struct Siege {
    /// Its director.
    pub director: Director,
    service: VirtualService,
    stress_xdp: StressXdp,
    random: Random,
    residents: Vec<Held>,
    newcomers: VecDeque<Newcomer>,
    come: u64,
    moved: u64,
    round: usize,
    swept: u64,
}

impl Siege {
    /// A overload of a service of a director.
    pub fn of(director: Director, service: VirtualService, seed: u64) -> Result<Self> {
        Ok(Self {
            stress_xdp: director.stress_xdp()?,
            swept: director.now,
            director,
            service,
            random: Random::new(seed),
            residents: Vec::new(),
            newcomers: VecDeque::new(),
            come: 0,
            moved: 0,
            round: 0,
        })
    }

    /// Establishes so many connections more.
    pub fn settle(&mut self, count: usize) -> Result<()> {
        let first = self.residents.len() as u64;
        let flows: Vec<Flow> = (first..first + count as u64)
            .map(|number| {
                Flow::of(
                    self.service,
                    RESIDENTS,
                    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24,
                )
            })
            .collect();
        let begun = self.send(flows.iter().map(|&flow| (flow, SYN)))?;
        self.director.pass(2 * SECOND)?;
        let held = flows.iter().zip(begun).map(|(&flow, server)| Held { flow, server });
        self.residents.extend(held);
        self.residents_speak(0, 1, ACK)
    }

    /// Connections there are.
    pub fn settled(&self) -> usize {
        self.residents.len()
    }

    /// Checks that every `step`-th connection still goes where it went.
    pub fn residents_speak(&mut self, first: usize, step: usize, flags: u8) -> Result<()> {
        let some: Vec<Held> = self.residents.iter().skip(first).step_by(step).copied().collect();
        let servers = self.send(some.iter().map(|held| (held.flow, flags)))?;
        for (held, server) in some.iter().zip(servers) {
            ensure!(
                held.server == server,
                "an established connection went to {server}: {held:?}, record {:?}",
                self.record(held.flow)?
            );
        }
        Ok(())
    }

    /// Floods it at so many packets a second.
    pub fn flood(&mut self, kind: Kind, rate: u64, packets: u64) -> Result<()> {
        let mut left = packets;
        while left > 0 {
            for _ in 0..ROUND {
                let count = left.min(COUNT as u64);
                left -= count;
                self.volley(kind, count)?;
                self.pass(count * SECOND / rate)?;
            }
            self.round += 1;
            self.residents_speak(self.round % 16, 16, PSH | ACK)?;
            self.newcomers_come(rate)?;
            self.newcomers_speak(false)?;
        }
        self.newcomers_speak(true)?;
        self.residents_speak(0, 1, PSH | ACK)
    }

    /// Forges the end of every connection, floods while the clients are silent, and lets them go on.
    pub fn forge(&mut self, rate: u64) -> Result<()> {
        const ENDS: [u8; 4] = [RST, FIN | ACK, RST | ACK, FIN];
        let forged: Vec<(Flow, u8)> = self
            .residents
            .iter()
            .map(|held| held.flow)
            .zip(ENDS.into_iter().cycle())
            .collect();
        self.send(forged)?;
        self.flood_silently(rate, 3 * SECOND)?;
        self.residents_speak(0, 1, PSH | ACK)
    }

    /// Floods for a time in which no real client says anything.
    pub fn flood_silently(&mut self, rate: u64, time: u64) -> Result<()> {
        let kind = self.some_kind();
        let end = self.director.now + time;
        while self.director.now < end {
            self.volley(kind, COUNT as u64)?;
            self.pass(COUNT as u64 * SECOND / rate)?;
        }
        Ok(())
    }

    /// Lets time pass, with the daemon's sweeps.
    pub fn pass(&mut self, time: u64) -> Result<()> {
        self.director.pass(time)?;
        if self.director.now - self.swept >= SWEEP {
            self.swept = self.director.now;
            self.director.sweep()?;
        }
        Ok(())
    }

    /// How many connections have a record that says they are established.
    pub fn recorded(&self) -> Result<usize> {
        let records = self.records()?;
        Ok(self
            .residents
            .iter()
            .filter(|held| {
                let entry = records.get(&held.flow.key(self.director.number(self.service)));
                entry.is_some_and(|entry| matches!(entry.state, ESTABLISHED | UDP_STREAM))
            })
            .count())
    }

    /// Leaves those out of account that found no room for a record.
    pub fn forget_unrecorded(&mut self) -> Result<usize> {
        let records = self.records()?;
        let number = self.director.number(self.service);
        let before = self.residents.len();
        self.residents
            .retain(|held| records.contains_key(&held.flow.key(number)));
        Ok(before - self.residents.len())
    }

    /// Real clients that came, and how many of them went to more than one real server.
    pub fn newcomers(&self) -> (u64, u64) {
        (self.come, self.moved)
    }

    fn records(&self) -> Result<HashMap<FlowKey, FlowEntry>> {
        Ok(records::all(&self.director)?.into_iter().collect())
    }

    fn record(&self, flow: Flow) -> Result<Option<FlowEntry>> {
        let key = flow.key(self.director.number(self.service));
        Ok(self.records()?.get(&key).copied())
    }

    fn some_kind(&self) -> Kind {
        match self.service.protocol {
            Protocol::Tcp => Kind::Anything,
            Protocol::Udp => Kind::Datagrams,
        }
    }

    /// A stress_xdp of a flood. All of it is sent on: nothing tells it from real clients.
    fn volley(&mut self, kind: Kind, count: u64) -> Result<()> {
        const ANY: [u8; 8] = [SYN, SYN, ACK, ACK, FIN | ACK, RST, SYN | ACK, PSH | ACK];
        for _ in 0..count {
            let random = self.random.next();
            let flags = match kind {
                Kind::Syns => SYN,
                Kind::Acks => ACK,
                Kind::Datagrams => 0,
                Kind::Anything => ANY[random as usize & 7],
            };
            Flow::of(self.service, NOBODIES, random >> 24).packet(flags, self.stress_xdp.tray());
        }
        for tray in self.stress_xdp.run()? {
            ensure!(
                tray.action == XDP_TX,
                "a packet of the flood ended with {}",
                tray.action
            );
        }
        Ok(())
    }

    fn newcomers_come(&mut self, rate: u64) -> Result<()> {
        let flows: Vec<Flow> = (self.come..self.come + NEW)
            .map(|number| {
                Flow::of(
                    self.service,
                    NEWCOMERS,
                    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24,
                )
            })
            .collect();
        self.come += NEW;
        let servers = self.send(flows.iter().map(|&flow| (flow, SYN)))?;
        for (flow, server) in flows.into_iter().zip(servers) {
            let held = Held { flow, server };
            let due = self.director.now + self.delay(rate);
            self.newcomers.push_back(Newcomer { held, due, said: 0 });
        }
        Ok(())
    }

    /// As long as some rounds of the flood, but a client answers in time.
    fn delay(&mut self, rate: u64) -> u64 {
        let rounds = 1 + self.random.below(8) as u64;
        let round = ROUND * COUNT as u64 * SECOND / rate;
        // Whose time comes is let speak when the round is over.
        (rounds * round).min(PATIENCE.saturating_sub(round))
    }

    /// Those whose time has come say the next word; in the end all that is left.
    fn newcomers_speak(&mut self, end: bool) -> Result<()> {
        loop {
            let now = self.director.now;
            let (speak, wait): (Vec<_>, Vec<_>) = self.newcomers.drain(..).partition(|one| end || one.due <= now);
            self.newcomers.extend(wait);
            if speak.is_empty() {
                return Ok(());
            }
            let servers = self.send(speak.iter().map(|one| (one.held.flow, SAYS[one.said])))?;
            for (mut one, server) in speak.into_iter().zip(servers) {
                self.stays(&mut one.held, server)?;
                one.said += 1;
                if one.said < SAYS.len() {
                    one.due = now + self.delay(1_000_000);
                    self.newcomers.push_back(one);
                }
            }
            if !end {
                return Ok(());
            }
        }
    }

    /// A real client stays where it began. UDP has no first packet: who finds no room for a record at first begins anew.
    fn stays(&mut self, held: &mut Held, server: u8) -> Result<()> {
        if held.server != server {
            ensure!(
                self.service.protocol == Protocol::Udp,
                "a new connection went to {server}: {held:?}, record {:?}",
                self.record(held.flow)?
            );
            self.moved += 1;
            held.server = server;
        }
        Ok(())
    }

    /// Sends packets; the real servers they went to.
    fn send(&mut self, packets: impl IntoIterator<Item = (Flow, u8)>) -> Result<Vec<u8>> {
        let mut servers = Vec::new();
        let mut packets = packets.into_iter().peekable();
        while packets.peek().is_some() {
            for (flow, flags) in packets.by_ref().take(self.stress_xdp.room()) {
                flow.packet(flags, self.stress_xdp.tray());
            }
            for tray in self.stress_xdp.run()? {
                let server = sent_to(&tray.bytes).filter(|_| tray.action == XDP_TX);
                servers.push(server.ok_or_else(|| anyhow::anyhow!("a packet ended with {}", tray.action))?);
            }
        }
        Ok(servers)
    }
}

/// "IPv4" or "IPv6".
pub fn family(vip: IpAddr) -> &'static str {
    if vip.is_ipv4() { "IPv4" } else { "IPv6" }
}
