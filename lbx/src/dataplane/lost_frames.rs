//! Frames that the kernel or a driver drops after the program's verdict: counted by programs on tracepoints.

use aya::programs::{ProgramError, TracePoint};
use lbx_common::{
    lost_frames::LostFrameKind,
    maps::{LOST_FRAME_PROGRAMS, LOST_FRAMES},
};

use super::{Dataplane, DataplaneError, error::map_failed, object};

/// The group of the tracepoints.
const GROUP: &str = "xdp";

impl Dataplane {
    /// Counts lost frames from now on, as long as this process lives.
    ///
    /// # Errors
    /// The kernel refuses, or tracefs is not mounted.
    pub fn count_lost_frames(&mut self) -> Result<(), DataplaneError> {
        for (name, tracepoint) in LOST_FRAME_PROGRAMS {
            let program = self.program.program_mut(name).ok_or(DataplaneError::NoProgram)?;
            let program: &mut TracePoint = program.try_into()?;
            object::with_signals_blocked(|| -> Result<(), ProgramError> {
                if program.fd().is_err() {
                    program.load()?;
                }
                program.attach(GROUP, tracepoint).map(drop)
            })?;
        }
        Ok(())
    }

    /// The frames of this director's program that were lost, since the maps were made.
    ///
    /// # Errors
    /// The map, or the program, cannot be read.
    pub fn lost_frames(&self) -> Result<Vec<(LostFrameKind, u64)>, DataplaneError> {
        let usual = self.program()?.info()?.id();
        let is_ours = |program| program == usual || Some(program) == self.tracing_program;
        let mut lost = Vec::new();
        for entry in self.maps.lost_frames.iter() {
            let (kind, frames) = entry.map_err(map_failed(LOST_FRAMES))?;
            if is_ours(kind.program) {
                lost.push((kind, frames));
            }
        }
        Ok(lost)
    }
}
