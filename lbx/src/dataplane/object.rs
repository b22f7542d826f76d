//! The BPF object built into this binary, loaded with its constants.

use aya::{Ebpf, EbpfLoader, programs::Xdp};
use lbx_common::maps;
use nix::sys::signal::{SigSet, SigmaskHow};

use super::{
    DataplaneError,
    maps::{SHAPES, buckets4, buckets6},
    pins::Pins,
};
use crate::{desired::TableSizes, net::namespace_cookie};

/// The object file; empty in a binary that was built without the BPF toolchain.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lbx.bpf.o"));

/// Log level of aya-log that lets the trace through.
const LOG_INFO: u8 = 3;

/// What the program is loaded with, besides its maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramConstants {
    /// Seed of all bucket hashes.
    pub seed: u64,
    /// How large the tables are.
    pub sizes: TableSizes,
    /// Whether the time is taken from a map: for tests.
    pub test_clock: bool,
}

impl ProgramConstants {
    /// A new seed.
    #[must_use]
    pub fn with_random_seed(sizes: TableSizes) -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self {
            // RandomState is seeded by the operating system; one hash of it is a random word.
            seed: RandomState::new().hash_one(std::process::id()),
            sizes,
            test_clock: false,
        }
    }
}

/// Loads the program with the maps of a pin directory (making those that are not there yet). The object's other programs are
/// loaded when they are needed.
///
/// With `trace` it logs decisions through aya-log; without, the verifier removes all of that.
///
/// # Errors
/// This binary holds no program, or the kernel refuses it.
pub fn load(pins: &Pins, constants: &ProgramConstants, trace: bool) -> Result<Ebpf, DataplaneError> {
    if OBJECT.is_empty() {
        return Err(DataplaneError::NoProgram);
    }
    let sizes = &constants.sizes;
    let (mask4, mask6, port_mask) = (buckets4(sizes) - 1, buckets6(sizes) - 1, sizes.ports - 1);
    let (trace, level) = if trace { (1u8, LOG_INFO) } else { (0, 0) };
    let test_clock = u8::from(constants.test_clock);
    // Without it (before Linux 5.14) no socket is steered.
    let netns = namespace_cookie().unwrap_or(0);
    let mut loader = EbpfLoader::new();
    loader
        .override_global(maps::FLOW4_BUCKET_MASK, &mask4, true)
        .override_global(maps::FLOW6_BUCKET_MASK, &mask6, true)
        .override_global(maps::PORT_BUCKET_MASK, &port_mask, true)
        .override_global(maps::SEED, &constants.seed, true)
        .override_global(maps::NETNS_COOKIE, &netns, true)
        .override_global(maps::USE_TEST_CLOCK, &test_clock, true)
        .override_global(maps::TRACE_ENABLED, &trace, true)
        .override_global(aya_log::LEVEL, &level, true);
    for shape in &SHAPES {
        loader
            .map_max_entries(shape.name, shape.max_entries(sizes))
            .map_pin_path(shape.name, pins.map_path(shape.name));
    }
    let mut program = loader.load(OBJECT)?;
    with_signals_blocked(|| xdp_mut(&mut program)?.load().map_err(DataplaneError::from))?;
    Ok(program)
}

/// Runs a function with all signals blocked: the verifier returns EAGAIN where one is pending, and aya then loads again with
/// the whole verifier log, which takes seconds.
pub(super) fn with_signals_blocked<T>(what: impl FnOnce() -> T) -> T {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let result = what();
    if let Ok(before) = before {
        let _cannot_fail = before.thread_set_mask();
    }
    result
}

/// The XDP program of a loaded object.
///
/// # Errors
/// It holds no such program.
pub fn xdp(program: &Ebpf) -> Result<&Xdp, DataplaneError> {
    Ok(program
        .program(maps::XDP_PROGRAM)
        .ok_or(DataplaneError::NoProgram)?
        .try_into()?)
}

/// The XDP program of a loaded object, to attach it.
///
/// # Errors
/// It holds no such program.
pub fn xdp_mut(program: &mut Ebpf) -> Result<&mut Xdp, DataplaneError> {
    Ok(program
        .program_mut(maps::XDP_PROGRAM)
        .ok_or(DataplaneError::NoProgram)?
        .try_into()?)
}
