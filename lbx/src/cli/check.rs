//! `lbx check`: validates the configuration and touches nothing.

use clap::Args;

use super::Global;
use crate::exit::Failure;

/// Arguments of `lbx check`.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Reads and validates the file, and says what it describes.
pub fn run(_global: &Global, _arguments: Arguments) -> Result<(), Failure> {
    Ok(())
}
