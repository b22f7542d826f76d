//! `lbx realserver`: makes this host a real server.

use clap::Args;

use super::Global;
use crate::exit::Failure;

/// Arguments of `lbx realserver`.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Applies the rules and keeps them.
pub async fn run(_global: &Global, _arguments: Arguments) -> Result<(), Failure> {
    Ok(())
}
