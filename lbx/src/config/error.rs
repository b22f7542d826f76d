//! What is wrong with a configuration, and where.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::limits;

/// A configuration that is refused.
///
/// Its text is a line for each mistake, `FILE:LINE:COLUMN: FIELD: what is wrong: what was expected`, without the parts
/// that do not apply: a file that cannot be read has no line, a syntax error no field. Beyond fifty lines
/// the last one says how many there are besides.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file, as it was named.
    pub file: PathBuf,
    /// What is wrong inside it, in the order of the file; never empty.
    pub faults: Vec<Fault>,
}

impl ConfigError {
    pub(super) fn new(file: &Path, faults: impl Into<Faults>) -> Self {
        let Faults(mut faults) = faults.into();
        // Stable: what is wrong with one value stays in the order in which it was found.
        faults.sort_by_key(|fault| fault.position);
        Self {
            file: file.to_owned(),
            faults,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        for (index, fault) in self.faults.iter().take(limits::FAULTS).enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{file}:{fault}")?;
        }
        match self.faults.len().saturating_sub(limits::FAULTS) {
            0 => Ok(()),
            more => write!(f, "\n{file}: and {more} more"),
        }
    }
}

/// All that is wrong with a part of a file.
///
/// Empty where the reason is reported elsewhere: a field may be missing only because its name is misspelled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    /// Adds what is wrong with another part.
    pub(super) fn add(&mut self, others: impl Into<Self>) {
        self.0.append(&mut others.into().0);
    }

    /// The value of a part; what is wrong with it is added instead.
    pub(super) fn take<T>(&mut self, part: Result<T, impl Into<Self>>) -> Option<T> {
        part.map_err(|faults| self.add(faults)).ok()
    }

    /// The value, if nothing is wrong.
    pub(super) fn or<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

/// Parts that are read independently of each other: a tuple of results.
pub(super) trait Parts {
    /// The tuple of their values.
    type Values;

    /// The values of all parts, or all that is wrong with any of them.
    fn all(self) -> Result<Self::Values, Faults>;
}

macro_rules! parts {
    ($($value:ident $error:ident),+) => {
        impl<$($value, $error: Into<Faults>),+> Parts for ($(Result<$value, $error>,)+) {
            type Values = ($($value,)+);

            #[expect(non_snake_case, reason = "the parts are named like their types")]
            fn all(self) -> Result<Self::Values, Faults> {
                let ($($value,)+) = self;
                let mut faults = Faults::default();
                $(let $value = faults.take($value);)+
                match ($($value,)+) {
                    ($(Some($value),)+) => Ok(($($value,)+)),
                    _ => Err(faults),
                }
            }
        }
    };
}

parts!(A E, B F);
parts!(A E, B F, C G);
parts!(A E, B F, C G, D H);
parts!(A E, B F, C G, D H, I N);
parts!(A E, B F, C G, D H, I N, J O);
parts!(A E, B F, C G, D H, I N, J O, K P);
parts!(A E, B F, C G, D H, I N, J O, K P, L Q);
parts!(A E, B F, C G, D H, I N, J O, K P, L Q, M R);

/// What is wrong inside a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where the value, the unknown field or the mapping with the missing field begins.
    pub position: Option<Position>,
    /// Path of the field, such as `services[0].port`; empty for the whole file.
    pub field: String,
    /// What is wrong, and what was expected.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Position { line, column }) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        if !self.field.is_empty() {
            write!(f, " {}:", self.field)?;
        }
        write!(f, " {}", self.message)
    }
}

/// A place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
}

impl Position {
    /// The place that follows a text.
    pub(super) fn after(text: &str) -> Self {
        let last = text.rsplit('\n').next().unwrap_or_default();
        Self {
            line: text.matches('\n').count() as u64 + 1,
            column: last.chars().count() as u64 + 1,
        }
    }
}

impl From<serde_yaml::Location> for Position {
    fn from(location: serde_yaml::Location) -> Self {
        // An unknown location is 0:0; nothing in a file lies before its start.
        Self {
            line: location.line().max(1),
            column: location.column().max(1),
        }
    }
}
