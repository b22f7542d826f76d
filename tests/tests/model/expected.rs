//! What a client may expect of its flow: the promise, kept by a model that knows nothing of slots and records.

use lbx::desired::Timeouts;
use lbx_common::flow::elapsed_ticks;

/// Idle timeouts in ticks: rounded up, so that none is shorter than asked.
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    half_open: u32,
    established: u32,
    closing: u32,
    closed: u32,
    udp: u32,
}

impl Ticks {
    pub fn of(timeouts: &Timeouts) -> Self {
        Self {
            half_open: ticks(timeouts.half_open_seconds),
            established: ticks(timeouts.established_seconds),
            closing: ticks(timeouts.closing_seconds),
            closed: ticks(timeouts.closed_seconds),
            udp: ticks(timeouts.udp_seconds),
        }
    }

    /// The shorter of each.
    pub fn shorter(self, other: Self) -> Self {
        Self {
            half_open: self.half_open.min(other.half_open),
            established: self.established.min(other.established),
            closing: self.closing.min(other.closing),
            closed: self.closed.min(other.closed),
            udp: self.udp.min(other.udp),
        }
    }

    pub fn half_open(self) -> u32 {
        self.half_open
    }
}

/// Seconds in ticks of 2^30 ns.
pub fn ticks(seconds: u16) -> u32 {
    (u64::from(seconds) * 1_000_000_000).div_ceil(1 << 30) as u32
}

/// What a packet says about its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Open,
    Data,
    Finish,
    Reset,
    /// SYN and ACK: no client says so.
    Odd,
    Datagram,
    /// Not of the flow, but about it.
    Mention,
}

/// How far a flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    HalfOpen,
    /// A packet of a connection whose beginning nobody saw.
    Adopted,
    Established,
    /// FIN or RST at this tick: it may have been forged.
    Ended {
        at: u32,
        reset: bool,
    },
    Udp,
}

/// A flow whose next packets are to go where the last one outcome.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    pub service: usize,
    pub server: u8,
    pub phase: Phase,
    /// When it was last active.
    pub last: u32,
    /// The shortest timeouts since.
    pub timeouts: Ticks,
    /// Whether it has a record: asked only where not every flow can have one.
    pub recorded: bool,
    /// Whether that record may not be taken from it.
    pub firm: bool,
}

impl Expected {
    /// Whether it was active within the idle timeout.
    pub fn lives(&self, now: u32) -> bool {
        let idle = elapsed_ticks(self.last, now);
        match self.phase {
            Phase::HalfOpen => idle <= self.timeouts.half_open,
            Phase::Adopted | Phase::Established => idle <= self.timeouts.established,
            Phase::Ended { at, reset } => {
                let timeout = if reset {
                    self.timeouts.closed
                } else {
                    self.timeouts.closing
                };
                idle <= self.timeouts.established && elapsed_ticks(at, now) <= timeout
            }
            Phase::Udp => idle <= self.timeouts.udp,
        }
    }

    /// What the client may expect after another packet of a flow that lives.
    pub fn after(self, signal: Signal, now: u32, timeouts: Ticks) -> Self {
        let phase = match (signal, self.phase) {
            (Signal::Odd | Signal::Mention, _) => return self,
            (Signal::Finish, _) => return self.ended(now, false),
            (Signal::Reset, _) => return self.ended(now, true),
            // The last ACK of an orderly close, or the flow lives: a later one shows.
            (Signal::Data, Phase::Ended { at, reset: false }) if elapsed_ticks(at, now) < 2 => {
                return Self { last: now, ..self };
            }
            (Signal::Data, Phase::Adopted) => Phase::Adopted,
            (Signal::Data, _) => Phase::Established,
            (Signal::Open, _) => Phase::HalfOpen,
            (Signal::Datagram, _) => Phase::Udp,
        };
        Self {
            phase,
            last: now,
            timeouts,
            ..self
        }
    }

    fn ended(self, at: u32, reset: bool) -> Self {
        Self {
            phase: Phase::Ended { at, reset },
            ..self
        }
    }
}
