//! What is wrong with a configuration, and where.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// A configuration that is refused.
///
/// Its text is one line, `FILE:LINE:COLUMN: FIELD: what is wrong: what was expected`, without the parts that do not
/// apply: a file that cannot be read has no line, a syntax error no field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{fault}", file.display())]
pub struct ConfigError {
    /// The file, as it was named.
    pub file: PathBuf,
    /// What is wrong inside it.
    pub fault: Fault,
}

impl ConfigError {
    pub(super) fn new(file: &Path, fault: Fault) -> Self {
        Self {
            file: file.to_owned(),
            fault,
        }
    }
}

/// What is wrong inside a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where the value, the unknown field or the mapping with the missing field begins.
    pub place: Option<Place>,
    /// Path of the field, such as `services[0].port`; empty for the whole file.
    pub field: String,
    /// What is wrong, and what was expected.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Place { line, column }) = self.place {
            write!(f, "{line}:{column}:")?;
        }
        if !self.field.is_empty() {
            write!(f, " {}:", self.field)?;
        }
        write!(f, " {}", self.message)
    }
}

/// A place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
}

impl Place {
    /// The place that follows a text.
    pub(super) fn after(text: &str) -> Self {
        let last = text.rsplit('\n').next().unwrap_or_default();
        Self {
            line: text.matches('\n').count() as u64 + 1,
            column: last.chars().count() as u64 + 1,
        }
    }
}

impl From<serde_yaml::Location> for Place {
    fn from(location: serde_yaml::Location) -> Self {
        // An unknown location is 0:0; nothing in a file lies before its start.
        Self {
            line: location.line().max(1),
            column: location.column().max(1),
        }
    }
}
