//! Loaded programs, each with tables of its own.

use std::path::Path;

use anyhow::Result;
use aya::{Ebpf, programs::ProgramFd};
use lbx_bench_common::FLOOR;

use crate::{lbx_program::Lbx, program::Program, prologue, reference::Reference, tables::Tables};

/// A loaded program.
pub enum LoadedProgram {
    /// See [`Program::Floor`].
    Floor(ProgramFd),
    /// See [`Program::Reference`].
    Reference(Reference),
    /// See [`Program::Lbx`].
    Lbx(Box<Lbx>),
}

impl LoadedProgram {
    /// Loads a program and fills its tables, flows excepted.
    ///
    /// # Errors
    /// The kernel refuses an object or a table entry.
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
    /// The program is not loaded.
    pub fn program(&self) -> Result<ProgramFd> {
        Ok(match self {
            Self::Floor(program) => program,
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
            Self::Floor(_) => Ok(None),
            Self::Reference(reference) => reference.forwarded().map(Some),
            Self::Lbx(lbx) => lbx.forwarded().map(Some),
        }
    }

    /// Number of flows without an entry, of `flows`.
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

    /// Opens the windows of all slots.
    ///
    /// # Errors
    /// The kernel refuses an object or a table entry.
    pub fn open_windows(&mut self) -> Result<()> {
        match self {
            Self::Lbx(lbx) => lbx.replace_all_servers(),
            Self::Floor(_) | Self::Reference(_) => Ok(()),
        }
    }
}

/// Paths of the BPF objects of the bench.
#[derive(Clone, Copy)]
pub struct Objects<'p> {
    /// Prologue and floor.
    pub prologue: &'p Path,
    /// The reference.
    pub reference: &'p Path,
}
