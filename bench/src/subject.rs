//! The programs under test, each with tables of its own.

use std::{fmt, path::Path};

use anyhow::Result;
use aya::{Ebpf, programs::ProgramFd};
use lbx::desired::Protocol;
use lbx_bench_common::FLOOR;

use crate::{
    lbx_program::Lbx,
    prologue,
    reference::Reference,
    traffic::{Ip, Packet},
};

/// How lbx chooses real servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Hash of client address and port.
    Maglev,
    /// Hash of the client's address.
    Sh,
    /// In turn; every flow has a record.
    Rr,
    /// By the number of connections; every flow has a record.
    Wlc,
    /// In turn, and connections of a client stay together; every flow has a record, and every client.
    Persistent,
}

/// A program under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// Bounds check, MAC addresses swapped, back out.
    Floor,
    /// The rival: service hash and LRU hash of flows.
    Reference,
    /// lbx, all slots at rest.
    Lbx(Mode),
    /// lbx after every real server has been replaced: all slots in their windows.
    InWindow(Mode),
}

impl Program {
    /// Whether every flow has an entry in some table.
    pub const fn records(self) -> bool {
        match self {
            Self::Floor | Self::Lbx(Mode::Maglev | Mode::Sh) => false,
            Self::Reference | Self::InWindow(_) | Self::Lbx(Mode::Rr | Mode::Wlc | Mode::Persistent) => true,
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mode, window) = match self {
            Self::Floor => return f.write_str("floor"),
            Self::Reference => return f.write_str("reference"),
            Self::Lbx(mode) => (mode, ""),
            Self::InWindow(mode) => (mode, " in a window"),
        };
        let mode = match mode {
            Mode::Maglev => "maglev",
            Mode::Sh => "sh",
            Mode::Rr => "rr",
            Mode::Wlc => "wlc",
            Mode::Persistent => "rr, persistent",
        };
        write!(f, "lbx {mode}{window}")
    }
}

/// What a program has in its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tables {
    /// Whose VIPs and flows.
    pub ip: Ip,
    /// Whose services.
    pub protocol: Protocol,
    /// How many services.
    pub services: u32,
    /// Flows that there is room for at half load; as many are there before anything is measured.
    pub flows: u32,
    /// Whether clients and real servers are in a VLAN.
    pub tagged: bool,
    /// Not to be shared with other traffic than floods of this.
    pub apart: Option<Packet>,
}

impl Tables {
    /// Real servers of each service.
    pub const fn servers(&self) -> u32 {
        if self.services > 1_000 { 4 } else { 8 }
    }

    /// Slots, or ring entries, of each service.
    pub const fn slots(&self) -> u32 {
        if self.services > 1_000 { 251 } else { 1_021 }
    }
}

/// MAC address of a real server.
pub fn mac(server: u32) -> [u8; 6] {
    let [a, b, c, d] = server.to_be_bytes();
    [2, 1, a, b, c, d]
}

/// A loaded program.
pub enum Subject {
    /// See [`Program::Floor`].
    Floor(ProgramFd),
    /// See [`Program::Reference`].
    Reference(Reference),
    /// See [`Program::Lbx`].
    Lbx(Box<Lbx>),
}

impl Subject {
    /// Loads a program and fills its tables, flows excepted.
    ///
    /// # Errors
    /// The kernel refuses something.
    pub fn load(program: Program, tables: &Tables, objects: &Objects<'_>) -> Result<Self> {
        Ok(match program {
            Program::Floor => {
                let mut ebpf = Ebpf::load_file(objects.prologue)?;
                Self::Floor(prologue::load(&mut ebpf, FLOOR)?)
            }
            Program::Reference => Self::Reference(Reference::load(objects.reference, tables)?),
            Program::Lbx(mode) | Program::InWindow(mode) => Self::Lbx(Box::new(Lbx::open(mode, tables)?)),
        })
    }

    /// The program.
    ///
    /// # Errors
    /// It is not loaded.
    pub fn program(&self) -> Result<ProgramFd> {
        Ok(match self {
            Self::Floor(program) => program,
            Self::Reference(reference) => reference.program(),
            Self::Lbx(lbx) => lbx.program()?,
        }
        .try_clone()?)
    }

    /// How many packets it has sent on; the floor does not count.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn forwarded(&self) -> Result<Option<u64>> {
        match self {
            Self::Floor(_) => Ok(None),
            Self::Reference(reference) => reference.forwarded().map(Some),
            Self::Lbx(lbx) => lbx.forwarded().map(Some),
        }
    }

    /// Of so many flows, how many have no entry.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn missing(&self, flows: u32) -> Result<u64> {
        let flows = u64::from(flows);
        match self {
            Self::Floor(_) => Ok(0),
            Self::Reference(reference) => Ok(reference.misses()?.saturating_sub(flows)),
            Self::Lbx(lbx) => Ok(flows.saturating_sub(lbx.records())),
        }
    }

    /// Puts all slots in their windows.
    ///
    /// # Errors
    /// The kernel refuses something.
    pub fn open_windows(&mut self) -> Result<()> {
        match self {
            Self::Lbx(lbx) => lbx.replace_servers(),
            Self::Floor(_) | Self::Reference(_) => Ok(()),
        }
    }
}

/// Where the BPF programs of the bench are.
#[derive(Clone, Copy)]
pub struct Objects<'p> {
    /// Prologue and floor.
    pub prologue: &'p Path,
    /// The reference.
    pub reference: &'p Path,
}
