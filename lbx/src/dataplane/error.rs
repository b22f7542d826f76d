//! Errors of the data plane.

use std::{io, path::Path};

use aya::{EbpfError, maps::MapError, pin::PinError, programs::ProgramError};

/// An error of the data plane.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The binary was built without the XDP program.
    #[error("this lbx was built without the XDP program: build it with `cargo xtask build`")]
    NoProgram,
    /// The kernel refused program or maps.
    #[error("cannot load the BPF object or create its maps")]
    Load(#[from] EbpfError),
    /// A map operation failed.
    #[error("access to BPF map {map} failed")]
    Map {
        /// Its name.
        map: &'static str,
        /// Why.
        #[source]
        source: MapError,
    },
    /// A map could not be mapped into memory.
    #[error("BPF map {map} cannot be mapped into memory")]
    Mmap {
        /// Its name.
        map: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A pinned map is not what this version expects.
    #[error(
        "cannot adopt {path}: its {what} is {found}, this lbx needs {expected}: start and stop the lbx version that made it, or remove its directory, which ends forwarding"
    )]
    MapMismatch {
        /// The pin.
        path: String,
        /// Type, key size, value size or number of entries.
        what: &'static str,
        /// As found.
        found: String,
        /// As needed.
        expected: String,
    },
    /// The file system for pins is missing.
    #[error("cannot mount bpffs at {path}: mount it (mount -t bpf bpf {path})")]
    NoBpffs {
        /// Where.
        path: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Pins of another layout are there.
    #[error(
        "{path} was left by an lbx version with another map layout: start and stop that version, or remove the directory, which ends its forwarding"
    )]
    OtherVersion {
        /// The directory.
        path: String,
    },
    /// More NICs than the map has entries.
    #[error(
        "too many NICs and VLANs: lbx serves {} at most, bond members included",
        lbx_common::maps::MAX_NICS
    )]
    TooManyNics,
    /// The kernel refuses to load, attach, replace or pin a program.
    #[error("loading, attaching or replacing a BPF program failed")]
    Program(#[from] ProgramError),
    /// A pin could not be made.
    #[error("cannot pin {path}")]
    Pin {
        /// Where.
        path: String,
        /// Why.
        #[source]
        source: PinError,
    },
    /// A file or pin cannot be made, read, changed or removed.
    #[error("cannot {action} {path}")]
    File {
        /// What was to be done, as a verb.
        action: &'static str,
        /// Where.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Maps the error of a map operation, naming the map.
pub(super) fn map_failed(map: &'static str) -> impl Fn(MapError) -> DataplaneError {
    move |source| DataplaneError::Map { map, source }
}

/// Maps the error of making a pin, naming its path.
pub(super) fn pin_failed(path: &Path) -> impl FnOnce(PinError) -> DataplaneError {
    let path = path.display().to_string();
    |source| DataplaneError::Pin { path, source }
}

/// Maps the error of what was to be done with a file or pin, naming both.
pub(super) fn file_failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> DataplaneError {
    let path = path.display().to_string();
    move |source| DataplaneError::File {
        action,
        path: path.clone(),
        source,
    }
}
