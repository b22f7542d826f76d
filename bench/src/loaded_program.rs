//! Loaded programs, each with tables of its own.

use std::path::Path;

use anyhow::Result;
use aya::{Ebpf, programs::ProgramFd};
use lbx_bench_common::FLOOR;

use crate::{
    lbx_program::LbxProgram, packet_generator, program::Program, reference::ReferenceProgram, tables::TableContents,
};

/// A loaded program.
pub enum LoadedProgram {
    /// See [`Program::MacSwap`].
    MacSwap(ProgramFd),
    /// See [`Program::Reference`].
    Reference(ReferenceProgram),
    /// See [`Program::Lbx`].
    Lbx(Box<LbxProgram>),
}

impl LoadedProgram {
    /// Loads a program and fills its tables, flows excepted.
    ///
    /// # Errors
    /// The kernel refuses an object or a table entry.
    pub fn load(program: Program, tables: &TableContents, objects: &BpfObjectPaths<'_>) -> Result<Self> {
        Ok(match program {
            Program::MacSwap => {
                let mut ebpf = Ebpf::load_file(objects.packet_generator)?;
                Self::MacSwap(packet_generator::load(&mut ebpf, FLOOR)?)
            }
            Program::Reference => Self::Reference(ReferenceProgram::load(objects.reference, tables)?),
            Program::Lbx(mode) | Program::LbxInWindow(mode) => Self::Lbx(Box::new(LbxProgram::open(mode, tables)?)),
        })
    }

    /// The program.
    ///
    /// # Errors
    /// The program is not loaded.
    pub fn program(&self) -> Result<ProgramFd> {
        Ok(match self {
            Self::MacSwap(program) => program,
            Self::Reference(reference) => reference.program(),
            Self::Lbx(lbx) => lbx.program()?,
        }
        .try_clone()?)
    }

    /// Number of packets it has forwarded; the floor does not count.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn forwarded(&self) -> Result<Option<u64>> {
        match self {
            Self::MacSwap(_) => Ok(None),
            Self::Reference(reference) => reference.forwarded().map(Some),
            Self::Lbx(lbx) => lbx.forwarded().map(Some),
        }
    }

    /// Number of flows without an entry, of `flows`.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn unrecorded_flows(&self, flows: u32) -> Result<u64> {
        let flows = u64::from(flows);
        match self {
            Self::MacSwap(_) => Ok(0),
            Self::Reference(reference) => Ok(reference.misses()?.saturating_sub(flows)),
            Self::Lbx(lbx) => Ok(flows.saturating_sub(lbx.live_records())),
        }
    }

    /// Opens the windows of all slots.
    ///
    /// # Errors
    /// The kernel refuses an object or a table entry.
    pub fn open_windows(&mut self) -> Result<()> {
        match self {
            Self::Lbx(lbx) => lbx.replace_all_servers(),
            Self::MacSwap(_) | Self::Reference(_) => Ok(()),
        }
    }
}

/// Paths of the BPF objects of the bench.
#[derive(Clone, Copy)]
pub struct BpfObjectPaths<'p> {
    /// Prologue and floor.
    pub packet_generator: &'p Path,
    /// The reference.
    pub reference: &'p Path,
}
