//! The kernel side: the program, its maps, pins and links. The only code that touches BPF.
//!
//! - [`object`]: the program as it was built into this binary, loaded with its constants
//! - [`pins`]: where programs, maps and links outlive the daemon
//! - [`maps`]: typed handles, opened from the pins, their shapes checked first
//! - [`mapped`]: maps shared with the kernel as plain words
//! - [`attach`]: links to NICs; `pinned_link`: what aya lacks for pinned links
//! - `traffic_control`: how programs of tc are attached; `vip_drop`: VIPs of a NIC that changes its mode
//! - `cleanup`: removal of every kind of pin
//! - [`local`]: local traffic of the director to VIPs: probes, and connections to its own VIPs
//! - `lost_frames`: frames dropped after the verdict; `host_packets`: packets for services that reach the host's stack
//! - [`apply`]: the writes of a plan
//! - [`read`]: tables, counters and flows read back; [`test_frame`]: frames of the self-test
//! - [`memory`]: memory of the maps
//! - [`clock`]: the present tick

pub mod apply;
pub mod attach;
mod cleanup;
pub mod clock;
mod error;
mod host_packets;
pub mod local;
mod lost_frames;
pub mod mapped;
pub mod maps;
pub mod memory;
pub mod object;
mod pinned_link;
pub mod pins;
pub mod read;
pub mod test_frame;
pub mod traffic_control;
mod vip_drop;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use aya::{Ebpf, programs::tc::SchedClassifierLink};
use lbx_common::maps::AdoptionInfo;

pub use self::error::DataplaneError;

use self::{local::probes::ProbeSessions, maps::Maps, object::ProgramConstants, pins::Pins};
use crate::desired::TableSizes;

/// The data plane of one director.
pub struct Dataplane {
    /// The program without tracing; what NICs run unless a trace is on.
    program: Ebpf,
    maps: Maps,
    pins: Pins,
    constants: ProgramConstants,
    adopted: bool,
    /// The NICs whose links this daemon made or adopted.
    links: BTreeSet<u32>,
    /// The id of the program that NICs run while a trace is on.
    tracing_program: Option<u32>,
    /// The devices whose egress program this daemon attached or adopted.
    egress: BTreeSet<u32>,
    /// The NICs that change their XDP mode at this moment.
    vip_drops: BTreeMap<u32, SchedClassifierLink>,
    /// The devices on which packets for services are counted that they pass to the host's stack.
    host_packets: BTreeMap<u32, SchedClassifierLink>,
    /// Whether the links of the programs on sockets are this daemon's.
    hooks: bool,
    probes: Arc<ProbeSessions>,
}

impl Dataplane {
    /// Opens the data plane of a name: adopts the maps of a former daemon, or creates new ones of these sizes. No NIC is
    /// touched yet.
    ///
    /// # Errors
    /// The kernel refuses the program, or the existing maps cannot be adopted.
    pub fn open(name: &str, sizes: TableSizes) -> Result<Self, DataplaneError> {
        Self::open_as(name, ProgramConstants::with_random_seed(sizes))
    }

    /// The same for tests: the program takes the time that [`Dataplane::set_test_clock`] sets.
    ///
    /// # Errors
    /// See [`Dataplane::open`].
    pub fn open_with_test_clock(name: &str, sizes: TableSizes) -> Result<Self, DataplaneError> {
        let constants = ProgramConstants {
            test_clock: true,
            ..ProgramConstants::with_random_seed(sizes)
        };
        Self::open_as(name, constants)
    }

    fn open_as(name: &str, wanted: ProgramConstants) -> Result<Self, DataplaneError> {
        let pins = Pins::open(name)?;
        let adopted = maps::are_adoptable(&pins)?;
        if !adopted {
            cleanup::remove_all(&pins)?;
        }
        pins.create_dir()?;
        match Self::load(&pins, adopted, wanted) {
            Ok(dataplane) => Ok(dataplane),
            Err(error) => {
                if !adopted {
                    cleanup::remove_all(&pins)?;
                }
                Err(error)
            }
        }
    }

    fn load(pins: &Pins, adopted: bool, wanted: ProgramConstants) -> Result<Self, DataplaneError> {
        let constants = if adopted {
            maps::check_shapes(pins)?;
            ProgramConstants {
                seed: maps::read_meta(pins)?.seed,
                sizes: maps::sizes(pins)?,
                ..wanted
            }
        } else {
            wanted
        };
        let mut program = object::load(pins, &constants, false)?;
        let mut maps = Maps::open(pins)?;
        pins.repin_program(object::xdp_mut(&mut program)?)?;
        if !adopted {
            maps.write_meta(AdoptionInfo {
                seed: constants.seed,
                ready: 1,
            })?;
        }
        pins.restore()?;
        Ok(Self {
            program,
            maps,
            pins: pins.clone(),
            constants,
            adopted,
            links: BTreeSet::new(),
            tracing_program: None,
            egress: BTreeSet::new(),
            vip_drops: BTreeMap::new(),
            host_packets: BTreeMap::new(),
            hooks: false,
            probes: Arc::new(ProbeSessions::open(pins)?),
        })
    }

    /// The sizes the tables were created with.
    #[must_use]
    pub fn sizes(&self) -> TableSizes {
        self.constants.sizes
    }

    /// Whether the maps were adopted.
    #[must_use]
    pub fn has_adopted_maps(&self) -> bool {
        self.adopted
    }

    /// Steers sockets of probes to the VIP on one real server, from any thread. See [`Dataplane::reconcile_egress_programs`].
    #[must_use]
    pub fn probe_sessions(&self) -> Arc<ProbeSessions> {
        Arc::clone(&self.probes)
    }

    /// The program, for test runs.
    ///
    /// # Errors
    /// The object holds no such program.
    pub fn program(&self) -> Result<&aya::programs::Xdp, DataplaneError> {
        object::xdp(&self.program)
    }

    /// Detaches from every NIC and removes all pins.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn detach_and_unpin(mut self) -> Result<(), DataplaneError> {
        self.stop_dropping_vip_packets();
        self.pins.restore()?;
        cleanup::remove_all(&self.pins)
    }
}
