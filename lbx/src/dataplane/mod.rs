//! The kernel side: the program, its maps, pins and links. The only code that touches BPF.
//!
//! - [`object`]: the program as it was built into this binary, loaded with its constants
//! - [`pins`]: where programs, maps and links outlive the daemon
//! - [`maps`]: typed handles, opened from the pins, their shapes checked first
//! - [`mapped`]: maps shared with the kernel as plain words
//! - [`attach`]: links to NICs; `link_info`: which NIC a link really leads to
//! - [`local`]: what the director itself sends to VIPs: probes, and connections to its own
//! - [`apply`]: the writes of a plan
//! - [`read`]: tables, counters and flows read back
//! - [`memory`]: what the maps take
//! - [`clock`]: the tick it is now

pub mod apply;
pub mod attach;
pub mod clock;
mod link_info;
pub mod local;
pub mod mapped;
pub mod maps;
pub mod memory;
pub mod object;
pub mod pins;
pub mod read;

use std::{collections::BTreeSet, io, sync::Arc};

use aya::{Ebpf, EbpfError, maps::MapError, pin::PinError, programs::ProgramError};
use lbx_common::maps::Meta;

use self::{local::probes::Probes, maps::Maps, object::Constants, pins::Pins};
use crate::desired::TableSizes;

/// The data plane of one director.
pub struct Dataplane {
    /// The program without tracing; what NICs run unless someone is watching.
    program: Ebpf,
    maps: Maps,
    pins: Pins,
    constants: Constants,
    adopted: bool,
    /// The NICs whose links this daemon made or adopted.
    links: BTreeSet<u32>,
    /// The devices whose sending this daemon sees to.
    egress: BTreeSet<u32>,
    /// Whether the links of the programs on sockets are this daemon's.
    hooks: bool,
    probes: Arc<Probes>,
}

/// Why the data plane cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The binary was built without its kernel half.
    #[error("this lbx was built without the XDP program: build it with `cargo xtask build`")]
    NoProgram,
    /// The kernel refused program or maps.
    #[error("the kernel refused the XDP program")]
    Load(#[from] EbpfError),
    /// A map operation failed.
    #[error("map {map}")]
    Map {
        /// Its name.
        map: &'static str,
        /// Why.
        #[source]
        source: MapError,
    },
    /// A map could not be shared.
    #[error("map {map} cannot be mapped into memory")]
    Mmap {
        /// Its name.
        map: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A pinned map is not what this version expects.
    #[error(
        "cannot adopt {path}: its {what} is {found}, this lbx needs {expected}; stop the other lbx, or remove the folder"
    )]
    Shape {
        /// The pin.
        path: String,
        /// Type, key size, value size or number of entries.
        what: &'static str,
        /// As found.
        found: String,
        /// As needed.
        expected: String,
    },
    /// Pins of another layout are there.
    #[error("{path} was left by an lbx with another map layout: stop that one first, or remove the folder")]
    OtherVersion {
        /// The folder.
        path: String,
    },
    /// More NICs than the map has entries.
    #[error("too many NICs: lbx attaches to {} at most", lbx_common::maps::MAX_NICS)]
    TooManyNics,
    /// A program operation failed.
    #[error("XDP program")]
    Program(#[from] ProgramError),
    /// A pin could not be made.
    #[error("pin {path}")]
    Pin {
        /// Where.
        path: String,
        /// Why.
        #[source]
        source: PinError,
    },
    /// The file system of pins does not work as it should.
    #[error("{path}")]
    File {
        /// Where.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Dataplane {
    /// Opens the data plane of a name: adopts the maps a former daemon has left, or makes new ones of these sizes. No NIC is
    /// touched yet.
    ///
    /// # Errors
    /// The kernel refuses the program, or what was left cannot be adopted.
    pub fn open(name: &str, sizes: TableSizes) -> Result<Self, DataplaneError> {
        Self::open_as(name, Constants::random(sizes))
    }

    /// The same for tests: the program takes the time from where [`Dataplane::set_test_clock`] puts it.
    ///
    /// # Errors
    /// See [`Dataplane::open`].
    pub fn open_with_test_clock(name: &str, sizes: TableSizes) -> Result<Self, DataplaneError> {
        let constants = Constants {
            test_clock: true,
            ..Constants::random(sizes)
        };
        Self::open_as(name, constants)
    }

    fn open_as(name: &str, wanted: Constants) -> Result<Self, DataplaneError> {
        let pins = Pins::open(name)?;
        let adopted = pins.adoptable()?;
        if !adopted {
            pins.remove()?;
        }
        pins.create()?;
        match Self::load(&pins, adopted, wanted) {
            Ok(dataplane) => Ok(dataplane),
            Err(error) => {
                if !adopted {
                    pins.remove()?;
                }
                Err(error)
            }
        }
    }

    fn load(pins: &Pins, adopted: bool, wanted: Constants) -> Result<Self, DataplaneError> {
        let constants = if adopted {
            maps::check_shapes(pins)?;
            Constants {
                seed: maps::read_meta(pins)?.seed,
                sizes: maps::sizes(pins)?,
                ..wanted
            }
        } else {
            wanted
        };
        let mut program = object::load(pins, &constants, false)?;
        let mut maps = Maps::open(pins)?;
        pins.replace_program(object::xdp_mut(&mut program)?)?;
        if !adopted {
            maps.write_meta(Meta {
                seed: constants.seed,
                ready: 1,
            })?;
        }
        Ok(Self {
            program,
            maps,
            pins: pins.clone(),
            constants,
            adopted,
            links: BTreeSet::new(),
            egress: BTreeSet::new(),
            hooks: false,
            probes: Arc::new(Probes::open(pins)?),
        })
    }

    /// How large the tables are: as they were made.
    #[must_use]
    pub fn sizes(&self) -> TableSizes {
        self.constants.sizes
    }

    /// Whether the maps were there already.
    #[must_use]
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// Leads sockets of probes to the VIP on one real server, from any thread. See [`Dataplane::sync_egress`].
    #[must_use]
    pub fn probes(&self) -> Arc<Probes> {
        Arc::clone(&self.probes)
    }

    /// The program, for test runs.
    ///
    /// # Errors
    /// The object holds no such program.
    pub fn program(&self) -> Result<&aya::programs::Xdp, DataplaneError> {
        object::xdp(&self.program)
    }

    /// Detaches from every NIC and removes all pins: nothing stays.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn remove(self) -> Result<(), DataplaneError> {
        self.pins.remove()
    }
}
