//! The host's side of the program stress_xdp (tests/ebpf): thousands of frames through the program in one system call.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader, TestRun as _, TestRunOptions,
    maps::{MapData, ProgramArray},
    programs::Xdp,
};
use lbx_tests_ebpf::{CAPACITY, COUNT, FRAMES, FrameBuffer, MAX_FRAME, PROGRAM, PROGRESS, Progress, TESTED};

use crate::memory::Memory;

/// Names an object elsewhere.
const OBJECT: &str = "LBX_STRESS_XDP_OBJECT";

/// Where the object is.
pub fn object() -> PathBuf {
    env::var_os(OBJECT).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/stress_xdp.bpf.o"),
        PathBuf::from,
    )
}

/// The program stress_xdp on one thread.
pub struct StressXdp {
    ebpf: Ebpf,
    trays: Memory<FrameBuffer>,
    progress: Memory<Progress>,
    filled: usize,
    // The kernel calls nobody once it is closed.
    _tested: ProgramArray<MapData>,
}

impl StressXdp {
    /// The program stress_xdp that calls this program.
    pub fn load(tested: &Xdp) -> Result<Self> {
        let object = object();
        let mut ebpf = EbpfLoader::new()
            .load_file(&object)
            .with_context(|| format!("cannot load {}; `cargo xtask build-ebpf` builds it", object.display()))?;
        let program: &mut Xdp = ebpf
            .program_mut(PROGRAM)
            .context("the object has no program stress_xdp")?
            .try_into()?;
        program.load()?;
        let mut slot: ProgramArray<MapData> = ebpf.take_map(TESTED).context("no slot")?.try_into()?;
        slot.set(0, tested.fd()?, 0)?;
        Ok(Self {
            trays: memory(&ebpf, FRAMES)?,
            progress: memory(&ebpf, PROGRESS)?,
            filled: 0,
            ebpf,
            _tested: slot,
        })
    }

    /// Frames it still has room for.
    pub fn room(&self) -> usize {
        COUNT - self.filled
    }

    /// The next tray, to be filled.
    pub fn tray(&mut self) -> &mut FrameBuffer {
        let tray = &mut self.trays[self.filled];
        self.filled += 1;
        tray
    }

    /// Takes a frame to be run.
    pub fn put(&mut self, frame: &[u8]) {
        assert!(frame.len() <= MAX_FRAME, "a frame of {} bytes", frame.len());
        let tray = self.tray();
        tray.length = frame.len() as u32;
        tray.bytes[..frame.len()].copy_from_slice(frame);
    }

    /// Runs all frames in their order, and gives them back as the program has left them.
    pub fn run(&mut self) -> Result<&[FrameBuffer]> {
        let count = std::mem::take(&mut self.filled);
        if count == 0 {
            return Ok(&[]);
        }
        self.progress[0] = Progress {
            filled: count as u32,
            done: 0,
        };
        let stress_xdp: &Xdp = self
            .ebpf
            .program(PROGRAM)
            .context("the object has no program stress_xdp")?
            .try_into()?;
        let mut done = 0;
        while done < count {
            stress_xdp
                .test_run(TestRunOptions {
                    data_in: Some(&[0; CAPACITY]),
                    ..TestRunOptions::default()
                })
                .context("the kernel does not run stress_xdp")?;
            let before = std::mem::replace(&mut done, self.progress[0].done as usize);
            ensure!(done > before, "stress_xdp ran {done} of {count} frames");
        }
        Ok(&self.trays[..count])
    }
}

fn memory<T: Copy>(ebpf: &Ebpf, name: &str) -> Result<Memory<T>> {
    let map: &aya::maps::Map = ebpf.map(name).with_context(|| format!("the object has no {name}"))?;
    match map {
        aya::maps::Map::Array(data) => Memory::of(data),
        _ => anyhow::bail!("{name} is no array"),
    }
}
