//! What can go wrong between lbx and the kernel's BPF.

use std::{io, path::Path};

use aya::{EbpfError, maps::MapError, pin::PinError, programs::ProgramError};

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

/// Maps the error of a map operation, naming the map.
pub(super) fn map_failed(map: &'static str) -> impl Fn(MapError) -> DataplaneError {
    move |source| DataplaneError::Map { map, source }
}

/// Maps the error of making a pin, naming its path.
pub(super) fn pin_failed(path: &Path) -> impl FnOnce(PinError) -> DataplaneError {
    let path = path.display().to_string();
    |source| DataplaneError::Pin { path, source }
}

/// The error of a file operation, naming its path.
pub(super) fn file_failed(path: &Path, source: io::Error) -> DataplaneError {
    DataplaneError::File {
        path: path.display().to_string(),
        source,
    }
}
